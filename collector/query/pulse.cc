#include "collector/query/pulse.h"

#include <set>
#include <tuple>

namespace keytrail {

namespace {

// Looks that the rate of late goes back.
constexpr size_t kPastLooks = 5;

uint64_t Unsigned(const Store::QueryValue& value) {
  return static_cast<uint64_t>(value.integer);
}

// Numbers of verdicts change with each judgement; this is what makes one the same.
using VerdictIdentity = std::tuple<std::string, std::string, std::string, std::string, uint64_t, uint64_t>;

VerdictIdentity IdentityOf(const VerdictLine& v) {
  return {v.component, v.rule, v.client, v.server, v.region_id, v.version};
}

}  // namespace

Result<std::unique_ptr<Pulse>> Pulse::Open(const std::string& path) {
  Result<std::unique_ptr<Sandbox>> sandbox = Sandbox::Open(path);
  if (!sandbox) return Error{sandbox.error()};
  std::unique_ptr<Pulse> pulse(new Pulse);
  pulse->sandbox_ = std::move(*sandbox);
  return pulse;
}

Status Pulse::Each(const std::string& sql, const RowVisitor& visit) {
  SqlQuestion question;
  question.sql = sql;
  question.max_rows = limits::kMaxQueryRows;
  question.max_time_ns = limits::kMaxQueryTimeNs;  // the first look at a large file takes a while
  const SqlOutcome outcome = sandbox_->Run(
      question, [](const std::vector<std::string>&) {}, visit);
  if (outcome.end == SqlOutcome::End::kDone || outcome.end == SqlOutcome::End::kReader) return Done{};
  return Error{"cannot look at the database: " + outcome.text};
}

// Rows are only ever added: those behind the last one are what is new.
Status Pulse::ReadBatches() {
  return Each("SELECT first_call_id, agent, records FROM record_batches WHERE first_call_id > " +
                  std::to_string(last_batch_) + " ORDER BY first_call_id",
              [&](const std::vector<Store::QueryValue>& row) {
                last_batch_ = row[0].integer;
                records_[Unsigned(row[1])] += Unsigned(row[2]);
                return true;
              });
}

Status Pulse::ReadLosses() {
  return Each(
      "SELECT id, agent, kind, count FROM losses WHERE id > " + std::to_string(last_loss_) + " ORDER BY id",
      [&](const std::vector<Store::QueryValue>& row) {
        last_loss_ = row[0].integer;
        losses_[{Unsigned(row[1]), row[2].bytes}] += Unsigned(row[3]);
        ++loss_entries_[Unsigned(row[1])];
        return true;
      });
}

Status Pulse::ReadAgents(Beat& beat) {
  const Status read = Each(
      "SELECT id, agent_key, coalesce(name, agent_key), role, epoch, hostname, version, input, first_seen_ns,"
      " last_seen_ns, last_sequence, redaction, redact_secret FROM agents ORDER BY id",
      [&](const std::vector<Store::QueryValue>& row) {
        AgentProgress& a = beat.agents.emplace_back();
        a.id = Unsigned(row[0]);
        a.key = row[1].bytes;
        a.host = row[2].bytes;
        a.role = row[3].bytes;
        a.epoch = Unsigned(row[4]);
        a.hostname = row[5].bytes;
        a.version = row[6].bytes;
        a.input = row[7].bytes;
        a.first_seen_ns = row[8].integer;
        a.last_seen_ns = row[9].integer;
        a.batches = Unsigned(row[10]);
        a.redaction = {RedactionOf(row[11].bytes), row[12].bytes};
        a.records = records_[a.id];
        a.losses = loss_entries_[a.id];
        const int64_t seen_ns = a.last_seen_ns - a.first_seen_ns;
        if (seen_ns > 0)
          a.mean_records_per_s = static_cast<double>(a.records) * 1e9 / static_cast<double>(seen_ns);
        return true;
      });
  if (!read.ok()) return read;
  for (const AgentProgress& a : beat.agents) {
    for (auto it = losses_.lower_bound({a.id, ""}); it != losses_.end() && it->first.first == a.id; ++it) {
      beat.losses[{a.host, it->first.second}] += it->second;
    }
  }
  return Done{};
}

Status Pulse::ReadVerdicts(Beat& beat) {
  return Each(
      "SELECT id, component, confidence, rule, client, server, region_id, version, occurrences, first_ns, "
      "last_ns,"
      " text FROM verdicts ORDER BY id",
      [&](const std::vector<Store::QueryValue>& row) {
        VerdictLine& v = beat.verdicts.emplace_back();
        v.id = Unsigned(row[0]);
        v.component = row[1].bytes;
        v.certain = row[2].bytes == "certain";
        v.rule = row[3].bytes;
        v.client = row[4].bytes;
        v.server = row[5].bytes;
        v.region_id = Unsigned(row[6]);
        v.version = Unsigned(row[7]);
        v.occurrences = Unsigned(row[8]);
        v.first_ns = row[9].integer;
        v.last_ns = row[10].integer;
        v.text = row[11].bytes;
        return true;
      });
}

// Against the oldest look that is remembered.
void Pulse::Measure(Beat& beat) {
  if (!past_.empty() && beat.at_ns > past_.front().at_ns) {
    const Past& then = past_.front();
    const double seconds = static_cast<double>(beat.at_ns - then.at_ns) / 1e9;
    for (AgentProgress& a : beat.agents) {
      const auto before = then.records.find(a.id);
      const uint64_t had = before == then.records.end() ? 0 : before->second;
      a.records_per_s = static_cast<double>(a.records - had) / seconds;
    }
  }
  past_.push_back({beat.at_ns, records_});
  if (past_.size() > kPastLooks) past_.erase(past_.begin());
}

Result<std::shared_ptr<const Beat>> Pulse::Look(int64_t now_ns) {
  auto beat = std::make_shared<Beat>();
  beat->at_ns = now_ns;
  Status read = ReadBatches();
  if (read.ok()) read = ReadLosses();
  if (read.ok()) read = ReadAgents(*beat);
  if (read.ok()) read = ReadVerdicts(*beat);
  if (!read.ok()) return Error{read.error()};
  Measure(*beat);
  return std::shared_ptr<const Beat>(std::move(beat));
}

// ---------------------------------------------------------------------------------------------------------

std::vector<WatchEvent> Changes(const Beat* before, const Beat& now) {
  static const Beat kNothing;
  const Beat& then = before == nullptr ? kNothing : *before;
  std::vector<WatchEvent> events;
  std::set<uint64_t> known;
  uint64_t records_then = 0;
  for (const AgentProgress& a : then.agents) {
    known.insert(a.id);
    records_then += a.records;
  }
  uint64_t records = 0;
  double rate = 0;
  for (const AgentProgress& a : now.agents) {
    if (!known.contains(a.id)) events.push_back({now.at_ns, a});
    records += a.records;
    rate += a.records_per_s.value_or(0);
  }

  std::map<VerdictIdentity, const VerdictLine*> old;
  for (const VerdictLine& v : then.verdicts) old[IdentityOf(v)] = &v;
  for (const VerdictLine& v : now.verdicts) {
    const auto found = old.find(IdentityOf(v));
    VerdictLine line = v;
    line.is_new = found == old.end();
    const bool same = !line.is_new && found->second->occurrences == v.occurrences &&
                      found->second->certain == v.certain && found->second->text == v.text;
    if (!line.is_new) old.erase(found);
    if (!same) events.push_back({now.at_ns, line});
  }
  for (const auto& [identity, v] : old) {
    VerdictLine line = *v;
    line.withdrawn = true;
    events.push_back({now.at_ns, line});
  }

  for (const auto& [what, total] : now.losses) {
    const auto found = then.losses.find(what);
    const uint64_t had = found == then.losses.end() ? 0 : found->second;
    if (total != had) events.push_back({now.at_ns, LossLine{what.first, what.second, total - had, total}});
  }
  // Also the look that says that it stopped.
  double rate_then = 0;
  for (const AgentProgress& a : then.agents) rate_then += a.records_per_s.value_or(0);
  if (before == nullptr || records != records_then || rate != rate_then)
    events.push_back({now.at_ns, now.agents});
  return events;
}

}  // namespace keytrail
