// Where the `keytrail` commands get their answers from: a database file, or a collector that is asked over
// gRPC. Both give the same, since the service answers from a database source of its own.
//
// One thread at a time asks a source; Cancel() may come from any thread. Errors are sentences with the path
// or address in them.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "collector/correlate/report_model.h"
#include "collector/store/sandbox.h"
#include "common/redaction.h"
#include "common/result.h"

namespace keytrail {

// One start of an agent, as the view `agent_progress` has it.
struct AgentProgress {
  uint64_t id = 0;
  std::string key;
  std::string host;
  std::string role;
  uint64_t epoch = 0;
  std::string hostname;
  std::string version;
  std::string input;
  int64_t first_seen_ns = 0;  // collector's clock
  int64_t last_seen_ns = 0;
  uint64_t batches = 0;
  uint64_t records = 0;
  uint64_t losses = 0;
  std::optional<double> records_per_s;  // of late; none: not measured
  double mean_records_per_s = 0;
  Redaction redaction;
};

// What the service of a collector did since it began (proto/keytrail/query.proto, QueryStats).
struct ServiceStats {
  uint64_t running = 0;
  uint64_t waiting = 0;
  uint64_t answered = 0;
  uint64_t row_limited = 0;
  uint64_t timed_out = 0;
  uint64_t cancelled = 0;
  uint64_t refused = 0;
  uint64_t wrong = 0;
  uint64_t turned_away = 0;
  uint64_t out_of_memory = 0;
  uint64_t aborted = 0;
  uint64_t watchers = 0;
};

struct AgentsReport {
  std::vector<AgentProgress> agents;
  int64_t now_ns = 0;                   // collector's clock
  std::optional<ServiceStats> queries;  // none: a file was read
};

// A row of the view `lost`.
struct LostEntry {
  std::string host;
  std::string kind;
  uint64_t count = 0;
  std::optional<int64_t> first_ns;
  std::optional<int64_t> last_ns;
  std::string clock;
  std::string meaning;
};

// A verdict without its evidence.
struct VerdictLine {
  uint64_t id = 0;
  std::string component;
  bool certain = false;
  std::string rule;
  std::string client;
  std::string server;
  uint64_t region_id = 0;
  uint64_t version = 0;
  uint64_t occurrences = 0;
  int64_t first_ns = 0;
  int64_t last_ns = 0;
  std::string text;
  bool is_new = false;
  bool withdrawn = false;
};

struct LossLine {
  std::string host;
  std::string kind;
  uint64_t count = 0;
  uint64_t total = 0;
};

// What changed, or how fast it goes.
struct WatchEvent {
  int64_t at_ns = 0;  // collector's clock
  std::variant<std::vector<AgentProgress>, VerdictLine, LossLine, AgentProgress> what;
};
// False: no more.
using WatchVisitor = std::function<bool(const WatchEvent&)>;

// A statement, or a saved query; in both cases with parameters and limits. Limits of 0: the source's own.
struct SqlRequest {
  std::string sql;
  std::string named;  // not empty: instead of `sql`
  std::map<std::string, Store::QueryValue> parameters;
  uint64_t max_rows = 0;
  int64_t max_time_ns = 0;
  std::string purpose;  // what asks, if it is no statement of a person: "timeline"
};

class AnswerSource {
 public:
  virtual ~AnswerSource() = default;

  virtual SqlOutcome Sql(const SqlRequest& request, const ColumnVisitor& on_columns,
                         const RowVisitor& on_row) = 0;
  virtual Result<InvestigationReport> Report() = 0;
  virtual Result<AgentsReport> Agents() = 0;
  virtual Result<std::vector<LostEntry>> Losses() = 0;
  // Until `visit` wants no more or Cancel() is called.
  virtual Status Watch(const WatchVisitor& visit) = 0;
  // Ends what is being asked, if anything is.
  virtual void Cancel() = 0;
};

// Error: path and reason.
Result<std::unique_ptr<AnswerSource>> OpenDatabaseSource(const std::string& path);
// Files (PEM) for a collector that answers over TLS.
struct ClientTls {
  std::string ca;           // who signed the collector's certificate; empty: plain text
  std::string certificate;  // ours, if the collector wants one
  std::string key;          // of ours
  std::string name;         // what the certificate says; empty: the address's host
};
// HOST:PORT or unix:PATH of a collector. Error if none answers there, or the address is not of this host and
// there is no TLS.
// `stop`: given up soon after it is true.
Result<std::unique_ptr<AnswerSource>> ConnectToCollector(const std::string& address, const ClientTls& tls = {},
                                                         const std::atomic<bool>* stop = nullptr);

// Error if `address` is none, or one that other hosts reach while there is no TLS.
Status CheckQueryAddress(const std::string& address, bool with_tls = false);

}  // namespace keytrail
