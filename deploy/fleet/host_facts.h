// What host.sh answers: lines KEY=VALUE. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace keytrail {

using HostFacts = std::map<std::string, std::string>;

// Lines that are none are passed over: a login shell may greet.
HostFacts ReadFacts(const std::string& text);
// Empty if it was not said.
std::string Fact(const HostFacts& facts, const std::string& key);
// -1 if it was not said, or is no number.
int64_t NumberOf(const HostFacts& facts, const std::string& key);

enum class Link { kUnknown, kConnected, kNotConnected };
// Of the agent, by the last line of its log that says so.
Link LinkOf(const HostFacts& facts);
// Seconds until its time is over, by its host's clock; -1: not known.
int64_t SecondsLeft(const HostFacts& facts);

}  // namespace keytrail
