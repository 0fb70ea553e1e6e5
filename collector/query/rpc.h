// The calls of the service. gRPC runs each in a thread of its own; what they share is in RpcState. For this
// room.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include <grpcpp/grpcpp.h>

#include "collector/query/pulse.h"
#include "collector/query/running_queries.h"
#include "collector/query/service.h"
#include "collector/query/turnstile.h"
#include "proto/keytrail/query.grpc.pb.h"

namespace keytrail {

// Any thread.
class RpcState {
 public:
  explicit RpcState(const QueryServiceOptions& service_options)
      : options(service_options), turnstile(service_options.running, service_options.waiting) {}

  const QueryServiceOptions options;
  Turnstile turnstile;
  RunningQueries running;

  // Running queries end as cancelled, waiting calls return.
  void Stop();
  bool stopping() const { return stopping_; }
  // True if Stop() was called.
  bool WaitForStop(std::chrono::milliseconds at_most);

  // The latest look at the database; null with a problem if there is none.
  void Publish(std::shared_ptr<const Beat> beat, const std::string& problem);
  // A look that is not `old`, or null after `at_most`; `problem` says why there is none at all.
  std::shared_ptr<const Beat> NextBeat(const Beat* old, std::chrono::milliseconds at_most,
                                       std::string& problem);

  struct {
    std::atomic<uint64_t> answered = 0, row_limited = 0, timed_out = 0, cancelled = 0, refused = 0, wrong = 0,
                          turned_away = 0, out_of_memory = 0, aborted = 0, watchers = 0;
  } counts;
  ServiceStats Stats() const;

 private:
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const Beat> beat_;
  std::string problem_;
};

class QueryRpc final : public query::Query::Service {
 public:
  explicit QueryRpc(RpcState& state) : state_(state) {}

  grpc::Status Sql(grpc::ServerContext* context, const query::SqlRequest* request,
                   grpc::ServerWriter<query::SqlAnswer>* out) override;
  grpc::Status Verdicts(grpc::ServerContext* context, const query::VerdictsRequest* request,
                        query::VerdictsAnswer* answer) override;
  grpc::Status Timeline(grpc::ServerContext* context, const query::TimelineRequest* request,
                        query::TimelineAnswer* answer) override;
  grpc::Status Agents(grpc::ServerContext* context, const query::AgentsRequest* request,
                      query::AgentsAnswer* answer) override;
  grpc::Status Losses(grpc::ServerContext* context, const query::LossesRequest* request,
                      query::LossesAnswer* answer) override;
  grpc::Status Watch(grpc::ServerContext* context, const query::WatchRequest* request,
                     grpc::ServerWriter<query::WatchEvent>* out) override;

 private:
  RpcState& state_;
};

}  // namespace keytrail
