#include "tests/live/load.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <memory>
#include <thread>
#include <vector>

#include "tests/live/keys.h"
#include "tikvpb.grpc.pb.h"

namespace keytrail::live {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWarmCalls = 200;    // a caller's calls before the measured ones: connections, tables, caches
constexpr int64_t kRows = 100000;  // of the table that is read
constexpr int64_t kRowsPerRegion = 1000;  // as if it had this many

int64_t ProcessorNs() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

class GetService final : public tikvpb::Tikv::Service {
 public:
  GetService(uint32_t value_bytes, uint32_t work_us)
      : value_(value_bytes, 'v'), work_ns_(int64_t{work_us} * 1000) {}
  grpc::Status KvGet(grpc::ServerContext*, const kvrpcpb::GetRequest*,
                     kvrpcpb::GetResponse* answer) override {
    answer->set_value(value_);
    if (work_ns_ != 0) {
      for (const int64_t end = ProcessorNs() + work_ns_; ProcessorNs() < end;) {
      }
    }
    return grpc::Status::OK;
  }

 private:
  const std::string value_;
  const int64_t work_ns_;
};

// One caller: calls until the time is over, and keeps how long each took.
class Caller {
 public:
  Caller(std::shared_ptr<grpc::Channel> channel, uint64_t seed)
      : stub_(tikvpb::Tikv::NewStub(channel)), seed_(seed) {
    request_.mutable_context()->mutable_region_epoch()->set_conf_ver(1);
    request_.mutable_context()->mutable_peer()->set_store_id(1);
    request_.mutable_context()->set_keyspace_id(0xFFFFFFFF);
    request_.mutable_context()->set_request_source("leader_external_Select");
  }

  void Warm() {
    for (int i = 0; i < kWarmCalls; ++i) Call();
    failed_ = 0;
  }

  void Run(Clock::time_point start, Clock::time_point end, double rate, std::atomic<uint64_t>& next) {
    for (;;) {
      Clock::time_point due = Clock::now();
      if (rate > 0) {
        const double after_s = static_cast<double>(next.fetch_add(1)) / rate;
        due = start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(after_s));
        if (due >= end) return;
        std::this_thread::sleep_until(due);
      }
      if (due >= end) return;
      Call();
      taken_ns_.push_back((Clock::now() - due).count());
    }
  }

  const std::vector<int64_t>& taken_ns() const { return taken_ns_; }
  uint64_t failed() const { return failed_; }

 private:
  void Call() {
    seed_ = seed_ * 6364136223846793005u + 1442695040888963407u;
    const int64_t row = static_cast<int64_t>(seed_ >> 33) % kRows;
    request_.mutable_context()->set_region_id(static_cast<uint64_t>(row / kRowsPerRegion) + 2);
    request_.mutable_context()->mutable_region_epoch()->set_version(1 + static_cast<uint64_t>(row % 7));
    request_.mutable_context()->mutable_peer()->set_id(static_cast<uint64_t>(row / kRowsPerRegion) + 3);
    request_.set_key(RowKey(53, row));
    request_.set_version(450000000000000000u + ++calls_);
    grpc::ClientContext context;
    kvrpcpb::GetResponse answer;
    if (!stub_->KvGet(&context, request_, &answer).ok()) ++failed_;
  }

  std::unique_ptr<tikvpb::Tikv::Stub> stub_;
  kvrpcpb::GetRequest request_;
  std::vector<int64_t> taken_ns_;
  uint64_t seed_;
  uint64_t calls_ = 0;
  uint64_t failed_ = 0;
};

double Microseconds(const std::vector<int64_t>& sorted, double share) {
  if (sorted.empty()) return 0;
  const auto at = static_cast<size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5);
  return static_cast<double>(sorted[at]) / 1000;
}

}  // namespace

int Serve(const std::string& address, uint32_t value_bytes, uint32_t work_us) {
  GetService service(value_bytes, work_us);
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!server) {
    std::fprintf(stderr, "live_node: cannot listen at %s\n", address.c_str());
    return 1;
  }
  std::printf("{\"event\": \"ready\"}\n");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  return 0;
}

int Load(const LoadPlan& plan) {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (uint32_t i = 0; i < plan.connections; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    channels.push_back(
        grpc::CreateCustomChannel(plan.address, grpc::InsecureChannelCredentials(), arguments));
    if (!channels.back()->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10))) {
      std::fprintf(stderr, "live_node: no connection to %s\n", plan.address.c_str());
      return 1;
    }
  }
  std::vector<std::unique_ptr<Caller>> callers;
  for (uint32_t i = 0; i < plan.concurrency; ++i)
    callers.push_back(std::make_unique<Caller>(channels[i % channels.size()], i + 1));
  const auto on_all = [&](auto&& work) {
    std::vector<std::thread> threads;
    for (auto& caller : callers) threads.emplace_back([&] { work(*caller); });
    for (std::thread& thread : threads) thread.join();
  };
  on_all([](Caller& caller) { caller.Warm(); });
  std::atomic<uint64_t> next{0};
  const Clock::time_point start = Clock::now();
  const Clock::time_point end =
      start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(plan.seconds));
  on_all([&](Caller& caller) { caller.Run(start, end, plan.rate, next); });
  const double took_s = std::chrono::duration<double>(Clock::now() - start).count();

  std::vector<int64_t> all;
  uint64_t failed = 0;
  for (const auto& caller : callers) {
    all.insert(all.end(), caller->taken_ns().begin(), caller->taken_ns().end());
    failed += caller->failed();
  }
  std::sort(all.begin(), all.end());
  std::printf(
      "{\"seconds\": %.3f, \"calls\": %zu, \"failed\": %" PRIu64
      ", \"throughput\": %.1f, \"median_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n",
      took_s, all.size(), failed, static_cast<double>(all.size()) / took_s, Microseconds(all, 0.5),
      Microseconds(all, 0.9), Microseconds(all, 0.99), Microseconds(all, 1));
  return failed == 0 ? 0 : 1;
}

}  // namespace keytrail::live
