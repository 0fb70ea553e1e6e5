#include "tests/live/store_node.h"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <memory>

#include "pdpb.grpc.pb.h"
#include "tests/live/keys.h"
#include "tests/live/node.h"
#include "tests/live/raft_streams.h"
#include "tests/live/store_checks.h"
#include "tests/live/store_regions.h"
#include "tikvpb.grpc.pb.h"

namespace keytrail::live {

namespace {

using grpc::ServerContext;
using grpc::Status;

constexpr int64_t kRows = 40000;        // of the table that clients work on
constexpr int64_t kNarrowestRows = 64;  // a region with fewer is neither split nor cut short
constexpr size_t kMostRegions = 60;     // of one store
// TiKV's are 60 s and 10 s: a test has not that long.
constexpr std::chrono::milliseconds kReportPause{3000};
constexpr std::chrono::milliseconds kStoreReportPause{3000};

// The rows that a region holds, of those that are there.
std::pair<int64_t, int64_t> RowsOf(const metapb::Region& region) {
  const int64_t first = RowOf(Raw(region.start_key()));
  const int64_t end = RowOf(Raw(region.end_key()));
  return {first < 0 ? 0 : first, end < 0 ? kRows : end};
}

// The store's talk with PD: calls, and the stream of region heartbeats, whose answers are orders.
class PdLink {
 public:
  PdLink(const std::string& address, std::function<void(const pdpb::RegionHeartbeatResponse&)> obey)
      : stub_(pdpb::PD::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))),
        obey_(std::move(obey)) {}
  ~PdLink();

  void OpenHeartbeats();
  void Report(pdpb::RegionHeartbeatRequest beat);  // never blocks
  pdpb::PD::Stub& stub() { return *stub_; }

 private:
  void Write();

  std::unique_ptr<pdpb::PD::Stub> stub_;
  const std::function<void(const pdpb::RegionHeartbeatResponse&)> obey_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<pdpb::RegionHeartbeatRequest, pdpb::RegionHeartbeatResponse>>
      stream_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<pdpb::RegionHeartbeatRequest> waiting_;
  bool stopping_ = false;
  std::thread writer_, reader_;
};

void PdLink::OpenHeartbeats() {
  stream_ = stub_->RegionHeartbeat(&context_);
  writer_ = std::thread([this] { Write(); });
  reader_ = std::thread([this] {
    pdpb::RegionHeartbeatResponse command;
    while (stream_->Read(&command)) obey_(command);
  });
}

PdLink::~PdLink() {
  if (!stream_) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  context_.TryCancel();
  writer_.join();
  reader_.join();
  stream_->Finish();
}

void PdLink::Report(pdpb::RegionHeartbeatRequest beat) {
  const std::lock_guard lock(mutex_);
  waiting_.push_back(std::move(beat));
  changed_.notify_all();
}

void PdLink::Write() {
  for (;;) {
    pdpb::RegionHeartbeatRequest beat;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      beat = std::move(waiting_.front());
      waiting_.pop_front();
    }
    if (!stream_->Write(beat)) return;
  }
}

class StoreNode final : public tikvpb::Tikv::Service {
 public:
  StoreNode(std::string address, const std::string& pd, uint64_t seed)
      : address_(std::move(address)),
        chance_(seed),
        pd_(pd, [this](const auto& command) { regions_->Obey(command); }) {}

