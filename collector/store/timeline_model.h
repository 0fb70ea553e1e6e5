// What a timeline shows: logical calls with both of their views on one clock, what they said, what the
// verdicts say of them, and which led to which. Plain values; made by timeline_rows.h, drawn by
// collector/report.
//
// Times are ns since 1970 on the reference host's clock; nothing: not seen, or seen by a clock that is not
// related to the reference. Keys are encoded. Texts are as they were on the wire: who prints them makes
// them plain (common/plain_text.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "collector/correlate/report_model.h"

namespace keytrail {

// What the user wants to see, and how much of it.
struct TimelineQuestion {
  enum class About : uint8_t { kVerdict, kKey, kRegion, kStartTs, kConnection, kTime };
  About about = About::kTime;
  uint64_t number = 0;            // the verdict, region, start_ts or SQL connection
  std::vector<std::string> keys;  // of kKey: the encoded forms that the user may mean
  std::optional<int64_t> from_ns;
  std::optional<int64_t> to_ns;  // inclusive
  // Calls about the same region are shown, too, this long before and after what is marked or refused.
  int64_t around_ns = 0;
  size_t most_calls = 0;  // more are counted and left out
};

struct TimelineTimes {
  std::optional<int64_t> req_first;
  std::optional<int64_t> req_last;
  std::optional<int64_t> resp_first;
  std::optional<int64_t> resp_last;

  std::optional<int64_t> Asked() const { return req_first ? req_first : req_last; }
  std::optional<int64_t> Answered() const { return resp_last ? resp_last : resp_first; }
  std::optional<int64_t> First() const { return Asked() ? Asked() : resp_first ? resp_first : resp_last; }
  std::optional<int64_t> Last() const { return Answered() ? Answered() : req_last ? req_last : req_first; }
};

// One observation of a call.
struct TimelineView {
  uint64_t call_id = 0;  // calls.id
  uint32_t agent = 0;    // agents.id
  std::string observer;  // host, or the agent's name if nobody knows where it stands
  // False: the observer's clock is not related to the reference; the times are the observer's own.
  bool on_reference = true;
  int64_t clock_error_ns = 0;  // the times are right within this
  // By how much the view was moved, so that nothing arrives before it was sent: clocks are known within an
  // error only.
  int64_t moved_ns = 0;
  TimelineTimes times;
};

// A process at one end of a call.
struct TimelineEnd {
  std::string host;      // its name, else its address
  std::string address;   // without port
  std::string endpoint;  // address:port
  std::string role;      // tidb, pd, tikv, client, unknown
};

struct TimelineKey {
  std::string start;
  std::optional<std::string> end;  // of a range; empty: +infinity
};

struct TimelineStatement {
  uint64_t id = 0;  // statements.id
  std::string source;
  uint64_t region_id = 0;
  std::optional<uint64_t> version;
  std::string start;
  std::string end;
};

struct TimelineError {
  std::string kind;
  std::string text;
  std::optional<uint64_t> region_id;
  std::optional<std::string> key;
  std::optional<std::string> range_start;
  std::optional<std::string> range_end;
  std::optional<std::string> bounds_start;  // where the server says that the region lies
  std::optional<std::string> bounds_end;
};

// What a verdict says of a call.
struct TimelineMark {
  uint64_t verdict = 0;
  // said, used, refused, witness, served as in the evidence; again: refused for the same cause
  std::string label;
  std::string note;
  bool on_request = false;    // else it speaks of the response
  bool guilty = false;        // this is the wrong statement
  uint64_t statement_id = 0;  // 0: none
  int64_t time_ns = 0;        // when, as the verdict says; 0: it does not
};

struct TimelineCall {
  TimelineEnd client;
  TimelineEnd server;
  bool client_known = true;
  std::string method;   // "/service/method"; empty: unknown
  std::string command;  // BatchCommands sub-command
  std::string kind;     // unary, sub, message
  std::string method_from;
  uint64_t stream = 0;
  std::optional<uint64_t> request_id;
  std::optional<uint64_t> region_id;
  std::optional<uint64_t> conf_ver;
  std::optional<uint64_t> version;
  std::optional<uint64_t> start_ts;
  std::optional<uint64_t> sql_connection;
  std::optional<int64_t> grpc_status;
  std::string grpc_message;
  std::string incomplete;  // reasons, comma separated
  std::vector<TimelineKey> keys;
  uint64_t more_keys = 0;
  std::vector<TimelineStatement> statements;
  uint64_t more_statements = 0;
  std::vector<TimelineError> errors;
  std::vector<uint64_t> asked_regions;
  std::vector<TimelineMark> marks;

  std::optional<TimelineView> at_client;
  std::optional<TimelineView> at_server;
  std::optional<TimelineView> between;  // of an observer that is neither, or stands nobody knows where

  bool asked_for = true;  // false: not what the question names, but about the same region at that time
  bool refused = false;   // answered with an error about its route or its keys' range
  bool followed = false;  // refused, and it was looked for what its client did in the seconds after

  const TimelineView& view() const { return at_client ? *at_client : at_server ? *at_server : *between; }
  const TimelineView* other() const { return at_client && at_server ? &*at_server : nullptr; }
};

// How long after a refusal its client's next steps are looked for: a refused request is tried again within
// milliseconds, by a client that backs off within two seconds (client-go's regionMiss and tikvRPC).
inline constexpr int64_t kTimelineFollowNs = 3'000'000'000;

// One call led to another. `from` and `to` are positions in Timeline::calls; `from` comes first.
struct TimelineLink {
  enum class Kind : uint8_t {
    kRoute,  // what was told in `from` is where `to` was sent
    kAsk,    // after `from` was refused, `to` asked for the region again
    kRetry,  // what was refused in `from` was sent again as `to`
  };
  Kind kind = Kind::kRoute;
  size_t from = 0;
  size_t to = 0;
  uint64_t statement_id = 0;  // of kRoute: the one that told
};

struct Timeline {
  TimelineQuestion question;
  std::optional<Verdict> verdict;   // of a kVerdict question
  std::vector<TimelineCall> calls;  // by time; calls without a time on the reference's clock last
  std::vector<TimelineLink> links;
  uint64_t found = 0;         // calls that the question names or that belong to them
  uint64_t left_out = 0;      // of these: more than most_calls
  uint64_t unread = 0;        // observations beyond limits::kMaxTimelineObservations, not even looked at
  uint64_t refused_left = 0;  // refused calls among `left_out`
  std::string reference;      // host whose clock the times are of; empty: no clock is related to another
  std::vector<HostReport> hosts;
};

}  // namespace keytrail
