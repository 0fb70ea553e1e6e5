// What a client read and what it asked PD for: the part of Findings that rules 11 and 13 stand on.
#include <algorithm>

#include "collector/correlate/findings.h"
#include "common/limits.h"

namespace keytrail::correlate {
namespace {

bool EndsWith(std::string_view s, std::string_view tail) {
  return s.size() >= tail.size() && s.substr(s.size() - tail.size()) == tail;
}

bool OfPd(std::string_view method) {
  return method.rfind("/pdpb.PD/", 0) == 0 || method.rfind("/routerpb.Router/", 0) == 0;
}

// The hole itself and the ranges that end and begin at it.
bool Touches(const Item& range, const Range& hole) {
  return (range.end.empty() || range.end >= hole.start) && (hole.end.empty() || range.start <= hole.end);
}

}  // namespace

Range HoleOf(const RangeTable& ranges, const FaceFault& fault) {
  return {ranges.Get(fault.range).end, ranges.Get(fault.other_range).start};
}

void Findings::NoteStoreAsk(const CallLog& log, uint32_t index, const CallRecord& call) {
  const std::string& method = log.method(log[index]);
  const bool one = EndsWith(method, "/GetStore");
  if (!OfPd(method) || (!one && !EndsWith(method, "/GetAllStores"))) return;
  if (store_asks_.size() >= limits::kMaxStoreAsks) {
    constexpr size_t kDropped = limits::kMaxStoreAsks / 4;
    store_asks_.erase(store_asks_.begin(), store_asks_.begin() + kDropped);
    store_asks_dropped_ += kDropped;
  }
  store_asks_.push_back({index, one ? call.request->store_id : 0});
}

void Findings::NoteReads(const CallLog& log, uint32_t index, const CallRecord& call) {
  const MessageFacts& request = *call.request;
  const std::string& method = log.method(log[index]);
  const bool pd = OfPd(method);
  if (!pd) {
    if (request.routes.empty() || request.start_ts == 0) return;
    const std::string name = log.ShortMethod(log[index]);
    if (!EndsWith(name, "Coprocessor") && !EndsWith(name, "DispatchMPPTask") && !EndsWith(name, "/Scan") &&
        !EndsWith(name, "KvScan")) {
      return;
    }
  }
  for (const KeyItem& key : request.keys) {
    if (!pd && !key.is_range) continue;
    ReadRange read;
    read.observation = index;
    read.start_ts = pd ? 0 : request.start_ts;
    read.asked_pd = pd;
    read.range.is_range = true;
    if (pd) {
      read.range.start = ToString(key.start);
      // A single key asks for no more than itself; as a range it ends just behind.
      read.range.end = key.is_range ? ToString(key.end) : read.range.start + std::string(1, '\0');
    } else {
      if (key.route < request.routes.size()) {
        const Route& route = request.routes[key.route];
        read.region = {route.region_id, route.version};
      }
      if (!PhysicalForm(request, key, key.start, read.range.start) ||
          (!key.end.empty() && !PhysicalForm(request, key, key.end, read.range.end))) {
        continue;
      }
    }
    reads_.push_back(std::move(read));
  }
}

void Findings::DropReads(const RangeTable& ranges) {
  std::vector<Range> holes;
  for (const FaceFault& f : face_faults_) {
    if (f.kind == FaceFault::Kind::kHole || f.kind == FaceFault::Kind::kQuietHole)
      holes.push_back(HoleOf(ranges, f));
  }
  std::sort(holes.begin(), holes.end());
  holes.erase(std::unique(holes.begin(), holes.end()), holes.end());
  // The newer half stays as it is: a hole among it may be found yet.
  const size_t older = reads_.size() / 2;
  size_t place = 0;
  std::erase_if(reads_, [&](const ReadRange& r) {
    return place++ < older && std::none_of(holes.begin(), holes.end(),
                                           [&](const Range& hole) { return Touches(r.range, hole); });
  });
  if (reads_.size() < limits::kMaxReadRanges / 4 * 3) return;
  reads_dropped_ += older;
  reads_.erase(reads_.begin(), reads_.begin() + static_cast<std::ptrdiff_t>(reads_.size() / 2));
}

}  // namespace keytrail::correlate
