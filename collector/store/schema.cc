#include "collector/store/schema.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <string_view>

#include "collector/store/question_views.h"

namespace keytrail {

namespace {

constexpr char kInt[] = "INTEGER";
constexpr char kIntNotNull[] = "INTEGER NOT NULL";
constexpr char kKey[] = "INTEGER PRIMARY KEY";
constexpr char kText[] = "TEXT";
constexpr char kTextNotNull[] = "TEXT NOT NULL";
constexpr char kBlob[] = "BLOB";
constexpr char kBlobNotNull[] = "BLOB NOT NULL";

constexpr ColumnDescription kAgents[] = {
    {"id", kKey, "number of this start of an agent, used as `agent` everywhere"},
    {"agent_key", kTextNotNull, "the agent's name on the wire, the same after a restart"},
    {"name", kText, "host name given by the user; null: none"},
    {"role", kText, "tidb, pd or tikv, given by the user; null: found from the traffic"},
    {"epoch", kIntNotNull, "random number of this start"},
    {"last_sequence", kIntNotNull, "batches up to this one are stored"},
    {"hostname", kText, "what the host calls itself"},
    {"version", kText, "version of the agent"},
    {"input", kText, "device or file that it reads"},
    {"first_seen_ns", kIntNotNull, "collector's clock at the first hello"},
    {"last_seen_ns", kIntNotNull, "collector's clock at the last commit"},
    {"redaction", kText, "off: keys are as they are; on: they are tokens; null: its version does not tell",
     4},
    {"redact_secret", kText, "of on: fingerprint of the secret; tokens of two secrets cannot be compared", 4},
};

constexpr ColumnDescription kMethods[] = {
    {"id", kKey, "number of the method"},
    {"method", kText, "/service/method; null: unknown"},
    {"command", kText, "name of the BatchCommands oneof, such as Get; null: no sub-command"},
};

constexpr ColumnDescription kConnections[] = {
    {"id", kKey, "number of the connection; a new row when more became known of it"},
    {"agent", kIntNotNull, "agents.id"},
    {"serial", kIntNotNull, "the agent's own number of it"},
    {"client", kTextNotNull, "address:port of the HTTP/2 client"},
    {"client_address", kTextNotNull, "its address alone"},
    {"server", kTextNotNull, "address:port of the HTTP/2 server"},
    {"server_address", kTextNotNull, "its address alone"},
    {"client_known", kIntNotNull, "0: nobody knows which end is the client"},
    {"joined", kTextNotNull, "start: the connection's preface was seen; late: it was not"},
    {"client_pid", kInt, "process of the client; null: not on the agent's own host, or not known", 5},
    {"client_process", kText, "its name as Linux keeps it, 15 bytes at most", 5},
    {"server_pid", kInt, "process of the server; null: not on the agent's own host, or not known", 5},
    {"server_process", kText, "its name as Linux keeps it, 15 bytes at most", 5},
};

constexpr ColumnDescription kCallRows[] = {
    {"id", kKey, "number of the observation, in order of arrival"},
    {"agent", kIntNotNull, "agents.id of the observer"},
    {"connection", kIntNotNull, "connections.id"},
    {"method", kIntNotNull, "methods.id"},
    {"kind", kIntNotNull, "1 unary, 2 sub, 3 message, 4 stream"},
    {"method_from", kIntNotNull, "0 unknown, 1 header, 2 slot, 3 shape"},
    {"stream", kIntNotNull, "HTTP/2 stream id"},
    {"request_id", kInt, "BatchCommands request id"},
    {"req_first_ns", kInt, "first byte of the request, observer's clock"},
    {"req_last_ns", kInt, "last byte of the request, observer's clock"},
    {"resp_first_ns", kInt, "first byte of the response, observer's clock"},
    {"resp_last_ns", kInt, "last byte of the response, observer's clock"},
    {"req_bytes", kIntNotNull, "message bytes of the request"},
    {"resp_bytes", kIntNotNull, "message bytes of the response"},
    {"req_messages", kIntNotNull, "request messages; more than 1 of a stream only"},
    {"resp_messages", kIntNotNull, "response messages"},
    {"grpc_status", kInt, "gRPC status; null: not seen"},
    {"http_status", kInt, "HTTP status; null: not seen"},
    {"grpc_message", kText, "grpc-message of the trailers"},
    {"flags", kIntNotNull, "1 reset, 2 forwarded, 4 follower_allowed"},
    {"incomplete", kIntNotNull, "bits: why the record is not whole; 0: it is"},
    {"region_id", kInt, "region of the first route"},
    {"conf_ver", kInt, "its epoch's conf_ver as the client believes it"},
    {"version", kInt, "its epoch's version as the client believes it"},
    {"peer_id", kInt, "peer that the client means"},
    {"store_id", kInt, "store that the client means"},
    {"start_ts", kInt, "start_ts, version or lock_ts of the request"},
    {"commit_ts", kInt, "commit_ts of the request"},
    {"sql_connection", kInt, "SQL connection id"},
    {"task_id", kInt, "Context.task_id"},
    {"scan_limit", kInt, "limit of a scan"},
    {"trace_id", kBlob, "Context.trace_id"},
    {"resource_group_tag", kBlob, "holds the SQL digest"},
    {"request_source", kText, "such as leader_external_Select"},
    {"caller", kText, "caller_id/caller_component of a PD request"},
    {"req_value_bytes", kInt, "bytes of values in the request; values themselves are not kept"},
    {"resp_value_bytes", kInt, "bytes of values in the response"},
    {"pairs", kInt, "KvPairs in the response"},
    {"not_found", kInt, "1: the key does not exist"},
};

constexpr ColumnDescription kCalls[] = {
    {"id", kInt, "number of the observation; a call seen at both ends has two"},
    {"agent", kInt, "agents.id of the observer"},
    {"observer", kText, "name of the observing host, or its agent's key"},
    {"kind", kText, "unary, sub (BatchCommands sub-command, QueryRegion question), message, stream"},
    {"method", kText, "/service/method; null: unknown"},
    {"method_from", kText, "header, slot, shape or unknown: how the method is known"},
    {"command", kText, "BatchCommands sub-command, such as Get"},
    {"client", kText, "address:port of the HTTP/2 client"},
    {"server", kText, "address:port of the HTTP/2 server"},
    {"client_known", kInt, "0: nobody knows which end is the client"},
    {"joined", kText, "start or late: whether the connection's beginning was seen"},
    {"client_process", kText, "name of the client's process; null: not on the observer's host, or not known"},
    {"server_process", kText, "name of the server's process; null: not on the observer's host, or not known"},
    {"connection", kInt, "connections.id"},
    {"stream", kInt, "HTTP/2 stream id"},
    {"request_id", kInt, "BatchCommands request id"},
    {"req_first_ns", kInt, "first byte of the request, ns since 1970 by the observer's clock"},
    {"req_last_ns", kInt, "last byte of the request"},
    {"resp_first_ns", kInt, "first byte of the response"},
    {"resp_last_ns", kInt, "last byte of the response"},
    {"latency_ns", kInt, "resp_last_ns - req_first_ns; null: one of them was not seen"},
    {"req_bytes", kInt, "message bytes of the request"},
    {"resp_bytes", kInt, "message bytes of the response"},
    {"req_messages", kInt, "request messages; more than 1 of a stream only"},
    {"resp_messages", kInt, "response messages"},
    {"grpc_status", kInt, "gRPC status; null: not seen"},
    {"http_status", kInt, "HTTP status; null: not seen"},
    {"grpc_message", kText, "grpc-message of the trailers"},
    {"reset", kInt, "1: ended by RST_STREAM or with its connection"},
    {"forwarded", kInt, "1: sent through a forwarding proxy (PD or TiKV)"},
    {"follower_allowed", kInt, "1: a PD follower may answer"},
    {"region_id", kInt, "region of the first route; all of them are in routes"},
    {"conf_ver", kInt, "its epoch's conf_ver as the client believes it"},
    {"version", kInt, "its epoch's version as the client believes it"},
    {"peer_id", kInt, "peer that the client means"},
    {"store_id", kInt, "store that the client means"},
    {"start_ts", kInt, "start_ts, version or lock_ts of the request; tso_time() shows it"},
    {"commit_ts", kInt, "commit_ts of the request"},
    {"sql_connection", kInt, "SQL connection id"},
    {"task_id", kInt, "Context.task_id"},
    {"scan_limit", kInt, "limit of a scan"},
    {"trace_id", kBlob, "Context.trace_id"},
    {"resource_group_tag", kBlob, "holds the SQL digest"},
    {"request_source", kText, "such as leader_external_Select"},
    {"caller", kText, "caller_id/caller_component of a PD request"},
    {"req_value_bytes", kInt, "bytes of values in the request; values themselves are not kept"},
    {"resp_value_bytes", kInt, "bytes of values in the response"},
    {"pairs", kInt, "KvPairs in the response"},
    {"not_found", kInt, "1: the key does not exist"},
    {"incomplete", kText, "why the record is not whole, comma separated; null: it is"},
};

constexpr ColumnDescription kAmendments[] = {
    {"agent", kIntNotNull, "agents.id"},
    {"serial", kIntNotNull, "connections.serial"},
    {"stream", kIntNotNull, "HTTP/2 stream id"},
    {"method", kIntNotNull, "methods.id of all its calls that came without a method"},
    {"method_from", kIntNotNull, "2 slot, 3 shape"},
};

constexpr char kCallsView[] =
    "SELECT c.id AS id, c.agent AS agent, coalesce(a.name, a.agent_key) AS observer,"
    " CASE c.kind WHEN 1 THEN 'unary' WHEN 2 THEN 'sub' WHEN 3 THEN 'message' ELSE 'stream' END AS kind,"
    " coalesce(m.method, xm.method) AS method,"
    " CASE coalesce(nullif(c.method_from, 0), x.method_from) WHEN 1 THEN 'header' WHEN 2 THEN 'slot' WHEN 3 "
    "THEN 'shape' ELSE 'unknown' END"
    " AS method_from,"
    " m.command AS command, n.client AS client, n.server AS server, n.client_known AS client_known,"
    " n.joined AS joined, n.client_process AS client_process, n.server_process AS server_process,"
    " c.connection AS connection, c.stream AS stream, c.request_id AS request_id,"
    " c.req_first_ns AS req_first_ns, c.req_last_ns AS req_last_ns, c.resp_first_ns AS resp_first_ns,"
    " c.resp_last_ns AS resp_last_ns, c.resp_last_ns - c.req_first_ns AS latency_ns,"
    " c.req_bytes AS req_bytes, c.resp_bytes AS resp_bytes, c.req_messages AS req_messages,"
    " c.resp_messages AS resp_messages, c.grpc_status AS grpc_status, c.http_status AS http_status,"
    " c.grpc_message AS grpc_message, c.flags & 1 AS reset, c.flags >> 1 & 1 AS forwarded,"
    " c.flags >> 2 & 1 AS follower_allowed, c.region_id AS region_id, c.conf_ver AS conf_ver,"
    " c.version AS version, c.peer_id AS peer_id, c.store_id AS store_id, c.start_ts AS start_ts,"
    " c.commit_ts AS commit_ts, c.sql_connection AS sql_connection, c.task_id AS task_id,"
    " c.scan_limit AS scan_limit, c.trace_id AS trace_id, c.resource_group_tag AS resource_group_tag,"
    " c.request_source AS request_source, c.caller AS caller, c.req_value_bytes AS req_value_bytes,"
    " c.resp_value_bytes AS resp_value_bytes, c.pairs AS pairs, c.not_found AS not_found,"
    " nullif(rtrim(iif(c.incomplete & 1, 'request_not_seen,', '') ||"
    " iif(c.incomplete & 2, 'response_not_seen,', '') || iif(c.incomplete & 4, 'headers_not_seen,', '') ||"
    " iif(c.incomplete & 8, 'gap,', '') || iif(c.incomplete & 16, 'cut,', '') ||"
    " iif(c.incomplete & 32, 'over_cap,', '') || iif(c.incomplete & 64, 'unknown_encoding,', '') ||"
    " iif(c.incomplete & 128, 'malformed,', '') || iif(c.incomplete & 256, 'degraded,', ''), ','), '') AS "
    "incomplete"
    " FROM call_rows c JOIN connections n ON n.id = c.connection JOIN methods m ON m.id = c.method"
    " JOIN agents a ON a.id = c.agent"
    " LEFT JOIN amendments x ON c.method_from = 0 AND x.agent = c.agent AND x.serial = n.serial"
    " AND x.stream = c.stream LEFT JOIN methods xm ON xm.id = x.method";

constexpr ColumnDescription kCallKeys[] = {
    {"call_id", kIntNotNull, "calls.id"},
    {"side", kIntNotNull, "0 in the request, 1 in the response"},
    {"n", kIntNotNull, "position in the message"},
    {"route", kIntNotNull, "routes.n that it belongs to"},
    {"is_range", kIntNotNull, "1: [start_key, end_key); 0: the single key start_key"},
    {"reverse", kIntNotNull, "1: scanned backwards"},
    {"previous", kIntNotNull, "1: PD was asked for the region before the key"},
    {"form", kTextNotNull, "how the wire had it: raw (now encoded here), encoded, none (kept as it was)"},
    {"start_key", kBlobNotNull, "key, encoded; empty start of a range: -infinity. tidb_key() shows it"},
    {"end_key", kBlob, "end of the range, encoded; empty: +infinity; null: no range"},
};

constexpr ColumnDescription kRoutes[] = {
    {"call_id", kIntNotNull, "calls.id"},
    {"n", kIntNotNull, "position in the request"},
    {"kind", kTextNotNull, "context, task (store-batched coprocessor), region_info (MPP, batch coprocessor)"},
    {"region_id", kIntNotNull, "region that the request is sent to"},
    {"conf_ver", kInt, "its epoch's conf_ver as the client believes it; null: no epoch sent"},
    {"version", kInt, "its epoch's version as the client believes it; null: no epoch sent"},
    {"peer_id", kIntNotNull, "peer that the client means"},
    {"store_id", kIntNotNull, "store that the client means"},
    {"task_id", kIntNotNull, "StoreBatchTask.task_id"},
    {"buckets_version", kIntNotNull, "version of the buckets that the client knows"},
    {"api_version", kIntNotNull, "0 V1, 1 V1TTL, 2 V2"},
    {"keyspace_id", kInt, "keyspace; null: none"},
    {"replica_read", kIntNotNull, "1: a follower may serve it"},
    {"stale_read", kIntNotNull, "1: a stale read"},
    {"is_retry", kIntNotNull, "1: the client says that it is a retry"},
};

constexpr ColumnDescription kAskedRegions[] = {
    {"call_id", kIntNotNull, "calls.id"},
    {"n", kIntNotNull, "position in the request"},
    {"region_id", kIntNotNull, "region that PD was asked for by number"},
};

constexpr ColumnDescription kStatements[] = {
    {"id", kKey, "call_id * 65536 + position; evidence.statement_id"},
    {"call_id", kIntNotNull, "calls.id of the message that says it"},
    {"source", kTextNotNull, "which message: pd_get_region, heartbeat, epoch_not_match, …"},
    {"t_ns", kInt, "when it was said, by the observer's clock"},
    {"region_id", kIntNotNull, "region R"},
    {"conf_ver", kInt, "at this conf_ver; null: no epoch said"},
    {"version", kInt, "at this version; null: no epoch said"},
    {"start_key", kBlobNotNull, "spans from here, encoded; empty: -infinity"},
    {"end_key", kBlobNotNull, "to here, exclusive, encoded; empty: +infinity"},
    {"leader_peer_id", kIntNotNull, "leader's peer; 0: not said"},
    {"leader_store_id", kIntNotNull, "leader's store; 0: not said"},
    {"peers", kTextNotNull, "peer:store:role of each peer, space separated"},
};

constexpr ColumnDescription kErrors[] = {
    {"call_id", kIntNotNull, "calls.id of the call that it answers"},
    {"side", kIntNotNull, "1 in the response (0 in the request: not expected)"},
    {"n", kIntNotNull, "position in the message"},
    {"kind", kTextNotNull, "not_leader, key_not_in_region, epoch_not_match, key_out_of_region, …"},
    {"from_text", kIntNotNull, "1: numbers and keys were parsed out of the text"},
    {"text", kText, "the server's words"},
    {"region_id", kInt, "region that it speaks of; null: not said"},
    {"route", kIntNotNull, "routes.n that it answers"},
    {"task_id", kIntNotNull, "StoreBatchTaskResponse.task_id"},
    {"key", kBlob, "key complained of, encoded"},
    {"range_start", kBlob, "range complained of, encoded; empty: -infinity"},
    {"range_end", kBlob, "its end; empty: +infinity"},
    {"start_key", kBlob, "where the server says that the region begins; null: not said"},
    {"end_key", kBlob, "and ends"},
    {"leader_peer_id", kIntNotNull, "of not_leader"},
    {"leader_store_id", kIntNotNull, "of not_leader"},
    {"request_store_id", kIntNotNull, "of store_not_match"},
    {"actual_store_id", kIntNotNull, "of store_not_match"},
    {"current_conf_ver", kIntNotNull, "of an epoch text"},
    {"current_version", kIntNotNull, "of an epoch text"},
    {"pd_error_type", kIntNotNull, "pdpb.ErrorType"},
    {"first_statement", kIntNotNull, "position of the first region that it names, in its message"},
    {"statement_count", kIntNotNull, "regions that it names (epoch_not_match)"},
};

constexpr ColumnDescription kRecordBatches[] = {
    {"first_call_id", kKey, "calls.id of the first record"},
    {"agent", kIntNotNull, "agents.id"},
    {"records", kIntNotNull, "records in it"},
    {"size", kIntNotNull, "bytes when decompressed"},
    {"payload", kBlobNotNull, "the whole records: a Payload of proto/keytrail/record.proto, zstd"},
};

constexpr ColumnDescription kLosses[] = {
    {"id", kKey, "number of the loss"},
    {"agent", kIntNotNull, "agents.id"},
    {"kind", kTextNotNull, "what was lost: kernel_drops, gaps, ship_queue_full, sequence_gap, …"},
    {"count", kIntNotNull, "how many packets, gaps, records, …"},
    {"first_ns", kInt, "from when, by the observer's clock; null: not known"},
    {"last_ns", kInt, "until when"},
};

constexpr ColumnDescription kWindows[] = {
    {"number", kKey, "number of the window; windows follow each other in time and in calls.id"},
    {"file", kTextNotNull, "its file, beside this one"},
    {"state", kTextNotNull,
     "live: being written; closed: complete, its indexes are being made; sealed: indexed; dropped: too old, "
     "or "
     "too much; damaged: set aside; missing: its file is gone"},
    {"first_call_id", kIntNotNull, "its calls have numbers from here on"},
    {"last_call_id", kInt, "... up to here; null: being written, or not known"},
    {"first_ns", kIntNotNull, "when it was begun, by the collector's clock"},
    {"last_ns", kInt, "its last commit; null: being written, or not known"},
    {"calls", kInt, "calls in it; null: being written, or not known"},
    {"bytes", kInt, "size of its file; null: being written"},
    {"ended_ns", kInt, "when it was dropped or set aside"},
    {"carried", kInt, "calls of it that were kept when it was dropped"},
    {"reason", kText, "why it is gone"},
};

constexpr ColumnDescription kVerdicts[] = {
    {"id", kKey, "number of the verdict"},
    {"component", kTextNotNull, "tidb, pd or tikv: who stated a wrong range first"},
    {"confidence", kTextNotNull, "certain or inferred"},
    {"rule", kTextNotNull, "rule of the decision table"},
    {"client", kTextNotNull, "address of the client's host"},
    {"server", kTextNotNull, "address:port of the server"},
    {"region_id", kIntNotNull, "region in question"},
    {"version", kIntNotNull, "its version"},
    {"key", kBlobNotNull, "key of the first occurrence that has one, encoded"},
    {"occurrences", kIntNotNull, "calls and statements that show it"},
    {"first_ns", kIntNotNull, "first of them, reference clock"},
    {"last_ns", kIntNotNull, "last of them"},
    {"text", kTextNotNull, "one sentence"},
    {"culprit", kTextNotNull, "host or address of the guilty process"},
};

constexpr ColumnDescription kInconclusive[] = {
    {"id", kKey, "number"},
    {"rule", kTextNotNull, "rule of the decision table that comes nearest"},
    {"client", kTextNotNull, "address of the client's host"},
    {"server", kTextNotNull, "address:port of the server"},
    {"region_id", kIntNotNull, "region in question"},
    {"version", kIntNotNull, "its version"},
    {"key", kBlobNotNull, "key of the first occurrence, encoded"},
    {"occurrences", kIntNotNull, "how many"},
    {"first_ns", kIntNotNull, "first of them, reference clock"},
    {"last_ns", kIntNotNull, "last of them"},
    {"text", kTextNotNull, "one sentence"},
};

constexpr ColumnDescription kVerdictNotes[] = {
    {"owner", kTextNotNull, "verdict, inconclusive, or report"},
    {"owner_id", kIntNotNull, "verdicts.id, inconclusive.id, or 0"},
    {"kind", kTextNotNull, "weakened_by, sure_of, missing, suspect, or not_captured"},
    {"n", kIntNotNull, "position"},
    {"text", kTextNotNull, "the note, or the suspected component"},
};

constexpr ColumnDescription kOccurrences[] = {
    {"verdict_id", kIntNotNull, "verdicts.id"},
    {"n", kIntNotNull, "position, in time order"},
    {"t_ns", kIntNotNull, "when, reference clock"},
    {"what", kTextNotNull, "complaint, wrong_statement, served"},
    {"call_id", kIntNotNull, "calls.id"},
    {"region_id", kIntNotNull, "region"},
    {"version", kIntNotNull, "its version"},
    {"key", kBlob, "key, encoded"},
    {"statement_id", kInt, "statements.id of a wrong_statement"},
    {"range_start", kBlob, "what was said: the wrong range, or the server's bounds; encoded"},
    {"range_end", kBlob, "its end; empty: +infinity"},
};

constexpr ColumnDescription kEvidence[] = {
    {"verdict_id", kInt, "verdicts.id; null: it belongs to an inconclusive entry"},
    {"inconclusive_id", kInt, "inconclusive.id; null: it belongs to a verdict"},
    {"n", kIntNotNull, "position in the account"},
    {"what", kTextNotNull, "request, complaint, route, statement, served"},
    {"label", kTextNotNull, "for people: said, used, refused, witness, again"},
    {"host", kTextNotNull, "observing host, whose clock t_ns is"},
    {"observer", kTextNotNull, "both, client, server: who saw it"},
    {"speaker", kTextNotNull, "who said it"},
    {"listener", kTextNotNull, "to whom"},
    {"method", kTextNotNull, "method, with the sub-command"},
    {"call_id", kIntNotNull, "calls.id"},
    {"statement_id", kInt, "statements.id; null: it is no statement"},
    {"t_ns", kIntNotNull, "when"},
    {"region_id", kIntNotNull, "region"},
    {"version", kIntNotNull, "its version"},
    {"key", kBlob, "key, encoded"},
    {"range_start", kBlob, "range, encoded; empty: -infinity"},
    {"range_end", kBlob, "its end; empty: +infinity"},
    {"note", kTextNotNull, "for people: too wide, inside what PD said, …"},
    {"ref_ns", kIntNotNull, "when, reference clock; t_ns itself if the clocks are unrelated"},
    {"count", kIntNotNull, "how many times, of an `again` line"},
};

constexpr ColumnDescription kHosts[] = {
    {"n", kKey, "position in the report"},
    {"host", kTextNotNull, "its name if given, else its address"},
    {"address", kTextNotNull, "its address"},
    {"role", kTextNotNull, "tidb, pd, tikv, client, unknown"},
    {"clock_offset_ns", kInt,
     "to add to the reference's clock to get this host's, when the latter shows clock_at_ns; null: not "
     "related"},
    {"offset_error_ns", kInt, "the offset is right within this"},
    {"reference", kTextNotNull, "host whose clock is the reference"},
    {"clock_at_ns", kInt, "when the offset was this, by this host's clock; null: always"},
    {"clock_drift_ppb", kInt, "how fast it grew then, in parts per billion"},
    {"clock_steps", kIntNotNull, "how often one of the two clocks was seen to be set"},
};

constexpr ColumnDescription kBenign[] = {
    {"name", "TEXT PRIMARY KEY NOT NULL", "stale_route, not_leader, server_is_busy, …"},
    {"count", kIntNotNull, "how many"},
};

constexpr ColumnDescription kReportLosses[] = {
    {"n", kKey, "position in the report"},
    {"host", kTextNotNull, "host that lost something"},
    {"kind", kTextNotNull, "what was lost"},
    {"count", kIntNotNull, "how many"},
    {"first_ns", kIntNotNull, "from when; 0: not known"},
    {"last_ns", kIntNotNull, "until when; 0: not known"},
};

constexpr ColumnDescription kAbout[] = {
    {"name", "TEXT PRIMARY KEY NOT NULL",
     "calls, unread, routed_requests, statements, regions, complaints: how many the last report is about; "
     "key_forms: in how many forms agents tell keys (more than one: nothing was decided); "
     "part: catalogue or window, of one that has its calls in several files"},
    {"value", kTextNotNull, "its value"},
};

constexpr ColumnDescription kColumns[] = {
    {"table_name", kTextNotNull, "table or view"},
    {"column_name", kText, "column; null: the table itself"},
    {"type", kTextNotNull, "type"},
    {"meaning", kTextNotNull, "what it says"},
};

constexpr ColumnDescription kClockOffsets[] = {
    {"n", kKey, "position in the report"},
    {"host", kTextNotNull, "host"},
    {"reference", kTextNotNull,
     "the other one: the host whose clock is the reference of all, or of this pair"},
    {"relation", kTextNotNull,
     "direct: from calls of the two; path: over other hosts; unrelated: no calls lead there, nothing is "
     "known"},
    {"via", kTextNotNull, "of a path: the hosts between, nearest first"},
    {"from_ns", kInt, "what follows holds from here, by host's clock; null: unrelated"},
    {"to_ns", kInt, "... until here"},
    {"offset_ns", kInt,
     "to add to the reference's clock to get host's, at from_ns; at t it is offset_ns + drift_ppb * (t - "
     "from_ns)"
     " / 1000000000"},
    {"error_ns", kInt, "the offset is right within this, everywhere from from_ns to to_ns"},
    {"drift_ppb", kInt, "how fast it grows, in parts per billion; null: a single moment"},
    {"drift_error_ppb", kInt, "the mean rate is right within this"},
    {"calls", kIntNotNull, "calls seen at both ends behind it; of a path those of its first hop"},
    {"stepped", kIntNotNull, "1: one of the clocks was set within it; the error covers both sides"},
};

constexpr ColumnDescription kTranslations[] = {
    {"n", kKey, "position in the report"},
    {"host", kTextNotNull, "the client's host"},
    {"client", kTextNotNull,
     "address:port of the client, as its own agent saw it; of several connections the address"},
    {"client_at_server", kTextNotNull, "... as the server's agent saw it"},
    {"server", kTextNotNull, "address:port of the server, as its own agent saw it"},
    {"server_at_client", kTextNotNull, "... as the client's agent saw it"},
    {"connections", kIntNotNull, "how many connections"},
    {"calls", kIntNotNull, "calls that were the same at both ends when this was found out"},
};

constexpr ColumnDescription kRegions[] = {
    {"region_id", kInt, "region"},
    {"version", kInt, "its version; two rows of one (region_id, version) contradict each other"},
    {"start_key", kBlob, "start, encoded; empty: -infinity"},
    {"end_key", kBlob, "end, encoded; empty: +infinity"},
    {"statements", kInt, "how often it was said"},
    {"first_ns", kInt, "when first, by the observers' clocks"},
    {"last_ns", kInt, "when last"},
    {"sources", kText, "which messages said it"},
};

constexpr ColumnDescription kStores[] = {
    {"store_id", kInt, "store"},       {"server", kText, "address:port that requests for it were sent to"},
    {"calls", kInt, "how many calls"}, {"first_ns", kInt, "when first, by the observers' clocks"},
    {"last_ns", kInt, "when last"},
};

constexpr TableDescription kSchema[] = {
    {"agents", "every start of an agent, and how far it is stored", kAgents, ", UNIQUE (agent_key, epoch)",
     false, nullptr},
    {"methods", "names of calls", kMethods, "", false, nullptr},
    {"connections", "TCP connections, as each agent knew them", kConnections, "", false, nullptr},
    {"call_rows", "observations of calls with numbers for names; `calls` is for people", kCallRows, "", false,
     nullptr},
    {"amendments", "methods that were proved after their calls had been stored; `calls` shows them",
     kAmendments, ", PRIMARY KEY (agent, serial, stream)", true, nullptr},
    {"calls", "observations of calls: a unary call, a sub-command, a stream's message, a stream", kCalls, "",
     false, kCallsView},
    {"call_keys", "keys and ranges that calls ask for", kCallKeys, ", PRIMARY KEY (call_id, side, n)", true,
     nullptr},
    {"routes", "where requests were sent: region, epoch, peer", kRoutes, ", PRIMARY KEY (call_id, n)", true,
     nullptr},
    {"asked_regions", "regions that PD was asked for by number", kAskedRegions, ", PRIMARY KEY (call_id, n)",
     true, nullptr},
    {"statements", "messages that say: region R at version V spans [start, end)", kStatements, "", false,
     nullptr},
    {"errors", "errors in responses, structured or parsed from text", kErrors,
     ", PRIMARY KEY (call_id, side, n)", true, nullptr},
    {"record_batches", "the records as they arrived, for reading them again", kRecordBatches, "", false,
     nullptr},
    {"losses", "what agents could not tell", kLosses, "", false, nullptr},
    {"windows", "the files that calls are in, and those that are gone; empty: all is in this one", kWindows,
     "", false, nullptr},
    {"verdicts", "who is wrong", kVerdicts, "", false, nullptr},
    {"inconclusive", "wrong ranges of which nobody can be told guilty", kInconclusive, "", false, nullptr},
    {"verdict_notes", "what weakens a verdict, or is missing for one", kVerdictNotes,
     ", PRIMARY KEY (owner, owner_id, kind, n)", true, nullptr},
    {"occurrences", "calls and statements that show a verdict's fault", kOccurrences,
     ", PRIMARY KEY (verdict_id, n)", true, nullptr},
    {"evidence", "who said what when, for each verdict", kEvidence, "", false, nullptr},
    {"hosts", "hosts and their clocks", kHosts, "", false, nullptr},
    {"clock_offsets", "how two hosts' clocks stand to each other, one row for each stretch of time",
     kClockOffsets, "", false, nullptr},
    {"translations", "connections seen between different ends, as a NAT or TCP proxy stands between them",
     kTranslations, "", false, nullptr},
    {"benign", "things that look like faults and are none", kBenign, "", true, nullptr},
    {"report_losses", "losses as the last report names them", kReportLosses, "", false, nullptr},
    {"about", "about this database and its last report", kAbout, "", true, nullptr},
    {"columns", "this documentation", kColumns, "", false, nullptr},
    {"regions", "distinct ranges that were stated for regions", kRegions, "", false,
     "SELECT region_id, version, start_key, end_key, count(*) AS statements, min(t_ns) AS first_ns,"
     " max(t_ns) AS last_ns, group_concat(DISTINCT source) AS sources FROM statements"
     " GROUP BY region_id, version, start_key, end_key"},
    {"stores", "stores and the addresses that serve them", kStores, "", false,
     "SELECT c.store_id AS store_id, n.server AS server, count(*) AS calls, min(c.req_first_ns) AS first_ns,"
     " max(c.req_first_ns) AS last_ns FROM call_rows c JOIN connections n ON n.id = c.connection"
     " WHERE c.store_id > 0 AND c.flags & 2 = 0 GROUP BY c.store_id, n.server"},
    {"lookups", "questions to PD about regions, and what it answered", kLookups, "", false, kLookupsView},
    {"requests", "requests to regions, one row for each region", kRequests, "", false, kRequestsView},
    {"call_errors", "errors with the calls that they answer", kCallErrors, "", false, kCallErrorsView},
    {"agent_progress", "agents, and how much of theirs is stored", kAgentProgress, "", false,
     kAgentProgressView},
    {"lost", "everything that is known to be missing, by host", kLost, "", false, kLostView},
};

std::string Quoted(const char* text) {
  std::string out = "'";
  for (const char* p = text; *p != '\0'; ++p) {
    if (*p == '\'') out += '\'';
    out += *p;
  }
  return out + "'";
}

}  // namespace

std::span<const TableDescription> DatabaseSchema() {
  return kSchema;
}

const TableDescription& TableNamed(std::string_view name) {
  return *std::find_if(std::begin(kSchema), std::end(kSchema),
                       [&](const TableDescription& table) { return table.name == name; });
}

bool IsWindowed(const TableDescription& table) {
  static constexpr std::string_view kNames[] = {"methods", "connections",    "call_rows",  "amendments",
                                                "calls",   "call_keys",      "routes",     "asked_regions",
                                                "errors",  "record_batches", "statements", "losses",
                                                "lookups", "call_errors",    "requests"};
  return std::find(std::begin(kNames), std::end(kNames), table.name) != std::end(kNames);
}

bool LacksColumns(const TableDescription& table, int64_t version) {
  return std::any_of(table.columns.begin(), table.columns.end(),
                     [version](const ColumnDescription& column) { return column.since > version; });
}

std::string AsThisVersion(const TableDescription& table, int64_t version, const std::string& from) {
  std::string sql;
  for (const ColumnDescription& column : table.columns) {
    const bool has = !from.empty() && column.since <= version;
    sql += std::string(sql.empty() ? "SELECT " : ", ") + (has ? "" : "NULL AS ") + column.name;
  }
  return sql + (from.empty() ? " WHERE 0" : " FROM " + from);
}

std::string PartOf(const TableDescription& table, const std::string& schema, int64_t version) {
  if (table.view == nullptr) {
    const std::string name = schema + "." + table.name;
    return LacksColumns(table, version) ? "(" + AsThisVersion(table, version, name) + ")" : name;
  }
  // Each name behind FROM and JOIN gets its schema; a view in a view is written out.
  std::string out = "(";
  const std::string_view sql = table.view;
  bool names_source = false;
  for (size_t at = 0; at < sql.size();) {
    if (sql[at] == '\'') {
      const size_t end = sql.find('\'', at + 1) + 1;
      out += sql.substr(at, end - at);
      at = end;
      continue;
    }
    size_t end = at;
    while (end < sql.size() && (std::isalnum(static_cast<unsigned char>(sql[end])) != 0 || sql[end] == '_'))
      ++end;
    if (end == at) {
      names_source = names_source && sql[at] == ' ';
      out += sql[at++];
      continue;
    }
    const std::string_view word = sql.substr(at, end - at);
    const auto source = std::find_if(std::begin(kSchema), std::end(kSchema),
                                     [&](const TableDescription& t) { return t.name == word; });
    if (names_source && source != std::end(kSchema)) {
      out += PartOf(*source, schema, version);
      // `FROM calls c` goes on with its alias, `FROM calls` needs one.
      if (out.back() == ')' && (end == sql.size() || sql[end] != ' ')) out += " AS " + std::string(word);
    } else {
      out += word;
    }
    names_source = word == "FROM" || word == "JOIN";
    at = end;
  }
  return out + ")";
}

namespace {

std::string ViewSql(const TableDescription& view) {
  return std::string("CREATE VIEW ") + view.name + " AS " + view.view + ";\n";
}

std::string TableSql(const TableDescription& table) {
  std::string sql = std::string("CREATE TABLE ") + table.name + " (";
  const char* comma = "";
  for (const ColumnDescription& column : table.columns) {
    sql += std::string(comma) + "\"" + column.name + "\" " + column.type;
    comma = ", ";
  }
  return sql + table.constraints + ") STRICT" + (table.without_rowid ? ", WITHOUT ROWID" : "") + ";\n";
}

std::string DocumentationSql() {
  std::string sql;
  for (const TableDescription& table : kSchema) {
    sql += "INSERT INTO columns VALUES (" + Quoted(table.name) + ", NULL, " +
           (table.view != nullptr ? "'view'" : "'table'") + ", " + Quoted(table.meaning) + ");\n";
    for (const ColumnDescription& column : table.columns) {
      const std::string type(column.type);
      sql += "INSERT INTO columns VALUES (" + Quoted(table.name) + ", " + Quoted(column.name) + ", " +
             Quoted(type.substr(0, type.find(' ')).c_str()) + ", " + Quoted(column.meaning) + ");\n";
    }
  }
  return sql;
}

std::string VersionSql() {
  return "PRAGMA application_id = " + std::to_string(kApplicationId) +
         ";\nPRAGMA user_version = " + std::to_string(kSchemaVersion) + ";\n";
}

// A partial index serves `=` and ranges, and leaves out the rows that have no value.
constexpr const char* kSealedIndexes[] = {
    "CREATE INDEX IF NOT EXISTS call_rows_time ON call_rows (req_first_ns)",
    "CREATE INDEX IF NOT EXISTS call_rows_region ON call_rows (region_id) WHERE region_id IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS call_rows_start_ts ON call_rows (start_ts) WHERE start_ts IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS call_rows_commit_ts ON call_rows (commit_ts) WHERE commit_ts IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS call_rows_sql_connection ON call_rows (sql_connection)"
    " WHERE sql_connection IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS routes_region ON routes (region_id)",
    "CREATE INDEX IF NOT EXISTS asked_regions_region ON asked_regions (region_id)",
    "CREATE INDEX IF NOT EXISTS connections_serial ON connections (agent, serial)",
    "CREATE INDEX IF NOT EXISTS statements_region ON statements (region_id)",
    "CREATE INDEX IF NOT EXISTS errors_region ON errors (region_id) WHERE region_id IS NOT NULL",
};

}  // namespace

const char* const kLiveIndexSql =
    "CREATE INDEX IF NOT EXISTS statements_region ON statements (region_id);"
    "CREATE INDEX IF NOT EXISTS errors_region ON errors (region_id) WHERE region_id IS NOT NULL;";
const std::span<const char* const> kSealedIndexSql(kSealedIndexes);

std::string CreationSql() {
  std::string sql;
  for (const TableDescription& table : kSchema)
    sql += table.view != nullptr ? ViewSql(table) : TableSql(table);
  return sql + DocumentationSql() + VersionSql();
}

std::string UpgradeSql(int64_t from) {
  std::string sql = "DELETE FROM columns;\n";
  for (const TableDescription& table : kSchema) {
    for (const ColumnDescription& column : table.columns) {
      if (table.view != nullptr || column.since <= from) continue;
      sql +=
          std::string("ALTER TABLE ") + table.name + " ADD COLUMN " + column.name + " " + column.type + ";\n";
    }
    if (table.view != nullptr) {
      sql += std::string("DROP VIEW IF EXISTS ") + table.name + ";\n" + ViewSql(table);
    } else if (from < 3 && std::string_view(table.name) == "windows") {
      sql += TableSql(table);
    }
  }
  return sql + DocumentationSql() + VersionSql();
}

}  // namespace keytrail
