#include "collector/store/timeline_places.h"

#include <algorithm>
#include <cstring>

#include "collector/store/timeline_sql.h"

namespace keytrail {

namespace {

void NoColumns(const Store::QueryColumns&) {}

// The address of "address:port"; IPv6 stands in brackets there.
std::string AddressPart(const std::string& endpoint) {
  const size_t colon = endpoint.rfind(':');
  if (colon == std::string::npos) return endpoint;
  if (endpoint.front() == '[') return endpoint.substr(1, colon - 2);
  return endpoint.substr(0, colon);
}

}  // namespace

bool IsLoopbackText(const std::string& address) {
  return address.rfind("127.", 0) == 0 || address == "::1";
}

Result<TimelinePlaces> TimelinePlaces::Read(const TimelineSql& sql, const InvestigationReport& report) {
  TimelinePlaces places;
  places.hosts_ = report.hosts;
  for (const HostReport& h : report.hosts) {
    if (!h.reference.empty()) places.reference_ = h.reference;
  }
  places.ReadTranslations(report);
  for (const Status& status : {places.ReadAgents(sql), places.ReadClocks(sql), places.StandAgents(sql)}) {
    if (!status.ok()) return Error{status.error()};
  }
  return places;
}

void TimelinePlaces::ReadTranslations(const InvestigationReport& report) {
  std::set<std::pair<std::string, std::string>> ambiguous;
  for (const TranslationReport& t : report.translations) {
    const Ends ends{t.client, AddressPart(t.client), t.server, AddressPart(t.server)};
    const Ends at_client{t.client, ends.client_address, t.server_at_client, AddressPart(t.server_at_client)};
    const Ends at_server{t.client_at_server, AddressPart(t.client_at_server), t.server, ends.server_address};
    if (at_client.server_address != ends.server_address) translated_.insert(at_client.server_address);
    if (at_server.client_address != ends.client_address) translated_.insert(at_server.client_address);
    if (t.connections != 1) continue;  // without their ports nobody knows which ones
    for (const Ends& seen : {at_client, at_server}) {
      const auto [it, fresh] = true_ends_.try_emplace({seen.client, seen.server}, ends);
      // Ports that were used again for another connection.
      if (!fresh && it->second != ends) ambiguous.insert(it->first);
      if (seen != ends) seen_ends_[{ends.client, ends.server}].push_back(seen);
    }
  }
  for (const auto& seen : ambiguous) true_ends_.erase(seen);
}

TimelinePlaces::Ends TimelinePlaces::TrueEnds(Ends seen) const {
  const auto it = true_ends_.find({seen.client, seen.server});
  return it == true_ends_.end() ? std::move(seen) : it->second;
}

std::vector<TimelinePlaces::Ends> TimelinePlaces::NamesOf(const Ends& ends) const {
  std::vector<Ends> names{ends};
  const auto it = seen_ends_.find({ends.client, ends.server});
  if (it != seen_ends_.end()) names.insert(names.end(), it->second.begin(), it->second.end());
  return names;
}

Status TimelinePlaces::ReadAgents(const TimelineSql& sql) {
  return sql("SELECT id, name, agent_key, role FROM agents ORDER BY id", NoColumns, [&](const auto& values) {
    const SqlRow row(values);
    const auto id = static_cast<uint32_t>(row.Number(0));
    agents_.push_back(id);
    by_id_[id] = {row.OptionalText(1).value_or(""), row.Text(2), row.OptionalText(3).value_or(""), ""};
    return true;
  });
}

// Columns by name, so that a table with other columns beside these is read, too.
Status TimelinePlaces::ReadClocks(const TimelineSql& sql) {
  constexpr const char* kNames[] = {"host",    "reference", "offset_ns", "error_ns",
                                    "from_ns", "to_ns",     "drift_ppb"};
  std::optional<size_t> at[std::size(kNames)];
  std::vector<ClockStretch> stretches;
  const Status read = sql(
      "SELECT * FROM clock_offsets",
      [&](const Store::QueryColumns& columns) {
        for (size_t i = 0; i < columns.names.size(); ++i) {
          for (size_t n = 0; n < std::size(kNames); ++n) {
            if (columns.names[i] == kNames[n]) at[n] = i;
          }
        }
      },
      [&](const auto& values) {
        const SqlRow row(values);
        const auto number = [&](size_t n) -> std::optional<int64_t> {
          return at[n] ? row.OptionalSigned(*at[n]) : std::nullopt;
        };
        if (!at[0] || !at[1] || !number(2) || row.Text(*at[1]) != reference_) return true;
        stretches.push_back({row.Text(*at[0]), number(4), number(5), *number(2), number(3).value_or(0),
                             number(6).value_or(0)});
        return true;
      });
  // What stretches do not tell of a host the report may: one offset for all times.
  for (const HostReport& h : hosts_) {
    const bool known = std::any_of(stretches.begin(), stretches.end(),
                                   [&](const ClockStretch& s) { return s.host == h.host; });
    if (known || !h.clock_offset_ns || h.reference != reference_) continue;
    stretches.push_back({h.host, {}, {}, *h.clock_offset_ns, h.offset_error_ns.value_or(0), 0});
  }
  // The reference shows its own time, whether or not the table says so.
  if (!reference_.empty()) stretches.push_back({reference_, {}, {}, 0, 0, 0});
  clocks_ = HostClocks(std::move(stretches));
  return read;
}

// The rule of collector/correlate/hosts.cc: an agent stands on the address that takes part in most of its
// connections; a tie is broken by what other agents saw and by the role that the user gave. What stays open
// is not guessed.
Status TimelinePlaces::StandAgents(const TimelineSql& sql) {
  std::map<uint32_t, std::map<std::string, uint64_t>> counts;
  Status status =
      sql("SELECT agent, client_address, server_address, count(DISTINCT serial) FROM connections GROUP BY 1, "
          "2, 3",
          NoColumns, [&](const auto& values) {
            const SqlRow row(values);
            auto& of_agent = counts[static_cast<uint32_t>(row.Number(0))];
            of_agent[row.Text(1)] += row.Number(3);
            if (row.Text(1) != row.Text(2)) of_agent[row.Text(2)] += row.Number(3);
            return true;
          });
  for (auto& [id, agent] : by_id_) {
    if (!status.ok()) return status;
    for (const HostReport& h : hosts_) {
      if (!agent.name.empty() && h.host == agent.name) agent.address = h.address;
    }
    if (!agent.address.empty()) continue;
    uint64_t most = 0;
    std::vector<std::string> best;
    for (const auto& [address, count] : counts[id]) {
      if (IsLoopbackText(address) || translated_.contains(address)) continue;
      if (count > most) best.clear();
      most = std::max(most, count);
      if (count == most) best.push_back(address);
    }
    if (best.size() == 1) agent.address = best.front();
    if (best.size() > 1) agent.address = StandingAmong(sql, id, best, status);
    if (best.empty() && !counts[id].empty()) agent.address = counts[id].begin()->first;  // loopback only
  }
  return status;
}

std::string TimelinePlaces::StandingAmong(const TimelineSql& sql, uint32_t agent,
                                          std::vector<std::string> tied, Status& status) const {
  std::vector<std::string> left;
  for (const std::string& address : tied) {
    // A connection of that address that another agent saw and this one did not: it belongs to another
    // machine.
    const std::string text = SqlText(address);
    const std::string id = std::to_string(agent);
    bool elsewhere = false;
    const Status asked = sql("SELECT 1 FROM connections o WHERE o.agent <> " + id +
                                 " AND (o.client_address = " + text + " OR o.server_address = " + text +
                                 ") AND NOT EXISTS (SELECT 1 FROM connections n WHERE n.agent = " + id +
                                 " AND n.client = o.client AND n.server = o.server) LIMIT 1",
                             NoColumns, [&](const auto&) {
                               elsewhere = true;
                               return false;
                             });
    if (!asked.ok()) {
      status = asked;
      return "";
    }
    if (!elsewhere) left.push_back(address);
  }
  if (left.empty()) left = tied;
  const std::string& role = by_id_.at(agent).role;
  if (left.size() > 1 && !role.empty()) {
    std::erase_if(left, [&](const std::string& address) {
      const HostReport* host = HostAt(address);
      return host == nullptr || host->role != role;
    });
  }
  return left.size() == 1 ? left.front() : "";
}

const HostReport* TimelinePlaces::HostAt(const std::string& address) const {
  for (const HostReport& h : hosts_) {
    if (h.address == address) return &h;
  }
  return nullptr;
}

const std::string& TimelinePlaces::AddressOf(uint32_t agent) const {
  static const std::string kNowhere;
  const auto it = by_id_.find(agent);
  return it == by_id_.end() ? kNowhere : it->second.address;
}

std::string TimelinePlaces::ObserverName(uint32_t agent) const {
  const auto it = by_id_.find(agent);
  if (it == by_id_.end()) return "";
  if (const HostReport* host = HostAt(it->second.address)) return host->host;
  if (!it->second.name.empty()) return it->second.name;
  return it->second.address.empty() ? it->second.key : it->second.address;
}

std::vector<uint32_t> TimelinePlaces::AgentsAt(const std::string& address) const {
  std::vector<uint32_t> found;
  for (const auto& [id, agent] : by_id_) {
    if (agent.address == address) found.push_back(id);
  }
  return found;
}

TimelineEnd TimelinePlaces::EndOf(const std::string& endpoint, const std::string& address,
                                  uint32_t agent) const {
  TimelineEnd end{address, address, endpoint, "unknown"};
  const std::string& own = AddressOf(agent);
  if (IsLoopbackText(address) && !own.empty() && own != address) {
    end.address = own;
    end.host = own;
  }
  if (const HostReport* host = HostAt(end.address)) {
    end.host = host->host;
    end.role = host->role;
  }
  return end;
}

}  // namespace keytrail
