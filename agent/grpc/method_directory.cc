#include "agent/grpc/method_directory.h"

#include "common/limits.h"

namespace keytrail::grpc {

MethodEntry* MethodDirectory::Find(std::string_view path, bool& over_cap) {
  if (const auto it = by_path_.find(path); it != by_path_.end()) return it->second;
  const Method* method = schema_.FindMethod(path);
  if (method == nullptr) {
    if (foreign_ == limits::kMaxForeignMethods ||
        path.size() > limits::kMaxForeignMethodBytes - foreign_bytes_) {
      over_cap = true;
      return &nameless_;
    }
    ++foreign_;
    foreign_bytes_ += path.size();
  }
  MethodEntry& entry = entries_.emplace_back();
  entry.method = method;
  entry.path = path;
  if (method != nullptr) entry.roles = RolesOfService(path);
  by_path_.emplace(entry.path, &entry);
  return &entry;
}

bool MethodDirectory::Seen(const Method& method) const {
  const auto it = by_path_.find(method.path);
  return it != by_path_.end() && it->second->counts[0].streams + it->second->counts[1].streams != 0;
}

const std::map<std::string, PathCounts, std::less<>>& MethodDirectory::Counts(bool from_start) {
  auto& counts = counts_[from_start];
  counts.clear();
  for (const MethodEntry& entry : entries_) {
    const PathCounts& c = entry.counts[from_start];
    if (c.streams != 0 || c.request_messages != 0 || c.response_messages != 0) counts[entry.path] = c;
  }
  return counts;
}

}  // namespace keytrail::grpc
