#include "agent/http2/table_bridge.h"

#include <algorithm>
#include <optional>

#include "common/limits.h"

namespace keytrail {
namespace {

// A table of 4,096 bytes is filled anew by some sixty insertions, each of which comes with a request of
// some sixty bytes. A loss below that cannot hide a whole turn of the table.
constexpr uint64_t kMaxLostBytes = 4096;
constexpr int64_t kMaxShift = 64;
// Fields that must have moved together, and those that may have not: :path, and a value of this call.
constexpr size_t kEnoughTogether = 3;
constexpr size_t kMostApart = 2;

// How far the entries of `now` have moved back since `before`.
std::optional<int64_t> ShiftBetween(const BlockLayout& before, const BlockLayout& now, int64_t newest) {
  if (before.size() != now.size() || before.size() == 0) return std::nullopt;
  std::array<int64_t, BlockLayout::kMaxFields> shifts;
  size_t n = 0;
  size_t fresh = 0;  // entries of after the loss
  for (size_t i = 0; i < now.size(); ++i) {
    if (before.is_entry(i) != now.is_entry(i)) return std::nullopt;
    if (!now.is_entry(i)) {
      if (before.field(i) != now.field(i)) return std::nullopt;
    } else if (now.field(i) > newest) {
      ++fresh;
    } else {
      shifts[n++] = before.field(i) - now.field(i);
    }
  }
  int64_t best = 0;
  size_t together = 0;
  for (size_t i = 0; i < n; ++i) {
    const size_t same = static_cast<size_t>(std::count(shifts.begin(), shifts.begin() + n, shifts[i]));
    if (same > together) {
      together = same;
      best = shifts[i];
    }
  }
  if (together < kEnoughTogether || n - together + fresh > kMostApart || best < 0 || best > kMaxShift) {
    return std::nullopt;
  }
  return best;
}

}  // namespace

void TableBridge::Clear() {
  pending_ = false;
  lost_ = 0;
  for (BlockLayout& layout : layouts_) layout.Clear();
  entries_.clear();
}

void TableBridge::Lose(uint64_t lost, uint64_t inserted, int64_t newest) {
  if (pending_ && inserted != 0) {
    // Two unknown shifts, with entries between them: no layout leads over both.
    Clear();
    return;
  }
  lost_ = (pending_ ? lost_ : 0) + lost;
  pending_ = true;
  newest_ = newest;
  for (FormerEntry& entry : entries_) {
    if (entry.slot_now != 0) entry.slot = entry.slot_now;
    entry.slot_now = 0;
  }
  LoseMore(0);
}

void TableBridge::LoseMore(uint64_t lost) {
  if (!pending_) return;
  lost_ = std::min(lost_ + lost, kMaxLostBytes + 1);
  if (lost_ > kMaxLostBytes) Clear();
}

FormerEntry* TableBridge::FindOrAdd(int64_t number) {
  for (FormerEntry& entry : entries_) {
    if (entry.number == number) return &entry;
  }
  if (entries_.size() >= limits::kMaxFormerEntries) {
    const auto oldest = std::min_element(entries_.begin(), entries_.end(),
                                         [](const auto& a, const auto& b) { return a.number < b.number; });
    if (oldest->number > number) return nullptr;
    entries_.erase(oldest);
  }
  entries_.push_back({number, 0, {}, 0});
  return &entries_.back();
}

void TableBridge::Keep(int64_t number, std::string_view path) {
  if (!pending_ || path.size() > limits::kMaxFormerPathBytes) return;
  if (FormerEntry* entry = FindOrAdd(number)) entry->path = path;
}

bool TableBridge::Read(const BlockLayout& layout) {
  if (!layout.whole() || layout.entries() < kEnoughTogether) return false;
  if (!pending_) {
    BlockLayout* to = nullptr;
    for (BlockLayout& known : layouts_) {
      if (known.size() == layout.size()) to = &known;
    }
    if (to == nullptr) to = &layouts_[next_layout_++ % kLayouts];
    *to = layout;
    return false;
  }
  std::optional<int64_t> shift;
  for (const BlockLayout& before : layouts_) {
    const std::optional<int64_t> one = ShiftBetween(before, layout, newest_);
    if (!one.has_value()) continue;
    if (shift.has_value() && *shift != *one) return false;
    shift = one;
  }
  if (!shift.has_value()) return false;
  pending_ = false;
  lost_ = 0;
  for (BlockLayout& before : layouts_) before.Shift(-*shift);
  for (FormerEntry& entry : entries_) entry.number -= *shift;
  return true;
}

void TableBridge::NameSlot(int64_t number, uint32_t slot) {
  if (pending_) return;
  if (FormerEntry* entry = FindOrAdd(number)) entry->slot_now = slot;
}

const FormerEntry* TableBridge::Find(int64_t number) const {
  if (pending_) return nullptr;
  for (const FormerEntry& entry : entries_) {
    if (entry.number == number) return &entry;
  }
  return nullptr;
}

}  // namespace keytrail
