// OperationsPort: /metrics (Prometheus text), /healthz and /readyz of a daemon, over HTTP. Plain text without
// a password, therefore for addresses of this host alone.
//
// A request is answered on a thread of the port, which asks the program for its state then: nothing is made
// while nobody asks. What that thread reads is the program's to guard.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/result.h"

namespace keytrail {

struct Measure {
  enum class Kind { kCounter, kGauge };
  std::string name;  // without the program's prefix; counters end in _total
  std::string help;
  Kind kind = Kind::kCounter;
  double value = 0;
  // Measures of one name with different labels follow each other.
  std::vector<std::pair<std::string, std::string>> labels;
};

struct OperationsState {
  std::vector<Measure> measures;
  std::string not_ready;  // a sentence; empty: ready
};

// ADDR:PORT, a numeric loopback address ([::1]:PORT, 127.0.0.1:PORT); port 0: any. Error: the address and why
// it is none.
Status CheckOperationsAddress(const std::string& address);
// The same as CLI11 wants it of a check: empty, or what is wrong.
inline std::string OperationsAddressProblem(const std::string& address) {
  const Status status = CheckOperationsAddress(address);
  return status.ok() ? std::string() : status.error();
}

class OperationsPort {
 public:
  using Ask = std::function<OperationsState()>;
  // `ask` is called by threads of the port, one or two at a time, until the port is gone. Error: the address
  // and why.
  static Result<std::unique_ptr<OperationsPort>> Open(const std::string& address, const std::string& prefix,
                                                      Ask ask);
  // Waits for requests that are being answered.
  ~OperationsPort();

  // With the port that it got.
  const std::string& address() const;

 private:
  OperationsPort();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
