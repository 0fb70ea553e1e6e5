#include "collector/correlate/correlator.h"

namespace keytrail {

struct Correlator::State {};

Correlator::Correlator() : state_(std::make_unique<State>()) {}
Correlator::~Correlator() = default;
void Correlator::AddAgent(const AgentDescription&) {}
void Correlator::Add(uint32_t, uint64_t, const CallRecord&) {}
void Correlator::AddLoss(const LossDescription&) {}
InvestigationReport Correlator::Judge() const { return {}; }

}  // namespace keytrail
