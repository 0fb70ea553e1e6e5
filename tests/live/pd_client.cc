#include "tests/live/pd_client.h"

#include <grpcpp/grpcpp.h>

#include "pdpb.grpc.pb.h"
#include "tests/live/node.h"

namespace keytrail::live {

namespace {

constexpr std::chrono::seconds kTimeout{5};
constexpr int kScanLimit = 128;  // client-go's defaultRegionsPerBatch
constexpr int kPreloadLimit = 10000;

class Patience {
 public:
  Patience() { context_.set_deadline(std::chrono::system_clock::now() + kTimeout); }
  grpc::ClientContext* operator&() { return &context_; }

 private:
  grpc::ClientContext context_;
};

template <typename Request>
Request Headed() {
  Request request;
  request.mutable_header()->set_cluster_id(kClusterId);
  request.mutable_header()->set_caller_id("tidb-server");
  request.mutable_header()->set_caller_component("region-cache");
  return request;
}

}  // namespace

struct PdClient::Stub {
  std::unique_ptr<pdpb::PD::Stub> pd;
};

struct PdClient::TsoStream {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<pdpb::TsoRequest, pdpb::TsoResponse>> stream;
};

PdClient::PdClient(const std::string& address) : stub_(std::make_unique<Stub>()) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub_->pd =
      pdpb::PD::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
}

PdClient::~PdClient() {
  if (!tso_) return;
  tso_->context.TryCancel();
  tso_->stream->Finish();
}

bool PdClient::Greet() {
  Patience context;
  pdpb::GetMembersResponse answer;
  return stub_->pd->GetMembers(&context, Headed<pdpb::GetMembersRequest>(), &answer).ok();
}

std::optional<Route> PdClient::RegionOf(const std::string& encoded) {
  Patience context;
  auto request = Headed<pdpb::GetRegionRequest>();
  request.set_region_key(encoded);
  request.set_need_buckets(true);
  pdpb::GetRegionResponse answer;
  if (!stub_->pd->GetRegion(&context, request, &answer).ok() || !answer.has_region()) return {};
  return Route{answer.region(), answer.leader()};
}

std::optional<std::vector<Route>> PdClient::RegionsOf(const std::string& start, const std::string& end) {
  Patience context;
  auto request = Headed<pdpb::BatchScanRegionsRequest>();
  pdpb::KeyRange* range = request.add_ranges();
  range->set_start_key(start);
  range->set_end_key(end);
  request.set_limit(kScanLimit);
  request.set_contain_all_key_range(true);
  pdpb::BatchScanRegionsResponse answer;
  if (!stub_->pd->BatchScanRegions(&context, request, &answer).ok() || answer.header().has_error()) return {};
  std::vector<Route> routes;
  for (const pdpb::Region& region : answer.regions()) routes.push_back({region.region(), region.leader()});
  return routes;
}

std::vector<Route> PdClient::AllRegions() {
  Patience context;
  auto request = Headed<pdpb::ScanRegionsRequest>();
  request.set_limit(kPreloadLimit);
  pdpb::ScanRegionsResponse answer;
  std::vector<Route> routes;
  if (!stub_->pd->ScanRegions(&context, request, &answer).ok()) return routes;
  for (const pdpb::Region& region : answer.regions()) routes.push_back({region.region(), region.leader()});
  return routes;
}

std::string PdClient::StoreAddress(uint64_t store_id) {
  Patience context;
  auto request = Headed<pdpb::GetStoreRequest>();
  request.set_store_id(store_id);
  pdpb::GetStoreResponse answer;
  stub_->pd->GetStore(&context, request, &answer);
  return answer.store().address();
}

void PdClient::RefreshStores() {
  Patience context;
  pdpb::GetAllStoresResponse answer;
  stub_->pd->GetAllStores(&context, Headed<pdpb::GetAllStoresRequest>(), &answer);
}

uint64_t PdClient::Timestamp() {
  const std::lock_guard lock(tso_mutex_);
  if (!tso_) {
    tso_ = std::make_unique<TsoStream>();
    tso_->stream = stub_->pd->Tso(&tso_->context);
  }
  pdpb::TsoRequest request;
  request.mutable_header()->set_cluster_id(kClusterId);
  request.set_count(1);
  pdpb::TsoResponse answer;
  if (!tso_->stream->Write(request) || !tso_->stream->Read(&answer)) {
    tso_->context.TryCancel();
    tso_->stream->Finish();
    tso_.reset();
    return 0;
  }
  return static_cast<uint64_t>(answer.timestamp().physical() << 18 | answer.timestamp().logical());
}

}  // namespace keytrail::live
