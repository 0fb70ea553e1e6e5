// Agents, losses and events as JSON, for programs. Pure.
#pragma once

#include <string>
#include <vector>

#include "collector/query/answer_source.h"

namespace keytrail {

// What is wrong with the agents taken together: a sentence, or empty.
std::string AgentsWarning(const AgentsReport& report);
// {"now_ns":…,"agents":[…],"warning":… or null,"queries":{…} or null}, one line.
std::string AgentsJson(const AgentsReport& report);
// {"losses":[…]}, one line.
std::string LossesJson(const std::vector<LostEntry>& losses);
// {"event":"agent|verdict|loss|rates","at_ns":…,…}, one line.
std::string EventJson(const WatchEvent& event);

}  // namespace keytrail