  bool Join();
  void Order(const std::vector<std::string>& words);
  void Stop() { splitter_.reset(), reports_.reset(), store_reports_.reset(); }

#define KEYTRAIL_LIVE_UNARY(method, field, request_type, response_type)                                  \
  Status method(ServerContext* context, const request_type* request, response_type* response) override { \
    Question question;                                                                                   \
    *question.mutable_##field() = *request;                                                              \
    *response = Answered(question, HostOf(context->peer())).field();                                     \
    return Status::OK;                                                                                   \
  }
  KEYTRAIL_LIVE_UNARY(KvGet, get, kvrpcpb::GetRequest, kvrpcpb::GetResponse)
  KEYTRAIL_LIVE_UNARY(KvBatchGet, batchget, kvrpcpb::BatchGetRequest, kvrpcpb::BatchGetResponse)
  KEYTRAIL_LIVE_UNARY(KvScan, scan, kvrpcpb::ScanRequest, kvrpcpb::ScanResponse)
  KEYTRAIL_LIVE_UNARY(KvPrewrite, prewrite, kvrpcpb::PrewriteRequest, kvrpcpb::PrewriteResponse)
  KEYTRAIL_LIVE_UNARY(KvCommit, commit, kvrpcpb::CommitRequest, kvrpcpb::CommitResponse)
  KEYTRAIL_LIVE_UNARY(Coprocessor, coprocessor, coprocessor::Request, coprocessor::Response)
#undef KEYTRAIL_LIVE_UNARY
  Status BatchCommands(
      ServerContext* context,
      grpc::ServerReaderWriter<tikvpb::BatchCommandsResponse, tikvpb::BatchCommandsRequest>*) override;
  Status BatchRaft(ServerContext*, grpc::ServerReader<tikvpb::BatchRaftMessage>*,
                   raft_serverpb::Done*) override;
  Status Snapshot(ServerContext*, grpc::ServerReader<raft_serverpb::SnapshotChunk>*,
                  raft_serverpb::Done*) override;

 private:
  Answer Answered(const Question& question, const std::string& client);
  // The range that the fault has this request held against, if any.
  std::optional<CheckedRange> CutShort(const metapb::Region& region);
  void SplitSome();
  void Split(const metapb::Region& region);
  std::string AddressOf(uint64_t store_id);

  const std::string address_;
  uint64_t store_id_ = 0;
  Chance chance_;
  std::optional<StoreRegions> regions_;
  std::unique_ptr<RaftStreams> raft_;
  PdLink pd_;  // its threads use what stands above
  std::mutex fault_mutex_;
  double narrow_share_ = 0;
  std::map<std::pair<uint64_t, uint64_t>, std::string> cut_;  // (region, version) -> end; empty: as it is
  std::unique_ptr<Every> splitter_, reports_, store_reports_;
};

bool StoreNode::Join() {
  const auto allocate = [&] {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    pdpb::AllocIDRequest request;
    request.mutable_header()->set_cluster_id(kClusterId);
    pdpb::AllocIDResponse answer;
    return pd_.stub().AllocID(&context, request, &answer).ok() ? answer.id() : 0;
  };
  store_id_ = allocate();
  if (store_id_ == 0) return false;
  raft_ = std::make_unique<RaftStreams>([this](uint64_t id) { return AddressOf(id); });
  regions_.emplace(store_id_, StoreRegions::Outlets{
                                  [this](pdpb::RegionHeartbeatRequest beat) { pd_.Report(std::move(beat)); },
                                  [this](uint64_t id, raft_serverpb::RaftMessage message) {
                                    raft_->Send(id, std::move(message));
                                  }});
  pdpb::PutStoreRequest put;
  put.mutable_header()->set_cluster_id(kClusterId);
  put.mutable_store()->set_id(store_id_);
  put.mutable_store()->set_address(address_);
  put.mutable_store()->set_version("8.5.0");

  pdpb::BootstrapRequest bootstrap;
  *bootstrap.mutable_header() = put.header();
  *bootstrap.mutable_store() = put.store();
  bootstrap.mutable_region()->set_id(allocate());
  bootstrap.mutable_region()->mutable_region_epoch()->set_conf_ver(1);
  bootstrap.mutable_region()->mutable_region_epoch()->set_version(1);
  metapb::Peer* peer = bootstrap.mutable_region()->add_peers();
  peer->set_id(allocate());
  peer->set_store_id(store_id_);
  pdpb::BootstrapResponse bootstrapped;
  grpc::ClientContext asked_context, bootstrap_context, put_context;
  pdpb::IsBootstrappedRequest asked;
  *asked.mutable_header() = put.header();
  pdpb::IsBootstrappedResponse is;
  if (!pd_.stub().IsBootstrapped(&asked_context, asked, &is).ok()) return false;
  if (!is.bootstrapped() && !pd_.stub().Bootstrap(&bootstrap_context, bootstrap, &bootstrapped).ok())
    return false;
  pdpb::PutStoreResponse put_answer;
  if (!pd_.stub().PutStore(&put_context, put, &put_answer).ok()) return false;
  pd_.OpenHeartbeats();
  if (!is.bootstrapped()) regions_->Lead(bootstrap.region(), peer->id());
  reports_ = std::make_unique<Every>(kReportPause, [this] { regions_->ReportAll(); });
  store_reports_ = std::make_unique<Every>(kStoreReportPause, [this] {
    grpc::ClientContext context;
    pdpb::StoreHeartbeatRequest request;
    request.mutable_header()->set_cluster_id(kClusterId);
    request.mutable_stats()->set_store_id(store_id_);
    request.mutable_stats()->set_region_count(static_cast<uint32_t>(regions_->Led().size()));
    pdpb::StoreHeartbeatResponse answer;
    pd_.stub().StoreHeartbeat(&context, request, &answer);
  });
  return true;
}

