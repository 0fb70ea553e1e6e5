#include "deploy/fleet/host_facts.h"

#include <algorithm>
#include <charconv>
#include <sstream>

namespace keytrail {

HostFacts ReadFacts(const std::string& text) {
  HostFacts facts;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t equals = line.find('=');
    if (equals == std::string::npos || equals == 0) continue;
    const bool key = std::all_of(line.begin(), line.begin() + static_cast<ptrdiff_t>(equals),
                                 [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
    if (key) facts[line.substr(0, equals)] = line.substr(equals + 1);
  }
  return facts;
}

std::string Fact(const HostFacts& facts, const std::string& key) {
  const auto found = facts.find(key);
  return found == facts.end() ? std::string() : found->second;
}

int64_t NumberOf(const HostFacts& facts, const std::string& key) {
  const std::string text = Fact(facts, key);
  int64_t number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : -1;
}

Link LinkOf(const HostFacts& facts) {
  const std::string line = Fact(facts, "link");
  if (line.empty()) return Link::kUnknown;
  return line.find("connected to the collector") != std::string::npos ? Link::kConnected
                                                                      : Link::kNotConnected;
}

int64_t SecondsLeft(const HostFacts& facts) {
  const int64_t started = NumberOf(facts, "started");
  const int64_t limit = NumberOf(facts, "limit");
  const int64_t now = NumberOf(facts, "now");
  if (started < 0 || limit < 0 || now < 0) return -1;
  return std::max<int64_t>(0, started + limit - now);
}

}  // namespace keytrail
