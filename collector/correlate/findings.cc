#include "collector/correlate/findings.h"

#include <algorithm>

#include "common/key_codec.h"
#include "common/limits.h"

namespace keytrail::correlate {
namespace {

constexpr uint32_t kRequestDamaged =
    kRequestNotSeen | kGap | kOverCap | kUnknownEncoding | kMalformed | kDegraded;

bool IsSetback(ErrorKind kind) {
  return (kind >= ErrorKind::kNotLeader && kind <= ErrorKind::kUndeterminedResult &&
          kind != ErrorKind::kKeyNotInRegion) ||
         kind == ErrorKind::kEpochText;
}

bool EndsWith(std::string_view s, std::string_view tail) {
  return s.size() >= tail.size() && s.substr(s.size() - tail.size()) == tail;
}

// The items of one route of a request; false if some cannot be brought to physical form.
bool ItemsOfRoute(const MessageFacts& request, uint16_t route, std::vector<Item>& out) {
  for (const KeyItem& key : request.keys) {
    if (request.routes.size() > 1 && key.route != route) continue;
    Item item;
    item.is_range = key.is_range;
    if (!PhysicalForm(request, key, key.start, item.start)) return false;
    if (key.is_range && !key.end.empty() && !PhysicalForm(request, key, key.end, item.end)) return false;
    out.push_back(std::move(item));
  }
  return true;
}

// TiKV refuses an empty range as inverted, too; by itself only a start behind its end is a fault.
bool Inverted(const Item& item, bool or_empty) {
  return item.is_range && !item.end.empty() &&
         (item.start > item.end || (or_empty && item.start == item.end));
}

std::optional<Item> ComplainedItem(const ErrorFact& error) {
  Item item;
  if (error.has_key) {
    item.start = ToString(WithoutMvccSuffix(error.key));
    return item;
  }
  if (error.has_range) {
    const bool raw = error.key_form == KeyForm::kRaw;
    item.is_range = true;
    item.start = raw ? EncodeKey(error.range_start) : ToString(error.range_start);
    item.end = raw && !error.range_end.empty() ? EncodeKey(error.range_end) : ToString(error.range_end);
    return item;
  }
  return std::nullopt;
}

// Was the complained key or range among what the request asked for? A key may lie in a range that was asked.
bool AskedFor(const Item& complained, const std::vector<Item>& items) {
  for (const Item& item : items) {
    if (item == complained) return true;
    if (!item.is_range) continue;
    const Range range{item.start, item.end};
    if (complained.InsideOf(range)) return true;
    if (complained.is_range && complained.start == item.start) return true;
    // A seek may stop at the end itself, and a reverse scan starts there.
    if (!complained.is_range && complained.start == item.end) return true;
  }
  return false;
}

}  // namespace

bool IsRangeComplaint(ErrorKind kind) {
  return kind == ErrorKind::kKeyNotInRegion || kind == ErrorKind::kKeyOutOfRegion ||
         kind == ErrorKind::kRangeExceedsBound || kind == ErrorKind::kInvertedRange ||
         kind == ErrorKind::kRedacted;
}

std::vector<Item> DisputedItems(const Complaint& k) {
  if (k.complained && (k.complained_in_request || k.items.empty())) return {*k.complained};
  return k.items;
}

void Findings::Add(const CallLog& log, RangeTable& ranges, uint32_t index, const CallRecord& call) {
  if (!call.client_known) return;
  if (call.request != nullptr && !call.request->routes.empty()) CheckRequest(log, index, call);
  if (call.request != nullptr) {
    NoteStoreAsk(log, index, call);
    NoteReads(log, index, call);
    if (reads_.size() >= limits::kMaxReadRanges) DropReads(ranges);
  }
  if (call.response == nullptr) return;
  for (const ErrorFact& error : call.response->errors) AddError(log, ranges, index, call, error);
  if (!call.response->statements.empty() || !call.response->key_id_map.empty()) {
    CheckPdAnswer(log, ranges, index, call);
  }
}

void Findings::AddError(const CallLog& log, RangeTable& ranges, uint32_t index, const CallRecord& call,
                        const ErrorFact& error) {
  if (IsRangeComplaint(error.kind)) {
    AddComplaint(log, ranges, index, call, error);
    return;
  }
  if (!IsSetback(error.kind)) return;
  Setback setback{index, error.kind, {log[index].region_id, log[index].version}};
  if (call.request != nullptr && error.route < call.request->routes.size()) {
    const Route& route = call.request->routes[error.route];
    setback.region = {route.region_id, route.version};
    if (error.kind == ErrorKind::kStoreNotMatch) setback.request_store = route.store_id;
  }
  if (error.kind == ErrorKind::kStoreNotMatch) {
    if (error.request_store_id != 0) setback.request_store = error.request_store_id;
    setback.actual_store = error.actual_store_id;
  }
  if (error.kind == ErrorKind::kEpochNotMatch) {
    const auto& statements = call.response->statements;
    for (uint32_t i = 0; i < error.statement_count && error.first_statement + i < statements.size(); ++i) {
      const RegionStatement& s = statements[error.first_statement + i];
      if (s.region_id == setback.region.region_id) setback.server_version = s.version;
    }
  } else if (error.kind == ErrorKind::kEpochText) {
    setback.server_version = error.current_version;
  }
  setbacks_.push_back(setback);
}

// Two parts of one request to TiFlash that read the same place twice; parts of one region that read different
// places are legitimate, for small partitions share a region (incident 24).
void Findings::CheckRequest(const CallLog& log, uint32_t index, const CallRecord& call) {
  const MessageFacts& request = *call.request;
  if (request.over_cap || request.parse_failed || (call.incomplete & kRequestDamaged) != 0) {
    return;
  }
  if (call.reset && call.response == nullptr && request.routes.size() == 1 &&
      request.routes.front().has_epoch && (call.incomplete & kCut) == 0) {
    OddRequest odd{index, OddRequest::Kind::kReset, {}, {}};
    odd.region = {request.routes.front().region_id, request.routes.front().version};
    if (!ItemsOfRoute(request, 0, odd.items) || odd.items.empty()) return;
    odd.items.resize(std::min(odd.items.size(), limits::kMaxItemsPerComplaint));
    ++signs_;
    odd_requests_.push_back(std::move(odd));
    return;
  }
  if (request.routes.size() < 2) return;
  const std::string method = log.ShortMethod(log[index]);
  if (!EndsWith(method, "BatchCoprocessor") && !EndsWith(method, "DispatchMPPTask")) return;
  struct Part {
    RegionVersion region;
    std::string start, end;
    uint16_t route;
    auto operator<=>(const Part&) const = default;
  };
  std::vector<Part> parts;
  for (const KeyItem& key : request.keys) {
    if (!key.is_range || key.route >= request.routes.size()) continue;
    const Route& route = request.routes[key.route];
    if (route.kind != Route::Kind::kRegionInfo || route.region_id == 0) continue;
    Part part{{route.region_id, route.version}, {}, {}, key.route};
    if (!PhysicalForm(request, key, key.start, part.start)) return;
    if (!key.end.empty() && !PhysicalForm(request, key, key.end, part.end)) return;
    parts.push_back(std::move(part));
  }
  std::sort(parts.begin(), parts.end());
  const Part* widest = nullptr;  // of this region so far
  for (const Part& part : parts) {
    if (widest == nullptr || widest->region != part.region) {
      widest = &part;
      continue;
    }
    const bool overlap = widest->end.empty() || part.start < widest->end;
    if (overlap && widest->route != part.route) {
      OddRequest odd{index, OddRequest::Kind::kTwice, part.region, {}};
      odd.items.push_back({part.start, part.end, true});
      ++signs_;
      odd_requests_.push_back(std::move(odd));
      return;
    }
    if (!widest->end.empty() && (part.end.empty() || part.end > widest->end)) widest = &part;
  }
}

void Findings::AddComplaint(const CallLog& log, RangeTable& ranges, uint32_t index, const CallRecord& call,
                            const ErrorFact& error) {
  Complaint c;
  c.observation = index;
  c.kind = error.kind;
  c.region.region_id = error.region_id;
  if (call.request != nullptr && !call.request->routes.empty()) {
    const uint16_t n = error.route < call.request->routes.size() ? error.route : uint16_t{0};
    const Route& route = call.request->routes[n];
    c.region = {route.region_id, route.version};
    c.version_known = route.has_epoch && route.version != 0;
    c.bounds_of_other_region = error.region_id != 0 && error.region_id != route.region_id;
    std::vector<Item> items;
    c.items_known = ItemsOfRoute(*call.request, n, items) && !call.request->over_cap &&
                    !call.request->parse_failed && (call.incomplete & kRequestDamaged) == 0;
    if (error.has_bounds && !c.bounds_of_other_region) c.bounds = ranges.Intern(error.start, error.end);
    c.complained = ComplainedItem(error);
    c.complained_in_request = c.complained && AskedFor(*c.complained, items);
    c.inverted = std::any_of(items.begin(), items.end(), [&](const Item& item) {
      return Inverted(item, error.kind == ErrorKind::kInvertedRange);
    });
    c.item_count = static_cast<uint32_t>(items.size());
    if (EndsWith(log.ShortMethod(log[index]), "Coprocessor")) {
      for (size_t i = 1; i < items.size(); ++i) {
        const Item& before = items[i - 1];
        c.unsorted |=
            items[i].is_range && before.is_range && (before.end.empty() || items[i].start < before.end);
      }
    }
    if (c.bounds != kNone) {
      const Range& bounds = ranges.Get(c.bounds);
      const auto inside = std::stable_partition(items.begin(), items.end(),
                                                [&](const Item& i) { return !i.InsideOf(bounds); });
      c.all_inside_bounds = inside == items.begin() && !items.empty();
    }
    if (items.size() > limits::kMaxItemsPerComplaint) items.resize(limits::kMaxItemsPerComplaint);
    c.items = std::move(items);
  } else {
    if (error.has_bounds) c.bounds = ranges.Intern(error.start, error.end);
    c.complained = ComplainedItem(error);
  }
  // One complaint a route of a call: an answer may name many keys of one request.
  for (auto it = complaints_.rbegin(); it != complaints_.rend() && it->observation == index; ++it) {
    if (it->region == c.region && it->bounds == c.bounds) return;
  }
  if (complaints_.size() >= most_complaints_) {
    ++signs_;
    ++complaints_over_cap_;
    return;
  }
  ++signs_;
  complaints_.push_back(std::move(c));
}

void Findings::AddFault(RangeTable& ranges, uint32_t index, uint32_t n, const RegionStatement& s,
                        FaceFault::Kind kind, Bytes key) {
  FaceFault fault;
  fault.observation = index;
  fault.statement = n;
  fault.kind = kind;
  fault.region = {s.region_id, s.version};
  fault.range = ranges.Intern(s.start, s.end);
  fault.key = ToString(key);
  ++signs_;
  face_faults_.push_back(std::move(fault));
}

void Findings::CheckPdAnswer(const CallLog& log, RangeTable& ranges, uint32_t index, const CallRecord& call) {
  if (call.request == nullptr || call.response->parse_failed || call.response->over_cap ||
      call.request->parse_failed || call.request->over_cap || (call.incomplete & kRequestDamaged) != 0) {
    return;
  }
  const auto first = static_cast<uint32_t>(call.request->statements.size());
  const auto& statements = call.response->statements;
  const std::string& method = log.method(log[index]);
  if (EndsWith(method, "/GetRegion")) {
    if (statements.size() != 1 || call.request->keys.size() != 1) return;
    const KeyItem& asked = call.request->keys.front();
    const RegionStatement& s = statements.front();
    if (asked.is_range || asked.previous || s.source != StatementSource::kPdGetRegion) return;
    if (!InRange(asked.start, s.start, s.end)) {
      AddFault(ranges, index, first, s, FaceFault::Kind::kKeyOutside, asked.start);
    }
  } else if (EndsWith(method, "/GetRegionByID")) {
    if (statements.size() != 1 || call.request->asked_region_ids.size() != 1) return;
    if (statements.front().region_id != call.request->asked_region_ids.front()) {
      AddFault(ranges, index, first, statements.front(), FaceFault::Kind::kOtherRegion, {});
    }
  } else if (EndsWith(method, "/ScanRegions") || EndsWith(method, "/BatchScanRegions")) {
    CheckScan(ranges, index, call, first);
  } else if (EndsWith(method, "/QueryRegion")) {
    CheckQuery(ranges, index, call, first);
  }
}

// Regions of a scan come in key order and never overlap: PD's tree drops overlapped regions when it takes a
// new one. A hole is a fault only if PD promised that there is none.
void Findings::CheckScan(RangeTable& ranges, uint32_t index, const CallRecord& call,
                         uint32_t first_statement) {
  const auto& statements = call.response->statements;
  if (call.request->limit != 0 && statements.size() > call.request->limit) {
    AddFault(ranges, index, first_statement + static_cast<uint32_t>(call.request->limit),
             statements[call.request->limit], FaceFault::Kind::kTooMany, {});
  }
  for (size_t i = 1; i < statements.size(); ++i) {
    const RegionStatement& a = statements[i - 1];
    const RegionStatement& b = statements[i];
    if (a.source != StatementSource::kPdScanRegions || b.source != StatementSource::kPdScanRegions) return;
    const bool overlap = a.end.empty() || CompareBytes(b.start, a.end) < 0;
    const bool hole = !overlap && CompareBytes(b.start, a.end) > 0;
    if (!overlap && !(hole && call.request->keys.size() == 1)) continue;
    if (overlap && a.region_id == b.region_id && a.version == b.version) continue;  // told twice
    AddFault(ranges, index, first_statement + static_cast<uint32_t>(i - 1), a,
             overlap                               ? FaceFault::Kind::kOverlap
             : call.request->contain_all_key_range ? FaceFault::Kind::kHole
                                                   : FaceFault::Kind::kQuietHole,
             a.end);
    face_faults_.back().other_range = ranges.Intern(b.start, b.end);
  }
}

void Findings::CheckQuery(RangeTable& ranges, uint32_t index, const CallRecord& call,
                          uint32_t first_statement) {
  const auto& request = *call.request;
  const auto& response = *call.response;
  std::vector<const KeyItem*> asked;
  size_t previous = 0;
  for (const KeyItem& key : request.keys) {
    if (key.previous) {
      ++previous;
    } else {
      asked.push_back(&key);
    }
  }
  if (response.statements.empty()) return;
  if (asked.size() != response.key_id_map.size() || previous != response.prev_key_id_map.size()) {
    AddFault(ranges, index, first_statement, response.statements.front(), FaceFault::Kind::kMapLength, {});
    return;
  }
  for (size_t i = 0; i < asked.size(); ++i) {
    const uint64_t id = response.key_id_map[i];
    for (uint32_t n = 0; id != 0 && n < response.statements.size(); ++n) {
      const RegionStatement& s = response.statements[n];
      if (s.region_id != id || InRange(asked[i]->start, s.start, s.end)) continue;
      AddFault(ranges, index, first_statement + n, s, FaceFault::Kind::kKeyOutside, asked[i]->start);
    }
  }
}

}  // namespace keytrail::correlate
