// Where agents stand and what hosts are called, from the last report and the connections.
//
// Reads once when made; afterwards pure. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "collector/store/store.h"
#include "collector/store/timeline_clock.h"
#include "collector/store/timeline_model.h"

namespace keytrail {

// One reading statement: a database's own (Store::Query), or whoever answers SQL in its place. `on_row` gives
// false when it wants no more.
using TimelineSql = std::function<Status(
    const std::string& sql, const std::function<void(const Store::QueryColumns&)>& on_columns,
    const std::function<bool(const std::vector<Store::QueryValue>&)>& on_row)>;

class TimelinePlaces {
 public:
  // Error: the source's words.
  static Result<TimelinePlaces> Read(const TimelineSql& sql, const InvestigationReport& report);

  const std::vector<uint32_t>& agents() const { return agents_; }
  // Address of the host that an agent stands on; empty: nobody knows.
  const std::string& AddressOf(uint32_t agent) const;
  // The host's name, or the agent's own if nobody knows where it stands.
  std::string ObserverName(uint32_t agent) const;
  // The agents that stand at an address.
  std::vector<uint32_t> AgentsAt(const std::string& address) const;
  // The process at `endpoint`, as `agent` saw it: a loopback address is the agent's own host.
  TimelineEnd EndOf(const std::string& endpoint, const std::string& address, uint32_t agent) const;
  // A connection's ends as its machines' own agents see them, whatever stands between.
  struct Ends {
    std::string client;  // address:port
    std::string client_address;
    std::string server;
    std::string server_address;

    friend auto operator<=>(const Ends&, const Ends&) = default;
  };
  Ends TrueEnds(Ends seen) const;
  // All names under which agents saw the connection of these true ends, these themselves first.
  std::vector<Ends> NamesOf(const Ends& ends) const;
  const HostClocks& clocks() const { return clocks_; }
  const std::string& reference() const { return reference_; }

 private:
  struct Agent {
    std::string name;  // given by the user; empty: none
    std::string key;
    std::string role;
    std::string address;
  };
  Status ReadAgents(const TimelineSql& sql);
  Status ReadClocks(const TimelineSql& sql);
  Status StandAgents(const TimelineSql& sql);
  std::string StandingAmong(const TimelineSql& sql, uint32_t agent, std::vector<std::string> tied,
                            Status& status) const;
  const HostReport* HostAt(const std::string& address) const;

  void ReadTranslations(const InvestigationReport& report);

  std::vector<HostReport> hosts_;
  // By client and server as seen; and what was seen, by true client and server.
  std::map<std::pair<std::string, std::string>, Ends> true_ends_;
  std::map<std::pair<std::string, std::string>, std::vector<Ends>> seen_ends_;
  std::set<std::string> translated_;  // addresses that stand for other machines
  std::vector<uint32_t> agents_;
  std::map<uint32_t, Agent> by_id_;
  HostClocks clocks_;
  std::string reference_;
};

// "127.…" and "::1": another machine at every agent.
bool IsLoopbackText(const std::string& address);

}  // namespace keytrail
