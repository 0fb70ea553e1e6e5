// Between plain values and the messages of proto/keytrail/query.proto, both ways; for this room.
//
// Pure. What comes from a service is taken as it is: a collector of the same host is asked.
#pragma once

#include <string>
#include <vector>

#include "collector/query/answer_source.h"

namespace keytrail {

namespace query {
class Agent;
class AgentsAnswer;
class Loss;
class SqlRow;
class SqlRequest;
class VerdictsAnswer;
class WatchEvent;
}  // namespace query

// The bytes that the row takes in a message, near enough.
size_t WriteRow(const std::vector<Store::QueryValue>& values, query::SqlRow& out);
void ReadRow(const query::SqlRow& row, std::vector<Store::QueryValue>& values);

void WriteRequest(const SqlRequest& request, query::SqlRequest& out);
SqlRequest ReadRequest(const query::SqlRequest& request);

void WriteReport(const InvestigationReport& report, query::VerdictsAnswer& out);
InvestigationReport ReadReport(const query::VerdictsAnswer& answer);

void WriteAgent(const AgentProgress& agent, query::Agent& out);
void WriteAgents(const AgentsReport& report, query::AgentsAnswer& out);
AgentsReport ReadAgents(const query::AgentsAnswer& answer);

void WriteLoss(const LostEntry& loss, query::Loss& out);
LostEntry ReadLoss(const query::Loss& loss);

void WriteEvent(const WatchEvent& event, query::WatchEvent& out);
WatchEvent ReadEvent(const query::WatchEvent& event);

}  // namespace keytrail
