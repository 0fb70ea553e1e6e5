#include "tests/live/store_regions.h"

#include <algorithm>

#include "raft_cmdpb.pb.h"
#include "tests/live/node.h"

namespace keytrail::live {

namespace {

constexpr size_t kMaxRegionsInError = 10;  // tikv's MAX_REGIONS_IN_ERROR

std::string Number(uint64_t n) {
  return std::to_string(n);
}

eraftpb::Message EntryOf(const RegionPeer& peer, eraftpb::EntryType type, std::string data,
                         std::string context) {
  eraftpb::Message message;
  message.set_msg_type(eraftpb::MsgAppend);
  eraftpb::Entry* entry = message.add_entries();
  entry->set_entry_type(type);
  entry->set_term(peer.term);
  entry->set_data(std::move(data));
  entry->set_context(std::move(context));
  return message;
}

}  // namespace

void StoreRegions::Lead(const metapb::Region& first, uint64_t peer_id) {
  const std::lock_guard lock(mutex_);
  RegionPeer& peer = peers_[first.id()];
  peer.region = first;
  peer.peer_id = peer_id;
  peer.leader_id = peer_id;
  Report(peer);
}

void StoreRegions::Report(const RegionPeer& peer) {
  pdpb::RegionHeartbeatRequest beat;
  beat.mutable_header()->set_cluster_id(kClusterId);
  *beat.mutable_region() = peer.region;
  for (const metapb::Peer& other : peer.region.peers())
    if (other.id() == peer.leader_id) *beat.mutable_leader() = other;
  beat.set_term(peer.term);
  beat.set_approximate_size(1);
  beat.set_approximate_keys(1000);
  outlets_.report(std::move(beat));
}

void StoreRegions::ReportAll() {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, peer] : peers_)
    if (peer.leads()) Report(peer);
}

std::vector<metapb::Region> StoreRegions::Led() const {
  const std::lock_guard lock(mutex_);
  std::vector<metapb::Region> led;
  for (const auto& [id, peer] : peers_)
    if (peer.leads()) led.push_back(peer.region);
  return led;
}

void StoreRegions::Tell(const RegionPeer& leader, const metapb::Peer& to, eraftpb::Message message) {
  raft_serverpb::RaftMessage raft;
  raft.set_region_id(leader.region.id());
  raft.mutable_from_peer()->set_id(leader.peer_id);
  raft.mutable_from_peer()->set_store_id(store_id_);
  *raft.mutable_to_peer() = to;
  *raft.mutable_region_epoch() = leader.region.region_epoch();
  message.set_from(leader.peer_id);
  message.set_to(to.id());
  message.set_term(leader.term);
  *raft.mutable_message() = std::move(message);
  outlets_.send(to.store_id(), std::move(raft));
}

void StoreRegions::ApplySplit(RegionPeer& peer, const std::string& key, const pdpb::SplitID& ids,
                              RegionPeer& left) {
  metapb::RegionEpoch* epoch = peer.region.mutable_region_epoch();
  epoch->set_version(epoch->version() + 1);
  left.region = peer.region;
  left.region.set_id(ids.new_region_id());
  left.region.set_end_key(key);
  peer.region.set_start_key(key);
  for (int i = 0; i < left.region.peers_size(); ++i) {
    metapb::Peer* other = left.region.mutable_peers(i);
    const uint64_t id = ids.new_peer_ids(i);
    if (other->id() == peer.peer_id) left.peer_id = id;
    if (other->id() == peer.leader_id) left.leader_id = id;
    other->set_id(id);
  }
}

std::optional<std::vector<metapb::Region>> StoreRegions::Split(const metapb::Region& before,
                                                               const std::string& key,
                                                               const pdpb::SplitID& ids) {
  const std::lock_guard lock(mutex_);
  const auto found = peers_.find(before.id());
  if (found == peers_.end() || !found->second.leads() || !SameVersion(found->second.region, before))
    return {};
  RegionPeer& peer = found->second;
  raft_cmdpb::RaftCmdRequest command;
  command.mutable_header()->set_region_id(before.id());
  *command.mutable_header()->mutable_region_epoch() = before.region_epoch();
  command.mutable_admin_request()->set_cmd_type(raft_cmdpb::BatchSplit);
  raft_cmdpb::BatchSplitRequest* splits = command.mutable_admin_request()->mutable_splits();
  splits->set_right_derive(true);
  raft_cmdpb::SplitRequest* split = splits->add_requests();
  split->set_split_key(key);
  split->set_new_region_id(ids.new_region_id());
  *split->mutable_new_peer_ids() = ids.new_peer_ids();
  for (const metapb::Peer& other : before.peers())
    if (other.id() != peer.peer_id)
      Tell(peer, other, EntryOf(peer, eraftpb::EntryNormal, command.SerializeAsString(), ""));
  RegionPeer left;
  ApplySplit(peer, key, ids, left);
  Report(peer);
  Report(left);
  std::vector<metapb::Region> halves{left.region, peer.region};
  peers_[left.region.id()] = left;
  return halves;
}

