#include "tests/live/client_node.h"

#include <memory>
#include <vector>

#include "tests/live/node.h"
#include "tests/live/statements.h"

namespace keytrail::live {

namespace {

constexpr int kWorkers = 4;
constexpr std::chrono::seconds kRefreshPause{5};  // client-go's refreshStoreListInterval is 10 s

}  // namespace

int RunClient(const std::string& pd, bool batch, uint64_t seed) {
  Statements statements(pd, batch, seed);
  std::atomic<double> rate{0};
  std::atomic<bool> stopping{false};
  Chance chance(seed + 1);
  statements.Preload();
  std::vector<std::thread> workers;
  for (int i = 0; i < kWorkers; ++i) {
    workers.emplace_back([&] {
      while (!stopping) {
        const double now = rate;
        if (now <= 0) {
          Pause(std::chrono::milliseconds(20));
          continue;
        }
        statements.RunOne();
        const double mean_us = kWorkers * 1e6 / now;
        std::this_thread::sleep_for(
            std::chrono::microseconds(chance.Of(0, static_cast<int64_t>(2 * mean_us))));
      }
    });
  }
  {
    const Every refresh(kRefreshPause, [&] { statements.Refresh(); });
    Say("ready");
    ObeyUntilEnd([&](const std::vector<std::string>& words) {
      if (words[0] == "load" && words.size() == 2) {
        rate = std::stod(words[1]);
      } else if (words[0] == "fault" && words.size() >= 2) {
        statements.SetNeighbourShare(words[1] == "tidb_neighbour" && words.size() == 3 ? std::stod(words[2])
                                                                                       : 0);
      } else if (words[0] == "reconnect") {
        statements.Reconnect();
      } else if (words[0] == "report") {
        Say("report", statements.Counts());
      } else {
        Say("problem", {{"text", "no such order: " + words[0]}});
      }
    });
    stopping = true;
    for (std::thread& worker : workers) worker.join();
  }
  return 0;
}

}  // namespace keytrail::live
