// Views for common questions, part of the description in schema.cc. They use no function of ours, so that a
// plain sqlite3 shows them, too. A file of an earlier build may lack them: programs bring their own (TEMP
// views).
//
// For schema.cc alone.
#pragma once

#include "collector/store/schema.h"

namespace keytrail {

inline constexpr ColumnDescription kLookups[] = {
    {"call_id", "INTEGER", "calls.id; several rows if PD answered with several regions"},
    {"t_ns", "INTEGER", "when it was asked, by the observer's clock"},
    {"observer", "TEXT", "who saw it; a lookup seen at both ends is there twice"},
    {"client", "TEXT", "address:port of who asked"},
    {"server", "TEXT", "address:port of PD"},
    {"method", "TEXT", "/service/method"},
    {"key", "BLOB", "first key asked for, encoded; null: asked by number"},
    {"asked_region", "INTEGER", "first region asked for by number; null: asked by key"},
    {"region_id", "INTEGER", "region that PD answered with; null: no answer seen"},
    {"conf_ver", "INTEGER", "its conf_ver"},
    {"version", "INTEGER", "its version"},
    {"start_key", "BLOB", "its start, encoded; empty: -infinity"},
    {"end_key", "BLOB", "its end, encoded; empty: +infinity"},
    {"leader_store_id", "INTEGER", "its leader's store; 0: not said"},
    {"latency_ns", "INTEGER", "until the last byte of the answer; null: not seen"},
    {"statement_id", "INTEGER", "statements.id"},
};

inline constexpr char kLookupsView[] =
    "SELECT c.id AS call_id, c.req_first_ns AS t_ns, c.observer AS observer, c.client AS client,"
    " c.server AS server, c.method AS method, k.start_key AS key, g.region_id AS asked_region,"
    " s.region_id AS region_id, s.conf_ver AS conf_ver, s.version AS version, s.start_key AS start_key,"
    " s.end_key AS end_key, s.leader_store_id AS leader_store_id, c.latency_ns AS latency_ns,"
    " s.id AS statement_id FROM calls c"
    " LEFT JOIN call_keys k ON k.call_id = c.id AND k.side = 0 AND k.n = 0"
    " LEFT JOIN asked_regions g ON g.call_id = c.id AND g.n = 0"
    " LEFT JOIN statements s ON s.id BETWEEN c.id * 65536 AND c.id * 65536 + 65535"
    " WHERE c.kind <> 'stream' AND c.method IN ('/pdpb.PD/GetRegion', '/pdpb.PD/GetPrevRegion',"
    " '/pdpb.PD/GetRegionByID', '/pdpb.PD/QueryRegion', '/pdpb.PD/ScanRegions', '/pdpb.PD/BatchScanRegions',"
    " '/routerpb.Router/GetRegion', '/routerpb.Router/GetPrevRegion', '/routerpb.Router/GetRegionByID',"
    " '/routerpb.Router/QueryRegion', '/routerpb.Router/BatchScanRegions')";

inline constexpr ColumnDescription kRequests[] = {
    {"call_id", "INTEGER", "calls.id"},
    {"route", "INTEGER", "routes.n: a request may name several regions"},
    {"t_ns", "INTEGER", "when it was sent, by the observer's clock"},
    {"observer", "TEXT", "who saw it; a request seen at both ends is there twice"},
    {"client", "TEXT", "address:port of the sender"},
    {"server", "TEXT", "address:port of the store"},
    {"method", "TEXT", "/service/method"},
    {"command", "TEXT", "BatchCommands sub-command"},
    {"region_id", "INTEGER", "region that it is for"},
    {"conf_ver", "INTEGER", "conf_ver as the client believes it"},
    {"version", "INTEGER", "version as the client believes it"},
    {"peer_id", "INTEGER", "peer that the client means"},
    {"store_id", "INTEGER", "store that the client means"},
    {"key", "BLOB", "first key or start of the first range for this region, encoded"},
    {"end_key", "BLOB", "end of that range; null: a single key"},
    {"start_ts", "INTEGER", "start_ts of the transaction"},
    {"latency_ns", "INTEGER", "until the last byte of the answer; null: not seen"},
    {"errors", "TEXT", "kinds of errors in the answer, comma separated; null: none"},
};

inline constexpr char kRequestsView[] =
    "SELECT r.call_id AS call_id, r.n AS route, c.req_first_ns AS t_ns, c.observer AS observer,"
    " c.client AS client, c.server AS server, c.method AS method, c.command AS command,"
    " r.region_id AS region_id, r.conf_ver AS conf_ver, r.version AS version, r.peer_id AS peer_id,"
    " r.store_id AS store_id,"
    " (SELECT k.start_key FROM call_keys k WHERE k.call_id = r.call_id AND k.side = 0 AND k.route = r.n"
    " ORDER BY k.n LIMIT 1) AS key,"
    " (SELECT k.end_key FROM call_keys k WHERE k.call_id = r.call_id AND k.side = 0 AND k.route = r.n"
    " ORDER BY k.n LIMIT 1) AS end_key, c.start_ts AS start_ts, c.latency_ns AS latency_ns,"
    " (SELECT group_concat(DISTINCT e.kind) FROM errors e WHERE e.call_id = r.call_id AND e.side = 1"
    " AND e.route = r.n) AS errors"
    " FROM routes r JOIN calls c ON c.id = r.call_id";

inline constexpr ColumnDescription kCallErrors[] = {
    {"call_id", "INTEGER", "calls.id"},
    {"t_ns", "INTEGER", "when it was answered, by the observer's clock"},
    {"observer", "TEXT", "who saw it; an error seen at both ends is there twice"},
    {"client", "TEXT", "address:port of who asked"},
    {"server", "TEXT", "address:port of who refused"},
    {"method", "TEXT", "/service/method"},
    {"command", "TEXT", "BatchCommands sub-command"},
    {"kind", "TEXT", "not_leader, key_not_in_region, epoch_not_match, …"},
    {"from_text", "INTEGER", "1: parsed out of a text"},
    {"region_id", "INTEGER", "region that the error names, else that of the request"},
    {"conf_ver", "INTEGER", "conf_ver that the request had"},
    {"version", "INTEGER", "version that the request had"},
    {"key", "BLOB", "key complained of, encoded"},
    {"range_start", "BLOB", "range complained of, encoded"},
    {"range_end", "BLOB", "its end"},
    {"start_key", "BLOB", "where the server says that the region begins; null: not said"},
    {"end_key", "BLOB", "and ends"},
    {"current_version", "INTEGER", "highest version of that region that the answer names; null: none"},
    {"text", "TEXT", "the server's words"},
};

inline constexpr char kCallErrorsView[] =
    "SELECT e.call_id AS call_id, c.resp_last_ns AS t_ns, c.observer AS observer, c.client AS client,"
    " c.server AS server, c.method AS method, c.command AS command, e.kind AS kind, e.from_text AS from_text,"
    " coalesce(e.region_id, r.region_id) AS region_id, r.conf_ver AS conf_ver, r.version AS version,"
    " e.key AS key, e.range_start AS range_start, e.range_end AS range_end, e.start_key AS start_key,"
    " e.end_key AS end_key,"
    " coalesce((SELECT max(s.version) FROM statements s"
    " WHERE s.id BETWEEN e.call_id * 65536 AND e.call_id * 65536 + 65535 AND s.source = 'epoch_not_match'"
    " AND s.region_id = coalesce(e.region_id, r.region_id)), nullif(e.current_version, 0)) AS "
    "current_version,"
    " e.text AS text FROM errors e JOIN calls c ON c.id = e.call_id"
    " LEFT JOIN routes r ON r.call_id = e.call_id AND r.n = e.route";

inline constexpr ColumnDescription kAgentProgress[] = {
    {"id", "INTEGER", "agents.id, one for each start of an agent"},
    {"host", "TEXT", "host name given by the user, else the agent's key"},
    {"agent_key", "TEXT", "the agent's name on the wire, the same after a restart"},
    {"role", "TEXT", "tidb, pd or tikv, given by the user; null: found from the traffic"},
    {"epoch", "INTEGER", "random number of this start"},
    {"hostname", "TEXT", "what the host calls itself"},
    {"version", "TEXT", "version of the agent"},
    {"input", "TEXT", "device or file that it reads"},
    {"first_seen_ns", "INTEGER", "collector's clock at the first hello"},
    {"last_seen_ns", "INTEGER", "collector's clock at the last commit"},
    {"batches", "INTEGER", "batches up to this one are stored"},
    {"records", "INTEGER", "records in them: calls, and methods that were proved later"},
    {"losses", "INTEGER", "entries in losses"},
    {"records_per_s", "REAL", "records by the time from first to last seen; null: no time passed"},
    {"redaction", "TEXT", "off: keys are as they are; on: they are tokens; null: its version does not tell"},
    {"redact_secret", "TEXT", "of on: fingerprint of the secret; tokens of two secrets cannot be compared"},
};

inline constexpr char kAgentProgressView[] =
    "SELECT a.id AS id, coalesce(a.name, a.agent_key) AS host, a.agent_key AS agent_key, a.role AS role,"
    " a.epoch AS epoch, a.hostname AS hostname, a.version AS version, a.input AS input,"
    " a.first_seen_ns AS first_seen_ns, a.last_seen_ns AS last_seen_ns, a.last_sequence AS batches,"
    " coalesce(b.records, 0) AS records, coalesce(l.losses, 0) AS losses,"
    " coalesce(b.records, 0) * 1e9 / nullif(a.last_seen_ns - a.first_seen_ns, 0) AS records_per_s,"
    " a.redaction AS redaction, a.redact_secret AS redact_secret"
    " FROM agents a"
    " LEFT JOIN (SELECT agent, sum(records) AS records FROM record_batches GROUP BY agent) b ON b.agent = "
    "a.id"
    " LEFT JOIN (SELECT agent, count(*) AS losses FROM losses GROUP BY agent) l ON l.agent = a.id";

inline constexpr ColumnDescription kLost[] = {
    {"host", "TEXT", "host that lost something, or that nobody listened at"},
    {"kind", "TEXT",
     "kernel_drops, gaps, sequence_gap, late_join, method_unread, agent_away, not_captured, dropped_window, "
     "…"},
    {"count", "INTEGER", "how many packets, gaps, records, connections, …"},
    {"first_ns", "INTEGER", "from when; null: not known"},
    {"last_ns", "INTEGER", "until when; null: not known"},
    {"clock", "TEXT", "whose clock the times are of: observer or collector"},
    {"meaning", "TEXT", "what was lost, in words"},
};

inline constexpr char kLostView[] =
    "SELECT coalesce(a.name, a.agent_key) AS host, l.kind AS kind, l.count AS count, l.first_ns AS first_ns,"
    " l.last_ns AS last_ns, 'observer' AS clock, CASE l.kind"
    " WHEN 'kernel_drops' THEN 'packets that the kernel dropped before the agent read them'"
    " WHEN 'interface_drops' THEN 'packets that the network device dropped'"
    " WHEN 'interface_down' THEN 'a device that was captured was down or removed; what went other ways "
    "meanwhile was not captured'"
    " WHEN 'gaps' THEN 'holes in TCP streams: bytes that were sent and not captured'"
    " WHEN 'port_not_captured' THEN 'gRPC on a port that was not captured until it was noticed (--ports)'"
    " WHEN 'packets_cut' THEN 'packets whose end lies beyond the snapshot length'"
    " WHEN 'ip_datagrams_incomplete' THEN 'IP datagrams of which a fragment is missing'"
    " WHEN 'ip_datagrams_conflicting' THEN 'IP datagrams whose fragments contradict each other'"
    " WHEN 'ship_queue_full' THEN 'records that the agent could not keep while the collector did not take "
    "them'"
    " WHEN 'batch_refused' THEN 'records of a batch that the collector could not read'"
    " WHEN 'sequence_gap' THEN 'batches that the agent does not have any more'"
    " WHEN 'degraded.drop_payloads' THEN 'messages whose bytes the agent did not keep, to stay within its "
    "limits'"
    " WHEN 'degraded.sample_tso' THEN 'Tso, etcd or Raft messages that the agent left out, to stay within "
    "its "
    "limits'"
    " WHEN 'degraded.headers_only' THEN 'messages that the agent did not read, to stay within its limits'"
    " WHEN 'degraded.count_only' THEN 'packets that the agent only counted, to stay within its limits'"
    " WHEN 'input_damaged' THEN 'the capture file is damaged; nothing behind that place was read'"
    " ELSE iif(substr(l.kind, 1, 4) = 'cap_', 'a limit of the agent was reached (docs/limits.md)', 'see "
    "docs')"
    " END AS meaning FROM losses l JOIN agents a ON a.id = l.agent"
    // A connection's beginning is what is missing: everything before its first call.
    " UNION ALL SELECT coalesce(a.name, a.agent_key), 'late_join', count(*), NULL, max(j.seen_ns), "
    "'observer',"
    " 'connections that were open before the capture: what was said on them earlier is not known'"
    " FROM (SELECT n.agent AS agent, n.serial AS serial, min(f.seen_ns) AS seen_ns"
    " FROM connections n LEFT JOIN (SELECT connection, min(coalesce(req_first_ns, resp_first_ns)) AS seen_ns"
    " FROM call_rows GROUP BY connection) f ON f.connection = n.id WHERE n.joined = 'late'"
    " GROUP BY n.agent, n.serial) j JOIN agents a ON a.id = j.agent GROUP BY a.id"
    " UNION ALL SELECT host, 'agent_away', 1, last_seen_ns, next_ns, 'collector',"
    " 'the agent ended and was started again; nothing was captured in between'"
    " FROM (SELECT coalesce(name, agent_key) AS host, last_seen_ns,"
    " lead(first_seen_ns) OVER (PARTITION BY agent_key ORDER BY first_seen_ns, id) AS next_ns FROM agents)"
    " WHERE next_ns > last_seen_ns"
    // Counted by the correlator: half of it is in no column.
    " UNION ALL SELECT host, kind, count, nullif(first_ns, 0), nullif(last_ns, 0), 'observer',"
    " iif(kind = 'method_unread', 'calls whose method nobody could name: nothing in them was read',"
    " 'calls with a message that was damaged, too large, or compressed in a way that cannot be read')"
    " FROM report_losses WHERE kind IN ('method_unread', 'message_unread')"
    " UNION ALL SELECT host, kind, count, NULL, NULL, 'collector',"
    " 'more than the correlator keeps: the oldest were given up' FROM report_losses"
    " WHERE host = 'collector' AND substr(kind, 1, 4) = 'cap_'"
    " UNION ALL SELECT text, 'not_captured', 1, NULL, NULL, 'observer',"
    " 'seen from the other side only: no agent listened there' FROM verdict_notes"
    " WHERE owner = 'report' AND kind = 'not_captured'"
    " UNION ALL SELECT 'collector', state || '_window', coalesce(calls, 0), first_ns, last_ns, 'collector',"
    " iif(state = 'dropped', 'calls that were dropped: ' || reason || '; ' || coalesce(carried, 0) ||"
    " ' of them were kept for verdicts and routes', 'calls of a file that cannot be read: ' || "
    "coalesce(reason, state))"
    " FROM windows WHERE state IN ('dropped', 'damaged', 'missing')";

}  // namespace keytrail
