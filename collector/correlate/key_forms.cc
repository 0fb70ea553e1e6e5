#include "collector/correlate/key_forms.h"

#include <utility>

#include "collector/correlate/call_log.h"
#include "common/key_token.h"

namespace keytrail::correlate {

void KeyForms::AddKey(uint32_t agent, Bytes key) {
  if (key.empty()) return;
  // One agent has one form for all keys of its life, as a rule: mostly this is the form that it had before.
  const Bytes prefix = IsKeyToken(key) ? key.first(kKeyTokenPrefixBytes) : Bytes();
  if (agent == last_agent_ && AsText(prefix) == last_prefix_) return;
  last_agent_ = agent;
  last_prefix_ = AsText(prefix);
  agents_[KeyTokenFingerprint(key)].insert(agent);
}

void KeyForms::AddFacts(uint32_t agent, const MessageFacts* facts) {
  if (facts == nullptr) return;
  for (const KeyItem& item : facts->keys) {
    AddKey(agent, item.start);
    AddKey(agent, item.end);
  }
  for (const RegionStatement& statement : facts->statements) {
    AddKey(agent, statement.start);
    AddKey(agent, statement.end);
  }
  for (const ErrorFact& error : facts->errors) {
    for (const Bytes key : {error.key, error.range_start, error.range_end, error.start, error.end}) {
      AddKey(agent, key);
    }
  }
}

void KeyForms::Add(uint32_t agent, const CallRecord& call) {
  AddFacts(agent, call.request);
  AddFacts(agent, call.response);
}

void KeyForms::Withhold(const CallLog& log, InvestigationReport& report) const {
  report.key_forms = agents_.size();
  if (agents_.size() < 2) return;
  Inconclusive entry;
  entry.suspects = {Component::kTidb, Component::kPd, Component::kTikv};
  entry.occurrences = report.complaints;
  entry.text = "Nothing can be decided: agents tell keys in different forms, and those cannot be compared.";
  for (const auto& [form, numbers] : agents_) {
    std::string names;
    for (const AgentInfo& agent : log.agents()) {
      if (!numbers.contains(agent.number)) continue;
      names += (names.empty() ? "" : ", ") +
               (agent.name.empty() ? "agent " + std::to_string(agent.number) : agent.name);
    }
    entry.missing.push_back(
        form.empty() ? "keys of " + names + " as tokens of the others' secret (they come as they are)"
                     : "one secret for all (" + names + " redact with the secret " + form + ")");
  }
  report.verdicts.clear();
  report.inconclusive.assign(1, std::move(entry));
}

}  // namespace keytrail::correlate
