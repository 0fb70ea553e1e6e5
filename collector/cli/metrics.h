// What a collector says of itself at --metrics (docs/metrics.md): /metrics, /healthz, /readyz.
//
// The receiving thread hands over a copy of its figures a few times in a second at most; requests are
// answered from that copy, and from the query service's own figures, by threads of the port.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "collector/query/service.h"
#include "collector/receive/receiver.h"
#include "collector/store/store.h"
#include "common/operations_port.h"
#include "common/result.h"

namespace keytrail {

inline constexpr char kCollectorMetricPrefix[] = "keytrail_collector_";

struct JudgingFigures {
  std::map<std::string, uint64_t> verdicts;  // of the last report, by the component that is to blame
  uint64_t inconclusive = 0;
  uint64_t reports = 0;  // written
  uint64_t failures = 0;
  int64_t spent_ns = 0;
  std::string error;  // why the last report could not be written; empty: it was
};

struct CollectorFigures {
  ReceiverStats receiver;
  std::vector<AgentSession> agents;
  StoreSize store;
  std::string store_error;  // why the store took no batch; empty: it did
  JudgingFigures judging;
  uint64_t held_records = 0;  // by the correlator
  uint64_t held_connections = 0;
};

class CollectorMetrics {
 public:
  // Not ready until NotReady("") is called. data: the folder of the files. Error: as OperationsPort::Open()
  // gives it.
  static Result<std::unique_ptr<CollectorMetrics>> Open(const std::string& address, const std::string& data);

  // With the port that it got.
  const std::string& address() const { return port_->address(); }

  // Whether the copy is old enough for another one.
  bool Due();
  void Publish(CollectorFigures figures);
  // Why it is not ready whatever the figures say, a sentence; empty: they alone count.
  void NotReady(const std::string& why);
  // Null: no queries are answered, or not any more.
  void Answers(const QueryService* service);

 private:
  explicit CollectorMetrics(const std::string& data) : data_(data) {}
  OperationsState State() const;

  const std::string data_;
  int64_t next_ns_ = 0;  // the receiving thread's

  mutable std::mutex mutex_;  // guards what follows
  std::string not_ready_ = "the collector reads what is stored; agents are not heard yet";
  const QueryService* service_ = nullptr;
  CollectorFigures figures_;

  std::unique_ptr<OperationsPort> port_;  // goes first: its threads use the rest
};

}  // namespace keytrail
