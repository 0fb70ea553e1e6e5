// The regions of one store as TiKV's raftstore has them: peers, epochs, splits, changes of peers, leaders.
// Thread-safe.
//
// There is no log and no vote. A leader tells its other peers of each change in the order in which it made
// them, over a stream that loses nothing; that is what a healthy Raft group comes to. Everything is reported
// to PD at once.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "errorpb.pb.h"
#include "kvrpcpb.pb.h"
#include "pdpb.pb.h"
#include "raft_serverpb.pb.h"

namespace keytrail::live {

struct RegionPeer {
  metapb::Region region;
  uint64_t peer_id = 0;
  uint64_t leader_id = 0;  // 0: nobody knows
  uint64_t term = 6;       // TiKV's first one is 5
  bool leads() const { return leader_id == peer_id; }
};

class StoreRegions {
 public:
  // Called with the lock held, in the order of what happened: they must only take note.
  struct Outlets {
    std::function<void(pdpb::RegionHeartbeatRequest)> report;
    std::function<void(uint64_t store_id, raft_serverpb::RaftMessage)> send;
  };
  StoreRegions(uint64_t store_id, Outlets outlets) : store_id_(store_id), outlets_(std::move(outlets)) {}

  void Lead(const metapb::Region& first, uint64_t peer_id);  // the region of a bootstrap

  // Halves: the new one on the left, as right-derive-when-split has it. Nothing if the region changed since
  // `before`.
  std::optional<std::vector<metapb::Region>> Split(const metapb::Region& before, const std::string& key,
                                                   const pdpb::SplitID& ids);
  void Obey(const pdpb::RegionHeartbeatResponse& command);  // of PD's
  void Receive(const raft_serverpb::RaftMessage& message);  // of another store's
  void ReportAll();
  std::vector<metapb::Region> Led() const;

  // What TiKV checks before it looks at a key: store, region, leader, peer, and of the epoch the version
  // alone. On success `region` is the region as it is now.
  std::optional<errorpb::Error> Check(const kvrpcpb::Context& context, metapb::Region& region) const;

 private:
  void Report(const RegionPeer& peer);
  void Tell(const RegionPeer& leader, const metapb::Peer& to, eraftpb::Message message);
  void ApplySplit(RegionPeer& peer, const std::string& key, const pdpb::SplitID& ids, RegionPeer& left);
  void ApplyChange(RegionPeer& peer, const metapb::Peer& changed, eraftpb::ConfChangeType type);
  void ChangePeer(RegionPeer& peer, const pdpb::ChangePeer& change);
  void TransferLeader(RegionPeer& peer, const metapb::Peer& to);
  void Apply(RegionPeer& peer, const eraftpb::Entry& entry);
  void AddSiblings(const RegionPeer& peer, uint64_t asked_version, errorpb::EpochNotMatch* error) const;

  const uint64_t store_id_;
  const Outlets outlets_;
  mutable std::mutex mutex_;
  std::map<uint64_t, RegionPeer> peers_;
};

}  // namespace keytrail::live
