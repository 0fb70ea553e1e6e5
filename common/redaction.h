// How an agent tells keys: what its Hello, its spool and the database say of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keytrail {

struct Redaction {
  enum class Mode : uint8_t { kUnknown = 0, kOff = 1, kOn = 2 };  // numbers of protocol::Hello and spools
  Mode mode = Mode::kUnknown;  // kUnknown: an agent of an earlier version does not tell it
  std::string secret;          // of kOn: the fingerprint of its secret, hex (KeyTokens::Fingerprint)

  bool operator==(const Redaction&) const = default;
};

// "off", "on"; empty: not known.
inline std::string_view RedactionName(Redaction::Mode mode) {
  return mode == Redaction::Mode::kOff ? "off" : mode == Redaction::Mode::kOn ? "on" : "";
}

inline Redaction::Mode RedactionOf(std::string_view name) {
  return name == "off"  ? Redaction::Mode::kOff
         : name == "on" ? Redaction::Mode::kOn
                        : Redaction::Mode::kUnknown;
}

// For people: "off", "on (secret 0123456789)", "not told".
inline std::string RedactionText(const Redaction& redaction) {
  if (redaction.mode == Redaction::Mode::kUnknown) return "not told";
  std::string text(RedactionName(redaction.mode));
  if (!redaction.secret.empty()) text += " (secret " + redaction.secret + ")";
  return text;
}

// A sentence that names who tells keys in which form if there is more than one; else empty. Hosts that do not
// tell it are left out.
std::string RedactionsDiffer(const std::vector<std::pair<std::string, Redaction>>& hosts);

}  // namespace keytrail