void StoreNode::Order(const std::vector<std::string>& words) {
  if (words[0] == "splits" && words.size() == 2) {
    splitter_.reset();
    if (const int pause = std::stoi(words[1]); pause > 0)
      splitter_ = std::make_unique<Every>(std::chrono::milliseconds(pause), [this] { SplitSome(); });
  } else if (words[0] == "cut" && words.size() == 2) {
    while (regions_->Led().size() < std::stoul(words[1]))
      for (const metapb::Region& region : regions_->Led()) Split(region);
    Say("cut");
  } else if (words[0] == "fault" && words.size() >= 2) {
    const std::lock_guard lock(fault_mutex_);
    narrow_share_ = words[1] == "tikv_narrow" && words.size() == 3 ? std::stod(words[2]) : 0;
    cut_.clear();
  } else {
    Say("problem", {{"text", "no such order: " + words[0]}});
  }
}

std::string StoreNode::AddressOf(uint64_t store_id) {
  grpc::ClientContext context;
  pdpb::GetStoreRequest request;
  request.mutable_header()->set_cluster_id(kClusterId);
  request.set_store_id(store_id);
  pdpb::GetStoreResponse answer;
  pd_.stub().GetStore(&context, request, &answer);
  return answer.store().address();
}

void StoreNode::SplitSome() {
  const std::vector<metapb::Region> led = regions_->Led();
  if (led.empty() || led.size() >= kMostRegions) return;
  Split(led[static_cast<size_t>(chance_.Of(0, static_cast<int64_t>(led.size()) - 1))]);
}

void StoreNode::Split(const metapb::Region& region) {
  const auto [first, end] = RowsOf(region);
  if (end - first < 2 * kNarrowestRows) return;
  const std::string key = Encoded(RowKey(kTable, chance_.Of(first + kNarrowestRows, end - kNarrowestRows)));
  pdpb::AskBatchSplitRequest ask;
  ask.mutable_header()->set_cluster_id(kClusterId);
  *ask.mutable_region() = region;
  ask.set_split_count(1);
  pdpb::AskBatchSplitResponse ids;
  grpc::ClientContext ask_context, report_context;
  if (!pd_.stub().AskBatchSplit(&ask_context, ask, &ids).ok() || ids.ids_size() != 1) return;
  const auto halves = regions_->Split(region, key, ids.ids(0));
  if (!halves) return;
  pdpb::ReportBatchSplitRequest report;
  *report.mutable_header() = ask.header();
  for (const metapb::Region& half : *halves) *report.add_regions() = half;
  pdpb::ReportBatchSplitResponse answer;
  pd_.stub().ReportBatchSplit(&report_context, report, &answer);
  Say("split", {{"region_id", region.id()}, {"version", region.region_epoch().version() + 1}});
}

