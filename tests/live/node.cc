#include "tests/live/node.h"

#include <cstdio>
#include <iostream>
#include <sstream>

#include "common/clock.h"

namespace keytrail::live {

void Say(std::string_view event, nlohmann::json fields) {
  static std::mutex mutex;
  fields["event"] = event;
  fields["t_ns"] = WallClockNs();
  const std::string line = fields.dump() + "\n";
  const std::lock_guard lock(mutex);
  std::fputs(line.c_str(), stdout);
  std::fflush(stdout);
}

void ObeyUntilEnd(const std::function<void(const std::vector<std::string>&)>& order) {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream stream(line);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word);
    if (words.empty()) continue;
    if (words[0] == "quit") return;
    order(words);
  }
}

Every::Every(std::chrono::milliseconds pause, std::function<void()> work)
    : thread_([this, pause, work = std::move(work)] {
        while (!stopping_) {
          const auto due = std::chrono::steady_clock::now() + pause;
          while (!stopping_ && std::chrono::steady_clock::now() < due)
            Pause(std::min(pause, std::chrono::milliseconds(20)));
          if (!stopping_) work();
        }
      }) {}

Every::~Every() {
  stopping_ = true;
  thread_.join();
}

void Pause(std::chrono::milliseconds time) {
  std::this_thread::sleep_for(time);
}

const metapb::Peer* PeerOn(const metapb::Region& region, uint64_t store_id) {
  for (const metapb::Peer& peer : region.peers())
    if (peer.store_id() == store_id) return &peer;
  return nullptr;
}

bool SameVersion(const metapb::Region& a, const metapb::Region& b) {
  return a.id() == b.id() && a.region_epoch().version() == b.region_epoch().version() &&
         a.region_epoch().conf_ver() == b.region_epoch().conf_ver();
}

std::string HostOf(const std::string& peer) {
  const size_t first = peer.find(':');
  const size_t last = peer.rfind(':');
  return first == last ? peer : peer.substr(first + 1, last - first - 1);
}

}  // namespace keytrail::live
