// OperationsPort: /metrics (Prometheus text), /healthz and /readyz of a daemon, over HTTP. Plain text without
// a password, therefore for addresses of this host alone.
//
// Publish() copies and is for one thread that has just read its own counters: requests are answered from that
// copy by threads of the port, so nothing that decodes or stores ever takes a lock for a request.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/result.h"

namespace keytrail {

struct Measure {
  enum class Kind { kCounter, kGauge };
  std::string name;  // without the program's prefix; counters end in _total
  std::string help;
  Kind kind = Kind::kCounter;
  double value = 0;
};

struct OperationsState {
  std::vector<Measure> measures;
  std::string not_ready;  // a sentence; empty: ready
};

class OperationsPort {
 public:
  // address: ADDR:PORT, a numeric loopback address ([::1]:PORT, 127.0.0.1:PORT); port 0: any. Error: the
  // address and why.
  static Result<std::unique_ptr<OperationsPort>> Open(const std::string& address, const std::string& prefix);
  ~OperationsPort();

  void Publish(OperationsState state);
  // With the port that it got.
  const std::string& address() const;

 private:
  OperationsPort();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
