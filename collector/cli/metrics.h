// What a collector says of itself at --metrics (docs/metrics.md): /metrics, /healthz, /readyz.
//
// The receiving thread hands over a copy of its figures a few times in a second at most; requests are
// answered from that copy, and from the query service's own figures, by threads of the port.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "collector/query/service.h"
#include "collector/receive/receiver.h"
#include "common/operations_port.h"
#include "common/result.h"

namespace keytrail {

inline constexpr char kCollectorMetricPrefix[] = "keytrail_collector_";

struct CollectorFigures {
  ReceiverStats receiver;
  size_t verdicts = 0;
  std::string problem;  // why nothing can be stored; empty: nothing is known
};

class CollectorMetrics {
 public:
  // service may be null: no queries are answered; else it must outlive this. Error: as OperationsPort::Open()
  // gives it.
  static Result<std::unique_ptr<CollectorMetrics>> Open(const std::string& address,
                                                        const QueryService* service);

  // With the port that it got.
  const std::string& address() const { return port_->address(); }

  // Whether the copy is old enough for another one.
  bool Due();
  void Publish(CollectorFigures figures);

 private:
  explicit CollectorMetrics(const QueryService* service) : service_(service) {}
  OperationsState State() const;

  const QueryService* const service_;
  int64_t next_ns_ = 0;  // the receiving thread's

  mutable std::mutex mutex_;  // guards what follows
  bool begun_ = false;
  CollectorFigures figures_;

  std::unique_ptr<OperationsPort> port_;  // goes first: its threads use the rest
};

}  // namespace keytrail