void StoreRegions::ApplyChange(RegionPeer& peer, const metapb::Peer& changed, eraftpb::ConfChangeType type) {
  metapb::RegionEpoch* epoch = peer.region.mutable_region_epoch();
  epoch->set_conf_ver(epoch->conf_ver() + 1);
  auto* all = peer.region.mutable_peers();
  for (int i = 0; i < all->size(); ++i) {
    if (all->Get(i).id() == changed.id()) {
      all->DeleteSubrange(i, 1);
      break;
    }
  }
  if (type != eraftpb::RemoveNode) *all->Add() = changed;
}

void StoreRegions::ChangePeer(RegionPeer& peer, const pdpb::ChangePeer& change) {
  const metapb::Peer* there = PeerOn(peer.region, change.peer().store_id());
  const bool same = there != nullptr && there->id() == change.peer().id();
  metapb::Peer changed = change.peer();
  switch (change.change_type()) {
    case eraftpb::AddLearnerNode:
      if (there != nullptr) return;
      break;
    case eraftpb::AddNode:
      if (!same || there->role() != metapb::Learner) return;
      changed.set_role(metapb::Voter);
      break;
    default:
      if (!same || changed.id() == peer.peer_id) return;
  }
  raft_cmdpb::RaftCmdRequest command;
  command.mutable_header()->set_region_id(peer.region.id());
  *command.mutable_header()->mutable_region_epoch() = peer.region.region_epoch();
  command.mutable_admin_request()->set_cmd_type(raft_cmdpb::ChangePeer);
  *command.mutable_admin_request()->mutable_change_peer()->mutable_peer() = changed;
  command.mutable_admin_request()->mutable_change_peer()->set_change_type(change.change_type());
  eraftpb::ConfChange conf;
  conf.set_change_type(change.change_type());
  conf.set_node_id(changed.id());
  conf.set_context(command.SerializeAsString());
  for (const metapb::Peer& other : peer.region.peers())
    if (other.id() != peer.peer_id)
      Tell(peer, other, EntryOf(peer, eraftpb::EntryConfChange, conf.SerializeAsString(), ""));
  ApplyChange(peer, changed, change.change_type());
  if (change.change_type() == eraftpb::AddLearnerNode) {
    raft_serverpb::RaftSnapshotData data;
    *data.mutable_region() = peer.region;
    data.set_version(2);
    eraftpb::Message snapshot;
    snapshot.set_msg_type(eraftpb::MsgSnapshot);
    snapshot.mutable_snapshot()->set_data(data.SerializeAsString());
    snapshot.mutable_snapshot()->mutable_metadata()->set_term(peer.term);
    Tell(peer, changed, std::move(snapshot));
  }
  Report(peer);
}

// The peer there takes over when it hears of it. Until then nobody leads: TiKV proposes nothing while it
// transfers.
void StoreRegions::TransferLeader(RegionPeer& peer, const metapb::Peer& to) {
  const metapb::Peer* there = PeerOn(peer.region, to.store_id());
  if (there == nullptr || there->id() != to.id() || there->role() != metapb::Voter || to.id() == peer.peer_id)
    return;
  eraftpb::Message message;
  message.set_msg_type(eraftpb::MsgTimeoutNow);
  Tell(peer, to, std::move(message));
  peer.leader_id = 0;
}

void StoreRegions::Obey(const pdpb::RegionHeartbeatResponse& command) {
  const std::lock_guard lock(mutex_);
  const auto found = peers_.find(command.region_id());
  if (found == peers_.end() || !found->second.leads()) return;
  const metapb::RegionEpoch& epoch = found->second.region.region_epoch();
  if (command.region_epoch().conf_ver() != epoch.conf_ver() ||
      command.region_epoch().version() != epoch.version())
    return;
  if (command.has_change_peer()) ChangePeer(found->second, command.change_peer());
  if (command.has_transfer_leader()) TransferLeader(found->second, command.transfer_leader().peer());
}

void StoreRegions::Apply(RegionPeer& peer, const eraftpb::Entry& entry) {
  raft_cmdpb::RaftCmdRequest command;
  if (entry.entry_type() == eraftpb::EntryNormal) {
    if (!command.ParseFromString(entry.data())) return;
    for (const raft_cmdpb::SplitRequest& split : command.admin_request().splits().requests()) {
      pdpb::SplitID ids;
      ids.set_new_region_id(split.new_region_id());
      *ids.mutable_new_peer_ids() = split.new_peer_ids();
      RegionPeer left;
      ApplySplit(peer, split.split_key(), ids, left);
      peers_[left.region.id()] = left;
    }
    return;
  }
  eraftpb::ConfChange conf;
  if (!conf.ParseFromString(entry.data()) || !command.ParseFromString(conf.context())) return;
  const metapb::Peer changed = command.admin_request().change_peer().peer();
  if (conf.change_type() == eraftpb::RemoveNode && changed.id() == peer.peer_id) {
    peers_.erase(peer.region.id());  // `peer` is gone
    return;
  }
  ApplyChange(peer, changed, conf.change_type());
}

