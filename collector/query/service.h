// The gRPC service of a collector (proto/keytrail/query.proto), with health and reflection, over a database
// file that somebody else writes.
//
// It has threads of its own, of low priority: while the writer has work, it goes first. Queries read through
// connections of their own, so that they never wait for the writer, nor it for them. The functions here may
// be called from one thread; nothing throws.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "collector/query/answer_source.h"
#include "common/limits.h"
#include "common/result.h"

namespace keytrail {

// Files (PEM). Read once: a renewed certificate counts from the next start.
struct ServiceTls {
  std::string certificate;  // with its chain
  std::string key;          // not readable by everybody
  std::string client_ca;    // not empty: clients need a certificate that one of these signed
  bool given() const { return !certificate.empty(); }
};

// The same, read: a program that gives up its rights reads them before.
struct ServicePem {
  std::string certificate;
  std::string key;
  std::string client_ca;
};

// Empty without TLS. Error: the option, the file, what is wrong with it, how to mend it.
Result<ServicePem> ReadServicePem(const ServiceTls& tls);

struct QueryServiceOptions {
  std::string address;  // HOST:PORT (PORT 0: any; of this host without TLS), or unix:PATH
  ServiceTls tls;
  std::optional<ServicePem> pem;  // of `tls`; if not given, Start() reads it
  std::string database;           // there already
  size_t running = limits::kMaxQueriesRunning;
  size_t waiting = limits::kMaxQueriesWaiting;
  size_t watchers = limits::kMaxWatchers;
  uint64_t max_rows = limits::kMaxQueryRows;
  int64_t max_time_ns = limits::kMaxQueryTimeNs;
  int threads = limits::kMaxServiceThreads;
  int handshake_ms = limits::kMaxQueryHandshakeMs;
  int idle_ms = limits::kMaxQueryIdleMs;
  uint64_t max_log_bytes = limits::kMaxLogBytes;
  // How long queries that run may go on when the log is too large.
  int64_t log_patience_ns = 10'000'000'000;
};

class QueryService {
 public:
  // Error: the address and the reason, also if it is not of this host alone and there is no TLS.
  static Result<std::unique_ptr<QueryService>> Start(const QueryServiceOptions& options);
  // Ends running queries and waits for them.
  ~QueryService();

  // Where it listens, with the port that it got.
  const std::string& address() const;
  ServiceStats stats() const;
  // What people should know, since the last call: sentences.
  std::vector<std::string> TakeNotices();

 private:
  QueryService();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
