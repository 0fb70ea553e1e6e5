// The methods seen, by path, with their counts. A path is looked up in the schema once.
//
// Entries live as long as the directory. Not thread-safe.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

#include "agent/grpc/grpc_decoder.h"
#include "agent/schema/naming.h"
#include "agent/schema/schema.h"

namespace keytrail::grpc {

struct MethodEntry {
  const Method* method = nullptr;  // null: the schema does not have it
  std::string path;                // empty: one of too many foreign methods, told without a name
  PathCounts counts[2];            // on connections joined late, and from the start
  ServerRoles roles = kAnyServer;  // who offers it
};

class MethodDirectory {
 public:
  explicit MethodDirectory(const Schema& schema) : schema_(schema) {}

  // Never null. Paths that no schema has are remembered up to limits::kMaxForeignMethods and
  // kMaxForeignMethodBytes; `over_cap` is set for those beyond.
  MethodEntry* Find(std::string_view path, bool& over_cap);

  // Has any call of it been seen?
  bool Seen(const Method& method) const;

  // Rebuilt from the entries: for the end of a run, not for every packet.
  const std::map<std::string, PathCounts, std::less<>>& Counts(bool from_start);

 private:
  const Schema& schema_;
  std::deque<MethodEntry> entries_;
  std::unordered_map<std::string_view, MethodEntry*> by_path_;  // keys point into entries_
  size_t foreign_ = 0;
  size_t foreign_bytes_ = 0;
  MethodEntry nameless_;
  std::map<std::string, PathCounts, std::less<>> counts_[2];
};

}  // namespace keytrail::grpc