std::optional<CheckedRange> StoreNode::CutShort(const metapb::Region& region) {
  const std::lock_guard lock(fault_mutex_);
  if (narrow_share_ <= 0) return {};
  const auto [first, end] = RowsOf(region);
  const auto [at, fresh] = cut_.try_emplace({region.id(), region.region_epoch().version()});
  if (fresh && end - first >= kNarrowestRows && chance_.Hit(0.5))
    at->second = Encoded(RowKey(kTable, first + (end - first) / 2));
  if (at->second.empty() || !chance_.Hit(narrow_share_)) return {};
  return CheckedRange{region.id(), region.start_key(), at->second};
}

Answer StoreNode::Answered(const Question& question, const std::string& client) {
  const kvrpcpb::Context* context = ContextOf(question);
  metapb::Region region;
  if (context == nullptr) return {};
  if (const auto error = regions_->Check(*context, region)) return WithRegionError(question, *error);
  CheckedRange range{region.id(), region.start_key(), region.end_key()};
  Outside outside = FirstOutside(question, range);
  bool cut_short = false;
  if (!outside.found) {
    const std::optional<CheckedRange> cut = CutShort(region);
    if (!cut) return Served(question);
    outside = FirstOutside(question, *cut);
    if (!outside.found) return Served(question);
    range = *cut;
    cut_short = true;
  }
  nlohmann::json fields{{"client", client},
                        {"region_id", region.id()},
                        {"version", region.region_epoch().version()},
                        {"key", Hex(Encoded(outside.start))},
                        {"said_end", Hex(range.end)}};
  if (cut_short) {
    fields["component"] = "tikv";
    fields["true_end"] = Hex(region.end_key());
    Say("fault", fields);
  }
  Say("refused", fields);
  return Refused(question, outside, range);
}

Status StoreNode::BatchCommands(
    ServerContext* context,
    grpc::ServerReaderWriter<tikvpb::BatchCommandsResponse, tikvpb::BatchCommandsRequest>* stream) {
  const std::string client = HostOf(context->peer());
  tikvpb::BatchCommandsRequest batch;
  while (stream->Read(&batch)) {
    tikvpb::BatchCommandsResponse answers;
    for (int i = 0; i < batch.requests_size(); ++i) {
      *answers.add_responses() = Answered(batch.requests(i), client);
      answers.add_request_ids(batch.request_ids(i));
    }
    answers.set_transport_layer_load(1);
    if (!stream->Write(answers)) break;
  }
  return Status::OK;
}

Status StoreNode::BatchRaft(ServerContext*, grpc::ServerReader<tikvpb::BatchRaftMessage>* stream,
                            raft_serverpb::Done*) {
  tikvpb::BatchRaftMessage batch;
  while (stream->Read(&batch))
    for (const raft_serverpb::RaftMessage& message : batch.msgs()) regions_->Receive(message);
  return Status::OK;
}

Status StoreNode::Snapshot(ServerContext*, grpc::ServerReader<raft_serverpb::SnapshotChunk>* stream,
                           raft_serverpb::Done*) {
  raft_serverpb::SnapshotChunk chunk;
  while (stream->Read(&chunk))
    if (chunk.has_message()) regions_->Receive(chunk.message());
  return Status::OK;
}

}  // namespace

int RunStore(const std::string& address, const std::string& pd, uint64_t seed) {
  StoreNode node(address, pd, seed);
  if (!node.Join()) {
    Say("problem", {{"text", "PD at " + pd + " does not answer"}});
    return 1;
  }
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
  node.Stop();
  server->Shutdown(std::chrono::system_clock::now());
  return 0;
}

}  // namespace keytrail::live
