// A look at a database every now and then: agents and how fast they are, verdicts, losses; and what changed
// between two looks.
//
// A look costs about as much as what was stored since the one before. One thread at a time; the connection is
// kept and holds no lock between looks.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "collector/query/answer_source.h"

namespace keytrail {

struct Beat {
  int64_t at_ns = 0;
  std::vector<AgentProgress> agents;
  std::vector<VerdictLine> verdicts;
  // (host, kind) of `losses` -> how many.
  std::map<std::pair<std::string, std::string>, uint64_t> losses;
};

class Pulse {
 public:
  static Result<std::unique_ptr<Pulse>> Open(const std::string& path);

  // `now_ns`: the wall clock. Error: the database cannot be read.
  Result<std::shared_ptr<const Beat>> Look(int64_t now_ns);
  // Ends a look that is being taken, and all later ones. Any thread.
  void Cancel() { sandbox_->Cancel(); }

 private:
  Pulse() = default;
  Status Each(const std::string& sql, const RowVisitor& visit);
  Status ReadBatches();
  Status ReadLosses();
  Status ReadAgents(Beat& beat);
  Status ReadVerdicts(Beat& beat);
  void Measure(Beat& beat);

  std::unique_ptr<Sandbox> sandbox_;
  int64_t last_batch_ = 0;                // record_batches.first_call_id
  int64_t last_loss_ = 0;                 // losses.id
  std::map<uint64_t, uint64_t> records_;  // by agent
  std::map<std::pair<uint64_t, std::string>, uint64_t> losses_;
  std::map<uint64_t, uint64_t> loss_entries_;
  // Records by agent some looks ago, for the rate of late.
  struct Past {
    int64_t at_ns = 0;
    std::map<uint64_t, uint64_t> records;
  };
  std::vector<Past> past_;
};

// Events that lead from `before` (null: nothing was seen yet) to `now`: new agents, new, grown and withdrawn
// verdicts, losses, and last the rates.
std::vector<WatchEvent> Changes(const Beat* before, const Beat& now);

}  // namespace keytrail
