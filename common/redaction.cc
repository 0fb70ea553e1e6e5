#include "common/redaction.h"

#include <map>
#include <set>

#include "common/limits.h"

namespace keytrail {

std::string RedactionsDiffer(const std::vector<std::pair<std::string, Redaction>>& hosts) {
  std::map<std::string, std::set<std::string>> forms;
  for (const auto& [host, redaction] : hosts) {
    if (redaction.mode != Redaction::Mode::kUnknown) forms[RedactionText(redaction)].insert(host);
  }
  if (forms.size() < 2) return {};
  std::string text =
      "agents tell keys in different forms, so nothing can be decided while records of both are kept: ";
  for (const auto& [form, names] : forms) {
    text += (&names == &forms.begin()->second ? "" : "; ") + std::string("--redact ") + form + " at ";
    size_t told = 0;
    for (const std::string& name : names) {
      if (told == limits::kMaxToldHosts) {
        text += " and " + std::to_string(names.size() - told) + " more";
        break;
      }
      text += (told++ == 0 ? "" : ", ") + name;
    }
  }
  return text;
}

}  // namespace keytrail
