// The calls of the service. gRPC runs each in a thread of its own; what they share is in RpcState. For this
// room.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "collector/query/audit_log.h"
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
      : options(service_options), turnstile(service_options.running, service_options.waiting) {
    if (const auto folder = AuditLog::FolderOf(options.database)) audit.emplace(*folder);
  }

  const QueryServiceOptions options;
  Turnstile turnstile;
  RunningQueries running;
  std::optional<AuditLog> audit;  // none: the database lies in no collector's folder

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

  // What people should know: that the audit log cannot be written, once each.
  void NoteAudit(const Status& appended);
  std::vector<std::string> TakeNotices();

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
  std::string audit_problem_;
  std::vector<std::string> notices_;
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
  grpc::Status RunSql(grpc::ServerContext& context, const query::SqlRequest& request,
                      grpc::ServerWriter<query::SqlAnswer>& out, AuditEntry& entry);
  grpc::Status RunWatch(grpc::ServerContext& context, grpc::ServerWriter<query::WatchEvent>& out,
                        AuditEntry& entry);

  RpcState& state_;
};

}  // namespace keytrail
