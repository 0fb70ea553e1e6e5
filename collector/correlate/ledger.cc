#include "collector/correlate/ledger.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <set>
#include <tuple>

#include "common/key_codec.h"
#include "common/limits.h"

namespace keytrail::correlate {
namespace {

// Where to stop once a cap was hit, so that it is not hit again at once.
constexpr size_t Roomy(size_t cap) {
  return cap / 4 * 3;
}

// Commands of which every key is checked against the region before an answer without error (TiKV's
// RegionSnapshot for point reads and writes). Scans and lock resolution are clipped instead of refused.
bool ServesWhatItAnswers(const std::string& method, const std::string& command) {
  static constexpr std::array<std::string_view, 12> kNames = {
      "Get",    "BatchGet",    "BufferBatchGet", "Prewrite",    "PessimisticLock", "Commit",
      "RawGet", "RawBatchGet", "RawPut",         "RawBatchPut", "RawDelete",       "RawBatchDelete"};
  std::string_view name = command;
  if (name.empty()) {
    constexpr std::string_view kService = "/tikvpb.Tikv/";
    if (method.compare(0, kService.size(), kService) != 0) return false;
    name = std::string_view(method).substr(kService.size());
    if (name.substr(0, 2) == "Kv") name.remove_prefix(2);
  }
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

}  // namespace

bool Range::Contains(Bytes key) const {
  return InRange(key, AsBytes(start), AsBytes(end));
}

bool Range::ContainsRange(Bytes from, Bytes to) const {
  if (CompareBytes(from, AsBytes(start)) < 0) return false;
  if (end.empty()) return true;
  return !to.empty() && CompareBytes(to, AsBytes(end)) <= 0 && CompareBytes(from, AsBytes(end)) < 0;
}

bool Range::Overlaps(const Range& other) const {
  const bool before = !end.empty() && end <= other.start;
  const bool after = !other.end.empty() && other.end <= start;
  return !before && !after;
}

uint32_t RangeTable::Intern(Bytes start, Bytes end) {
  const uint32_t size = static_cast<uint32_t>(start.size());
  scratch_.assign(reinterpret_cast<const char*>(&size), sizeof size);
  scratch_.append(AsText(start));
  scratch_.append(AsText(end));
  auto [it, fresh] = ids_.try_emplace(scratch_, static_cast<uint32_t>(ranges_.size()));
  if (fresh) ranges_.push_back(Range{ToString(start), ToString(end)});
  return it->second;
}

std::vector<uint32_t> RangeTable::Keep(const std::vector<bool>& used) {
  std::vector<uint32_t> renumbered(ranges_.size(), kNone);
  uint32_t next = 0;
  for (uint32_t r = 0; r < ranges_.size(); ++r) {
    if (!used[r]) continue;
    if (next != r) ranges_[next] = std::move(ranges_[r]);
    renumbered[r] = next++;
  }
  ranges_.resize(next);
  for (auto it = ids_.begin(); it != ids_.end();) {
    it->second = renumbered[it->second];
    it = it->second == kNone ? ids_.erase(it) : std::next(it);
  }
  return renumbered;
}

bool IsPdAnswer(StatementSource source) {
  switch (source) {
    case StatementSource::kPdGetRegion:
    case StatementSource::kPdScanRegions:
    case StatementSource::kPdQueryRegion:
    case StatementSource::kPdSyncRegions:
    case StatementSource::kPdHeartbeatAnswer:
      return true;
    default:
      return false;
  }
}

bool IsPdLookup(StatementSource source) {
  return source == StatementSource::kPdGetRegion || source == StatementSource::kPdScanRegions ||
         source == StatementSource::kPdQueryRegion;
}

bool IsReportToPd(StatementSource source) {
  return source == StatementSource::kHeartbeat || source == StatementSource::kSplitReport;
}

bool IsTikvAnswer(StatementSource source) {
  return source == StatementSource::kEpochNotMatch || source == StatementSource::kSplitResponse ||
         source == StatementSource::kRetryRegions;
}

bool PhysicalForm(const MessageFacts& request, const KeyItem& item, Bytes key, std::string& out) {
  out.clear();
  if (item.form == KeyForm::kEncoded) {
    out.assign(AsText(key));
    return true;
  }
  const uint32_t api = item.route < request.routes.size() ? request.routes[item.route].api_version : 0;
  if (api >= 3) return false;
  if (request.raw_keyspace && api != 2) {
    out.assign(AsText(key));
  } else {
    EncodeKeyTo(key, out);
  }
  return true;
}

const std::string* RouteLedger::AskedKey(uint32_t observation) const {
  const auto it = asked_.find(observation);
  return it == asked_.end() ? nullptr : &it->second;
}

void RouteLedger::Add(const CallLog& log, uint32_t index, const CallRecord& call) {
  // Without the direction nobody knows who spoke.
  if (!call.client_known) return;
  uint32_t n = 0;
  if (call.request != nullptr) {
    for (const RegionStatement& s : call.request->statements) AddStatement(log, index, s, n++, true);
  }
  if (call.response != nullptr && !call.response->parse_failed) {
    for (const RegionStatement& s : call.response->statements) AddStatement(log, index, s, n++, false);
    if (call.request != nullptr && !call.response->statements.empty() && call.request->routes.empty() &&
        !call.request->keys.empty() && asked_.size() < limits::kMaxAskedKeys) {
      asked_.emplace(index, ToString(call.request->keys.front().start));
    }
  }
  if ((log[index].flags & kErrorFree) != 0 && call.request != nullptr && !call.request->routes.empty()) {
    AddServed(log, index, call);
  }
}

void RouteLedger::AddStatement(const CallLog& log, uint32_t index, const RegionStatement& statement,
                               uint32_t n, bool in_request) {
  // An empty epoch is no version: (region, 0) is no function.
  if (!statement.has_epoch || statement.version == 0 || statement.region_id == 0) return;
  const bool spoken_by_client = IsReportToPd(statement.source);
  if (!spoken_by_client && !IsPdAnswer(statement.source) && !IsTikvAnswer(statement.source)) return;
  if (spoken_by_client != in_request) return;
  const Observation& o = log[index];
  const SeenConnection& c = log.connection_of(o);
  const uint32_t speaker = spoken_by_client ? c.client : c.server;
  const uint32_t listener = spoken_by_client ? c.server : c.client;
  const uint32_t range = ranges_.Intern(statement.start, statement.end);
  Entries& entries = entries_[RegionVersion{statement.region_id, statement.version}];
  LedgerEntry* entry = nullptr;
  for (LedgerEntry& e : entries) {
    if (e.range == range && e.source == statement.source && e.agent == o.agent && e.speaker == speaker &&
        e.listener == listener) {
      entry = &e;
      break;
    }
  }
  if (entry == nullptr) {
    if (!entries.empty() && entries.front().range != range) ++contradictions_;
    entries.emplace_back();
    entry = &entries.back();
    entry->range = range;
    entry->source = statement.source;
    entry->agent = o.agent;
    entry->speaker = speaker;
    entry->listener = listener;
  }
  ++entry->count;
  if (entry->uses.size() < limits::kMaxUsesPerStatement) {
    ++uses_;
  } else {
    // What was last told before somebody used it matters most, and what was told first of all.
    entry->uses.erase(entry->uses.begin() + limits::kMaxUsesPerStatement / 2);
  }
  entry->uses.push_back({index, n});
}

ServedKeys& RouteLedger::PlaceOf(const ServedBy& by, uint16_t method, uint16_t command) {
  auto& by_command = served_[by];
  auto it = std::find_if(by_command.begin(), by_command.end(),
                         [&](const ServedKeys& s) { return s.method == method && s.command == command; });
  if (it == by_command.end()) {
    it = by_command.emplace(by_command.end());
    ++places_;
    it->method = method;
    it->command = command;
  }
  return *it;
}

void RouteLedger::AddServedKey(const CallLog& log, uint32_t index, const std::string& key,
                               ServedKeys& served) {
  // Of equal keys the earlier call, so that the order of arrival does not show.
  const auto earlier = [&](uint32_t than) {
    return std::pair(log[index].first(), log[index].call_id) <
           std::pair(log[than].first(), log[than].call_id);
  };
  if (served.low_observation == kNone || key < served.low ||
      (key == served.low && earlier(served.low_observation))) {
    served.low = key;
    served.low_observation = index;
  }
  if (served.high_observation == kNone || key > served.high ||
      (key == served.high && earlier(served.high_observation))) {
    served.high = key;
    served.high_observation = index;
  }
}

void RouteLedger::AddServed(const CallLog& log, uint32_t index, const CallRecord& call) {
  const Observation& o = log[index];
  if (o.region_id == 0 || call.request->routes.size() != 1 || !call.request->routes.front().has_epoch) return;
  if (!ServesWhatItAnswers(log.method(o), log.command(o))) return;
  ServedKeys* served = nullptr;
  for (const KeyItem& item : call.request->keys) {
    if (item.is_range || !PhysicalForm(*call.request, item, item.start, scratch_)) continue;
    if (served == nullptr) {
      served = &PlaceOf({{o.region_id, o.version}, log.connection_of(o).server}, o.method, o.command);
    }
    AddServedKey(log, index, scratch_, *served);
  }
}

void RouteLedger::Rejoin(const CallLog& log, const std::map<SeenConnection, SeenConnection>& ends) {
  for (auto& [region, entries] : entries_) {
    for (LedgerEntry& e : entries) {
      const bool by_client = IsReportToPd(e.source);
      const auto it = ends.find(by_client ? SeenConnection{e.speaker, e.listener}
                                          : SeenConnection{e.listener, e.speaker});
      if (it == ends.end()) continue;
      e.speaker = by_client ? it->second.client : it->second.server;
      e.listener = by_client ? it->second.server : it->second.client;
    }
  }
  // A server's place may have been that of several: each key goes where its call went.
  std::set<uint32_t> servers;
  for (const auto& [before, after] : ends) {
    if (before.server != after.server) servers.insert(before.server);
  }
  std::vector<std::pair<ServedBy, std::vector<ServedKeys>>> moved;
  for (auto it = served_.begin(); it != served_.end();) {
    if (!servers.contains(it->first.server)) {
      ++it;
      continue;
    }
    places_ -= it->second.size();
    moved.push_back({it->first, std::move(it->second)});
    it = served_.erase(it);
  }
  for (const auto& [by, commands] : moved) {
    for (const ServedKeys& s : commands) {
      for (const auto& [observation, key] :
           {std::pair(s.low_observation, &s.low), std::pair(s.high_observation, &s.high)}) {
        const uint32_t server = log.connection_of(log[observation]).server;
        AddServedKey(log, observation, *key, PlaceOf({by.region, server}, s.method, s.command));
      }
    }
  }
}

bool RouteLedger::Disputed(const Entries& entries) {
  return std::any_of(entries.begin(), entries.end(),
                     [&](const LedgerEntry& e) { return e.range != entries.front().range; });
}

std::vector<uint32_t> RouteLedger::Shrink(const std::unordered_set<RegionVersion, RegionVersionHash>& needed,
                                          std::vector<bool> range_used) {
  if (places_ > caps_.places) ForgetServed();
  if (uses_ > caps_.uses) ThinUses(needed);
  const uint64_t before = forgotten_;
  if (uses_ > caps_.uses || entries_.size() > caps_.regions) Forget(needed);
  if (forgotten_ == before) return {};
  for (const auto& [region, entries] : entries_) {
    for (const LedgerEntry& e : entries) range_used[e.range] = true;
  }
  const std::vector<uint32_t> renumbered = ranges_.Keep(range_used);
  for (auto& [region, entries] : entries_) {
    for (LedgerEntry& e : entries) e.range = renumbered[e.range];
  }
  return renumbered;
}

// Fewer and fewer occurrences of what nobody disputes, then of the rest, until there is room again for a
// while.
void RouteLedger::ThinUses(const std::unordered_set<RegionVersion, RegionVersionHash>& needed) {
  struct Step {
    bool disputed;
    size_t most;
  };
  static constexpr std::array<Step, 11> kSteps = {{{false, 128},
                                                   {false, 64},
                                                   {false, 32},
                                                   {false, 16},
                                                   {false, 8},
                                                   {false, 4},
                                                   {false, 2},
                                                   {true, 128},
                                                   {true, 64},
                                                   {true, 32},
                                                   {true, 16}}};
  for (const auto& [disputed, most] : kSteps) {
    if (uses_ <= Roomy(caps_.uses)) return;
    for (auto& [region, entries] : entries_) {
      if (!disputed && (needed.contains(region) || Disputed(entries))) continue;
      for (LedgerEntry& e : entries) {
        if (e.uses.size() <= most) continue;
        uses_ -= e.uses.size() - most;
        const auto half = static_cast<std::ptrdiff_t>(most / 2);
        e.uses.erase(e.uses.begin() + half, e.uses.end() - half);
        e.uses.shrink_to_fit();
      }
    }
  }
}

void RouteLedger::Forget(const std::unordered_set<RegionVersion, RegionVersionHash>& needed) {
  // Observations are numbered in the order of arrival, so that the last one tells when it was spoken of.
  // Disputed ones come last.
  std::vector<std::tuple<bool, uint32_t, RegionVersion>> by_age;
  for (const auto& [region, entries] : entries_) {
    if (needed.contains(region)) continue;
    uint32_t last = 0;
    for (const LedgerEntry& e : entries) last = std::max(last, e.uses.back().observation);
    by_age.push_back({Disputed(entries), last, region});
  }
  std::sort(by_age.begin(), by_age.end());
  for (const auto& [disputed, last, region] : by_age) {
    if (uses_ <= Roomy(caps_.uses) && entries_.size() <= Roomy(caps_.regions)) break;
    const auto it = entries_.find(region);
    for (const LedgerEntry& e : it->second) uses_ -= e.uses.size();
    entries_.erase(it);
    ++forgotten_;
  }
}

void RouteLedger::ForgetServed() {
  std::vector<std::pair<uint32_t, ServedBy>> by_age;
  for (const auto& [by, commands] : served_) {
    uint32_t last = 0;
    for (const ServedKeys& s : commands) last = std::max({last, s.low_observation, s.high_observation});
    by_age.push_back({last, by});
  }
  std::sort(by_age.begin(), by_age.end());
  for (const auto& [last, by] : by_age) {
    if (places_ <= Roomy(caps_.places)) break;
    const auto it = served_.find(by);
    places_ -= it->second.size();
    served_forgotten_ += it->second.size();
    served_.erase(it);
  }
}

void RouteLedger::Mark(std::vector<bool>& kept) const {
  for (const auto& [region, entries] : entries_) {
    for (const LedgerEntry& e : entries) {
      for (const StatementUse& use : e.uses) kept[use.observation] = true;
    }
  }
  for (const auto& [by, commands] : served_) {
    for (const ServedKeys& s : commands) kept[s.low_observation] = kept[s.high_observation] = true;
  }
}

void RouteLedger::Renumber(const std::vector<uint32_t>& renumbered) {
  for (auto& [region, entries] : entries_) {
    for (LedgerEntry& e : entries) {
      for (StatementUse& use : e.uses) use.observation = renumbered[use.observation];
    }
  }
  for (auto& [by, commands] : served_) {
    for (ServedKeys& s : commands) {
      s.low_observation = renumbered[s.low_observation];
      s.high_observation = renumbered[s.high_observation];
    }
  }
  std::unordered_map<uint32_t, std::string> asked;
  for (auto& [observation, key] : asked_) {
    if (renumbered[observation] != kNone) asked.emplace(renumbered[observation], std::move(key));
  }
  asked_ = std::move(asked);
}

void RouteLedger::MarkEndpoints(std::vector<bool>& used) const {
  for (const auto& [region, entries] : entries_) {
    for (const LedgerEntry& e : entries) used[e.speaker] = used[e.listener] = true;
  }
  for (const auto& [by, commands] : served_) used[by.server] = true;
}

void RouteLedger::RenumberEndpoints(const std::vector<uint32_t>& renumbered) {
  for (auto& [region, entries] : entries_) {
    for (LedgerEntry& e : entries) {
      e.speaker = renumbered[e.speaker];
      e.listener = renumbered[e.listener];
    }
  }
  std::unordered_map<ServedBy, std::vector<ServedKeys>, ServedByHash> served;
  for (auto& [by, commands] : served_) {
    served.emplace(ServedBy{by.region, renumbered[by.server]}, std::move(commands));
  }
  served_ = std::move(served);
}

}  // namespace keytrail::correlate
