#include "tests/live/pd_node.h"

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>

#include "common/clock.h"
#include "pdpb.grpc.pb.h"
#include "tests/live/keys.h"
#include "tests/live/node.h"
#include "tests/live/region_tree.h"

namespace keytrail::live {

namespace {

using grpc::ServerContext;
using grpc::Status;

constexpr int64_t kOperatorTimeoutNs = int64_t{10} * 1000 * 1000 * 1000;
// How long a moved region keeps its former peer: some time of two peers, in which clients ask the one that no
// longer leads. In a cluster with data it takes that long by itself.
constexpr int64_t kBothNs = int64_t{400} * 1000 * 1000;
constexpr std::chrono::milliseconds kGoOnPause{100};
constexpr uint64_t kFirstId = 1000;

class PdNode final : public pdpb::PD::Service {
 public:
  using HeartbeatStream =
      grpc::ServerReaderWriter<pdpb::RegionHeartbeatResponse, pdpb::RegionHeartbeatRequest>;

  PdNode(std::string address, uint64_t seed) : address_(std::move(address)), chance_(seed) {}

  void Order(const std::vector<std::string>& words);

  Status GetMembers(ServerContext*, const pdpb::GetMembersRequest*,
                    pdpb::GetMembersResponse* answer) override;
  Status Tso(ServerContext*, grpc::ServerReaderWriter<pdpb::TsoResponse, pdpb::TsoRequest>* stream) override;
  Status IsBootstrapped(ServerContext*, const pdpb::IsBootstrappedRequest*,
                        pdpb::IsBootstrappedResponse*) override;
  Status Bootstrap(ServerContext*, const pdpb::BootstrapRequest*, pdpb::BootstrapResponse*) override;
  Status AllocID(ServerContext*, const pdpb::AllocIDRequest*, pdpb::AllocIDResponse*) override;
  Status PutStore(ServerContext*, const pdpb::PutStoreRequest*, pdpb::PutStoreResponse*) override;
  Status GetStore(ServerContext*, const pdpb::GetStoreRequest*, pdpb::GetStoreResponse*) override;
  Status GetAllStores(ServerContext*, const pdpb::GetAllStoresRequest*, pdpb::GetAllStoresResponse*) override;
  Status StoreHeartbeat(ServerContext*, const pdpb::StoreHeartbeatRequest*,
                        pdpb::StoreHeartbeatResponse*) override;
  Status RegionHeartbeat(ServerContext*, HeartbeatStream* stream) override;
  Status AskBatchSplit(ServerContext*, const pdpb::AskBatchSplitRequest*,
                       pdpb::AskBatchSplitResponse*) override;
  Status ReportBatchSplit(ServerContext*, const pdpb::ReportBatchSplitRequest*,
                          pdpb::ReportBatchSplitResponse*) override;
  Status GetRegion(ServerContext*, const pdpb::GetRegionRequest*, pdpb::GetRegionResponse*) override;
  Status GetRegionByID(ServerContext*, const pdpb::GetRegionByIDRequest*, pdpb::GetRegionResponse*) override;
  Status ScanRegions(ServerContext*, const pdpb::ScanRegionsRequest*, pdpb::ScanRegionsResponse*) override;
  Status BatchScanRegions(ServerContext*, const pdpb::BatchScanRegionsRequest*,
                          pdpb::BatchScanRegionsResponse*) override;

 private:
  // A region on its way to another store: learner there, voter there, leader there, gone here.
  struct Move {
    metapb::Peer target;
    int64_t since_ns = 0;
    int64_t led_since_ns = 0;  // by the target; 0: not yet
  };

  template <typename Answer>
  void Head(Answer* answer) {
    answer->mutable_header()->set_cluster_id(kClusterId);
  }
  void StartMove();
  void GoOnWithAll();
  void GoOn(uint64_t region_id);
  void Widen(const std::string& client, metapb::Region& region);