void StoreRegions::Receive(const raft_serverpb::RaftMessage& raft) {
  const std::lock_guard lock(mutex_);
  const eraftpb::Message& message = raft.message();
  if (message.msg_type() == eraftpb::MsgSnapshot) {
    raft_serverpb::RaftSnapshotData data;
    if (peers_.contains(raft.region_id()) || !data.ParseFromString(message.snapshot().data())) return;
    RegionPeer& peer = peers_[raft.region_id()];
    peer.region = data.region();
    peer.peer_id = raft.to_peer().id();
    peer.leader_id = raft.from_peer().id();
    peer.term = message.term();
    return;
  }
  const auto found = peers_.find(raft.region_id());
  if (found == peers_.end() || found->second.peer_id != raft.to_peer().id()) return;
  RegionPeer& peer = found->second;
  if (message.term() < peer.term) return;
  if (message.msg_type() == eraftpb::MsgTimeoutNow) {
    peer.term = message.term() + 1;
    peer.leader_id = peer.peer_id;
    eraftpb::Message beat;
    beat.set_msg_type(eraftpb::MsgHeartbeat);
    for (const metapb::Peer& other : peer.region.peers())
      if (other.id() != peer.peer_id) Tell(peer, other, beat);
    Report(peer);
    return;
  }
  peer.term = message.term();
  peer.leader_id = raft.from_peer().id();
  for (const eraftpb::Entry& entry : message.entries()) {
    Apply(peer, entry);
    if (!peers_.contains(raft.region_id())) return;
  }
}

std::optional<errorpb::Error> StoreRegions::Check(const kvrpcpb::Context& context,
                                                  metapb::Region& region) const {
  const std::lock_guard lock(mutex_);
  errorpb::Error error;
  const uint64_t id = context.region_id();
  if (context.peer().store_id() != store_id_) {
    error.set_message("store is not match, request store id is " + Number(context.peer().store_id()) +
                      ", but actual store id is " + Number(store_id_));
    error.mutable_store_not_match()->set_request_store_id(context.peer().store_id());
    error.mutable_store_not_match()->set_actual_store_id(store_id_);
    return error;
  }
  const auto found = peers_.find(id);
  if (found == peers_.end()) {
    error.set_message("region " + Number(id) + " is not found");
    error.mutable_region_not_found()->set_region_id(id);
    return error;
  }
  const RegionPeer& peer = found->second;
  if (!peer.leads()) {
    error.set_message("peer is not leader for region " + Number(id));
    error.mutable_not_leader()->set_region_id(id);
    for (const metapb::Peer& other : peer.region.peers())
      if (other.id() == peer.leader_id) *error.mutable_not_leader()->mutable_leader() = other;
    return error;
  }
  if (context.peer().id() != peer.peer_id) {
    error.set_message("mismatch peer id " + Number(context.peer().id()) + " != " + Number(peer.peer_id));
    error.mutable_mismatch_peer_id()->set_request_peer_id(context.peer().id());
    error.mutable_mismatch_peer_id()->set_store_peer_id(peer.peer_id);
    return error;
  }
  const metapb::RegionEpoch& now = peer.region.region_epoch();
  const metapb::RegionEpoch& asked = context.region_epoch();
  if (asked.version() != now.version()) {
    error.set_message("EpochNotMatch current epoch of region " + Number(id) +
                      " is conf_ver: " + Number(now.conf_ver()) + " version: " + Number(now.version()) +
                      ", but you sent conf_ver: " + Number(asked.conf_ver()) +
                      " version: " + Number(asked.version()));
    AddSiblings(peer, asked.version(), error.mutable_epoch_not_match());
    return error;
  }
  region = peer.region;
  return {};
}

// The region itself, and as many on its left as it may have split off since.
void StoreRegions::AddSiblings(const RegionPeer& peer, uint64_t asked_version,
                               errorpb::EpochNotMatch* error) const {
  *error->add_current_regions() = peer.region;
  const uint64_t now = peer.region.region_epoch().version();
  size_t more = now > asked_version ? std::min<size_t>(now - asked_version, kMaxRegionsInError) : 0;
  std::string end = peer.region.start_key();
  while (more-- > 0 && !end.empty()) {
    const auto left = std::find_if(peers_.begin(), peers_.end(),
                                   [&](const auto& entry) { return entry.second.region.end_key() == end; });
    if (left == peers_.end()) return;
    *error->add_current_regions() = left->second.region;
    end = left->second.region.start_key();
  }
}

}  // namespace keytrail::live
