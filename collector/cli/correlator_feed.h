// What a Receiver commits goes to a Correlator.
//
// Same thread contract as Receiver and Correlator: one thread.
#pragma once

#include <set>

#include "collector/correlate/correlator.h"
#include "collector/receive/receiver.h"

namespace keytrail {

class CorrelatorFeed final : public ReceiveObserver {
 public:
  explicit CorrelatorFeed(Correlator& correlator) : correlator_(correlator) {}

  // A reconnect says hello again; the correlator hears of an agent once.
  void OnAgent(const AgentRow& agent) override {
    if (known_.insert(agent.id).second) correlator_.AddAgent({agent.id, agent.name, agent.role});
  }
  void OnCall(uint32_t agent, uint64_t call_id, const CallRecord& call) override {
    correlator_.Add(agent, call_id, call);
    ++changes_;
  }
  void OnLoss(const LossRow& loss) override {
    correlator_.AddLoss({loss.agent, loss.kind, loss.count, loss.first_ns, loss.last_ns});
    ++changes_;
  }

  // Grows with everything that could change the judgement.
  uint64_t changes() const { return changes_; }

 private:
  Correlator& correlator_;
  std::set<uint32_t> known_;
  uint64_t changes_ = 0;
};

// Everything that is stored already. Error: the database cannot be read.
inline Status FeedStored(Store& store, CorrelatorFeed& feed) {
  const Result<std::vector<AgentRow>> agents = store.Agents();
  if (!agents) return Error{agents.error()};
  for (const AgentRow& agent : *agents) feed.OnAgent(agent);
  const Status calls = store.ForEachCall(
      [&](uint32_t agent, uint64_t call_id, const CallRecord& call) { feed.OnCall(agent, call_id, call); });
  if (!calls.ok()) return calls;
  return store.ForEachLoss([&](const LossRow& loss) { feed.OnLoss(loss); });
}

}  // namespace keytrail