  const std::string address_;
  Chance chance_;
  std::mutex mutex_;  // of all below
  RegionTree tree_;
  std::map<uint64_t, metapb::Store> stores_;
  std::map<uint64_t, HeartbeatStream*> heartbeats_;  // by store; alive while its handler runs
  std::map<uint64_t, Move> moves_;
  uint64_t last_id_ = kFirstId;
  bool bootstrapped_ = false;
  int64_t tso_physical_ = 0;
  int64_t tso_logical_ = 0;
  double wide_share_ = 0;
  std::unique_ptr<Every> mover_;
  Every steps_{kGoOnPause, [this] { GoOnWithAll(); }};
};

void PdNode::Order(const std::vector<std::string>& words) {
  if (words[0] == "moves" && words.size() == 2) {
    mover_.reset();
    if (const int pause = std::stoi(words[1]); pause > 0)
      mover_ = std::make_unique<Every>(std::chrono::milliseconds(pause), [this] { StartMove(); });
  } else if (words[0] == "fault" && words.size() >= 2) {
    const std::lock_guard lock(mutex_);
    wide_share_ = words[1] == "pd_wide" && words.size() == 3 ? std::stod(words[2]) : 0;
  } else {
    Say("problem", {{"text", "no such order: " + words[0]}});
  }
}

Status PdNode::GetMembers(ServerContext*, const pdpb::GetMembersRequest*, pdpb::GetMembersResponse* answer) {
  Head(answer);
  pdpb::Member* member = answer->add_members();
  member->set_name("pd1");
  member->set_member_id(7001);
  member->add_client_urls("http://" + address_);
  member->add_peer_urls("http://" + HostOf("ipv4:" + address_) + ":2380");
  *answer->mutable_leader() = *member;
  *answer->mutable_etcd_leader() = *member;
  return Status::OK;
}

Status PdNode::Tso(ServerContext*, grpc::ServerReaderWriter<pdpb::TsoResponse, pdpb::TsoRequest>* stream) {
  pdpb::TsoRequest request;
  while (stream->Read(&request)) {
    pdpb::TsoResponse answer;
    Head(&answer);
    answer.set_count(request.count());
    {
      const std::lock_guard lock(mutex_);
      const int64_t now_ms = WallClockNs() / 1000000;
      if (now_ms > tso_physical_) tso_physical_ = now_ms, tso_logical_ = 0;
      tso_logical_ += request.count();
      answer.mutable_timestamp()->set_physical(tso_physical_);
      answer.mutable_timestamp()->set_logical(tso_logical_);
    }
    if (!stream->Write(answer)) break;
  }
  return Status::OK;
}

Status PdNode::IsBootstrapped(ServerContext*, const pdpb::IsBootstrappedRequest*,
                              pdpb::IsBootstrappedResponse* answer) {
  Head(answer);
  const std::lock_guard lock(mutex_);
  answer->set_bootstrapped(bootstrapped_);
  return Status::OK;
}

Status PdNode::Bootstrap(ServerContext*, const pdpb::BootstrapRequest* request,
                         pdpb::BootstrapResponse* answer) {
  Head(answer);
  const std::lock_guard lock(mutex_);
  if (bootstrapped_) {
    answer->mutable_header()->mutable_error()->set_type(pdpb::ALREADY_BOOTSTRAPPED);
    return Status::OK;
  }
  bootstrapped_ = true;
  stores_[request->store().id()] = request->store();
  return Status::OK;
}

Status PdNode::AllocID(ServerContext*, const pdpb::AllocIDRequest*, pdpb::AllocIDResponse* answer) {
  Head(answer);
  const std::lock_guard lock(mutex_);
  answer->set_id(++last_id_);
  answer->set_count(1);
  return Status::OK;
}

Status PdNode::PutStore(ServerContext*, const pdpb::PutStoreRequest* request,
                        pdpb::PutStoreResponse* answer) {
  Head(answer);
  const std::lock_guard lock(mutex_);
  stores_[request->store().id()] = request->store();
  return Status::OK;
}

Status PdNode::GetStore(ServerContext*, const pdpb::GetStoreRequest* request,
                        pdpb::GetStoreResponse* answer) {
  Head(answer);
  const std::lock_guard lock(mutex_);
  const auto found = stores_.find(request->store_id());
  if (found == stores_.end()) {
    pdpb::Error* error = answer->mutable_header()->mutable_error();
    error->set_type(pdpb::UNKNOWN);
    error->set_message("invalid store ID " + std::to_string(request->store_id()) + ", not found");
    return Status::OK;
  }
  *answer->mutable_store() = found->second;
  answer->mutable_stats()->set_capacity(uint64_t{1} << 40);
  return Status::OK;
}

Status PdNode::GetAllStores(ServerContext*, const pdpb::GetAllStoresRequest*,
                            pdpb::GetAllStoresResponse* answer) {
  Head(answer);
  const std::lock_guard lock(mutex_);
  for (const auto& [id, store] : stores_) *answer->add_stores() = store;
  return Status::OK;
}

Status PdNode::StoreHeartbeat(ServerContext*, const pdpb::StoreHeartbeatRequest*,
                              pdpb::StoreHeartbeatResponse* answer) {
  Head(answer);
  answer->set_cluster_version("8.5.0");
  return Status::OK;
}

Status PdNode::RegionHeartbeat(ServerContext*, HeartbeatStream* stream) {
  pdpb::RegionHeartbeatRequest beat;
  std::vector<uint64_t> stores;
  while (stream->Read(&beat)) {
    const std::lock_guard lock(mutex_);
    const uint64_t store_id = beat.leader().store_id();
    if (heartbeats_[store_id] != stream) {
      heartbeats_[store_id] = stream;
      stores.push_back(store_id);
    }
    if (tree_.Accept(beat)) GoOn(beat.region().id());
  }
  const std::lock_guard lock(mutex_);
  for (const uint64_t store_id : stores)
    if (heartbeats_[store_id] == stream) heartbeats_.erase(store_id);
  return Status::OK;
}

Status PdNode::AskBatchSplit(ServerContext*, const pdpb::AskBatchSplitRequest* request,
                             pdpb::AskBatchSplitResponse* answer) {
  Head(answer);
  const std::lock_guard lock(mutex_);
  for (uint32_t i = 0; i < request->split_count(); ++i) {
    pdpb::SplitID* ids = answer->add_ids();
    ids->set_new_region_id(++last_id_);
    for (int peer = 0; peer < request->region().peers_size(); ++peer) ids->add_new_peer_ids(++last_id_);
  }
  return Status::OK;
}

// PD only logs it: its regions come from heartbeats.
Status PdNode::ReportBatchSplit(ServerContext*, const pdpb::ReportBatchSplitRequest*,
                                pdpb::ReportBatchSplitResponse* answer) {
  Head(answer);
  return Status::OK;
}

Status PdNode::GetRegion(ServerContext* context, const pdpb::GetRegionRequest* request,
                         pdpb::GetRegionResponse* answer) {
  Head(answer);
  const std::lock_guard lock(mutex_);
  // A key between a split's halves, of which one is not reported yet: an answer without a region.
  const RegionTree::Known* known = tree_.ByKey(request->region_key());
  if (known == nullptr) return Status::OK;
  *answer->mutable_region() = known->region;
  *answer->mutable_leader() = known->leader;
  if (wide_share_ > 0 && chance_.Hit(wide_share_)) Widen(HostOf(context->peer()), *answer->mutable_region());
  return Status::OK;
}

// The fault: the end of the region on the right, under the epoch of before.
void PdNode::Widen(const std::string& client, metapb::Region& region) {
  if (region.end_key().empty()) return;
  const RegionTree::Known* right = tree_.ByKey(region.end_key());
  if (right == nullptr || right->region.start_key() != region.end_key()) return;
  region.set_end_key(right->region.end_key());
  Say("fault", {{"component", "pd"},
                {"client", client},
                {"region_id", region.id()},
                {"version", region.region_epoch().version()},
                {"said_end", Hex(region.end_key())},
                {"true_end", Hex(right->region.start_key())}});
}

Status PdNode::GetRegionByID(ServerContext*, const pdpb::GetRegionByIDRequest* request,
                             pdpb::GetRegionResponse* answer) {
  Head(answer);
  const std::lock_guard lock(mutex_);
  if (const RegionTree::Known* known = tree_.ById(request->region_id())) {
    *answer->mutable_region() = known->region;
    *answer->mutable_leader() = known->leader;
  }
  return Status::OK;
}

Status PdNode::ScanRegions(ServerContext*, const pdpb::ScanRegionsRequest* request,
                           pdpb::ScanRegionsResponse* answer) {
  Head(answer);
  const std::lock_guard lock(mutex_);
  const size_t limit = request->limit() <= 0 ? 0 : static_cast<size_t>(request->limit());
  for (const RegionTree::Known* known : tree_.Scan(request->start_key(), request->end_key(), limit)) {
    *answer->add_region_metas() = known->region;
    *answer->add_leaders() = known->leader;
    pdpb::Region* region = answer->add_regions();
    *region->mutable_region() = known->region;
    *region->mutable_leader() = known->leader;
  }
  return Status::OK;
}

Status PdNode::BatchScanRegions(ServerContext*, const pdpb::BatchScanRegionsRequest* request,
                                pdpb::BatchScanRegionsResponse* answer) {
  Head(answer);
  const std::lock_guard lock(mutex_);
  const size_t limit = request->limit() <= 0 ? SIZE_MAX : static_cast<size_t>(request->limit());
  for (const pdpb::KeyRange& range : request->ranges()) {
    std::string reached = range.start_key();
    const size_t left = limit - static_cast<size_t>(answer->regions_size());
    if (left == 0) break;
    const auto found = tree_.Scan(range.start_key(), range.end_key(), left == SIZE_MAX ? 0 : left);
    bool whole = !found.empty() && found.front()->region.start_key() <= reached;
    for (size_t i = 1; i < found.size(); ++i)
      whole = whole && found[i]->region.start_key() == found[i - 1]->region.end_key();
    const bool cut = found.size() == left;
    if (whole && !cut) {
      const std::string& end = found.back()->region.end_key();
      whole = end.empty() || (!range.end_key().empty() && end >= range.end_key());
    }
    if (!whole && request->contain_all_key_range()) {
      answer->clear_regions();
      pdpb::Error* error = answer->mutable_header()->mutable_error();
      error->set_type(pdpb::REGIONS_NOT_CONTAIN_ALL_KEY_RANGE);
      error->set_message("found regions do not contain all key ranges");
      return Status::OK;
    }
    for (const RegionTree::Known* known : found) {
      pdpb::Region* region = answer->add_regions();
      *region->mutable_region() = known->region;
      *region->mutable_leader() = known->leader;
    }
  }
  return Status::OK;
}

// Some region shall live on another store.
void PdNode::StartMove() {
  const std::lock_guard lock(mutex_);
  if (stores_.size() < 2 || tree_.all().empty()) return;
  auto at = tree_.all().begin();
  std::advance(at, chance_.Of(0, static_cast<int64_t>(tree_.all().size()) - 1));
  const auto& [id, known] = *at;
  for (const auto& [store_id, store] : stores_) {
    if (store_id == known.leader.store_id() || moves_.contains(id) || known.region.peers_size() != 1)
      continue;
    Move move;
    move.target.set_id(++last_id_);
    move.target.set_store_id(store_id);
    move.since_ns = SteadyNs();
    moves_[id] = move;
    GoOn(id);
    return;
  }
}

void PdNode::GoOnWithAll() {
  const std::lock_guard lock(mutex_);
  std::vector<uint64_t> ids;
  for (const auto& [id, move] : moves_) ids.push_back(id);
  for (const uint64_t id : ids) GoOn(id);
}

// The next step of a region's move, told to its leader's store.
void PdNode::GoOn(uint64_t region_id) {
  const auto found = moves_.find(region_id);
  const RegionTree::Known* known = tree_.ById(region_id);
  if (found == moves_.end()) return;
  if (known == nullptr || SteadyNs() - found->second.since_ns > kOperatorTimeoutNs) {
    moves_.erase(found);
    return;
  }
  const metapb::Peer& target = found->second.target;
  pdpb::RegionHeartbeatResponse command;
  Head(&command);
  command.set_region_id(region_id);
  *command.mutable_region_epoch() = known->region.region_epoch();
  *command.mutable_target_peer() = known->leader;
  const metapb::Peer* there = PeerOn(known->region, target.store_id());
  if (there == nullptr) {
    *command.mutable_change_peer()->mutable_peer() = target;
    command.mutable_change_peer()->mutable_peer()->set_role(metapb::Learner);
    command.mutable_change_peer()->set_change_type(eraftpb::AddLearnerNode);
  } else if (there->role() == metapb::Learner) {
    *command.mutable_change_peer()->mutable_peer() = target;
    command.mutable_change_peer()->set_change_type(eraftpb::AddNode);
  } else if (known->leader.store_id() != target.store_id()) {
    *command.mutable_transfer_leader()->mutable_peer() = *there;
  } else if (known->region.peers_size() > 1) {
    int64_t& since_ns = found->second.led_since_ns;
    if (since_ns == 0) since_ns = SteadyNs();
    if (SteadyNs() - since_ns < kBothNs) return;
    for (const metapb::Peer& peer : known->region.peers())
      if (peer.store_id() != target.store_id()) *command.mutable_change_peer()->mutable_peer() = peer;
    command.mutable_change_peer()->set_change_type(eraftpb::RemoveNode);
  } else {
    Say("moved", {{"region_id", region_id}, {"store_id", target.store_id()}});
    moves_.erase(found);
    return;
  }
  const auto stream = heartbeats_.find(known->leader.store_id());
  if (stream != heartbeats_.end()) stream->second->Write(command);
}

}  // namespace

int RunPd(const std::string& address, uint64_t seed) {
  PdNode node(address, seed);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterService(&node);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!server) {
    Say("problem", {{"text", "cannot listen at " + address}});
    return 1;
  }
  Say("ready");
  ObeyUntilEnd([&](const std::vector<std::string>& words) { node.Order(words); });
  node.Order({"moves", "0"});
  server->Shutdown(std::chrono::system_clock::now());
  return 0;
}

}  // namespace keytrail::live
