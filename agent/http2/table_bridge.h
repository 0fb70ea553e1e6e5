// Across a small loss: which entry of an HPACK table of before is which one of after.
//
// A loss hides a few insertions, say d of them; every older entry then stands d places further back, and all
// of them by the same d (RFC 7541 section 2.3.3). A sender writes the fields of its requests in a constant
// order, so that a block of after, laid beside one of before, shows d in every field that both have
// (:authority, content-type, te, user-agent): at least three must agree, and at most two may differ (:path,
// and a value of this call). That is a hypothesis and no proof, since a table may be filled anew with the
// same fields: it is not made for losses in which that would have room, nor for tables that are smaller than
// the usual one; and what it says of a :path is a hint that a call has to confirm (agent/grpc/nameless.h).
//
// Entries are numbered by the count of insertions, the newest of a table having the highest number; those of
// before we joined have numbers too, down into the negative. One direction of one connection; one thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace keytrail {

// The fields of one header block by where they come from.
class BlockLayout {
 public:
  static constexpr size_t kMaxFields = 24;

  void Clear() {
    size_ = 0;
    entries_ = 0;
    too_long_ = false;
  }
  // An entry of the dynamic table.
  void AddEntry(int64_t number) {
    if (size_ < kMaxFields) entry_mask_ = (entry_mask_ & ~Bit(size_)) | Bit(size_);
    ++entries_;
    Add(number);
  }
  // An index of the static table, or a literal under such a name; 0: any other literal.
  void AddOther(int64_t index) {
    if (size_ < kMaxFields) entry_mask_ &= ~Bit(size_);
    Add(index);
  }

  size_t size() const { return size_; }
  size_t entries() const { return entries_; }
  bool whole() const { return !too_long_; }
  bool is_entry(size_t i) const { return (entry_mask_ & Bit(i)) != 0; }
  int64_t field(size_t i) const { return fields_[i]; }
  void Shift(int64_t by) {
    for (size_t i = 0; i < size_; ++i) {
      if (is_entry(i)) fields_[i] += by;
    }
  }

 private:
  static uint32_t Bit(size_t i) { return uint32_t{1} << i; }
  void Add(int64_t what) {
    if (size_ == kMaxFields) {
      too_long_ = true;
      return;
    }
    fields_[size_++] = what;
  }

  size_t size_ = 0;
  size_t entries_ = 0;
  bool too_long_ = false;
  uint32_t entry_mask_ = 0;
  std::array<int64_t, kMaxFields> fields_{};
};

// What an entry was known as. `slot`: HeaderField::slot, 0 if it had a name then; `path`: a :path.
struct FormerEntry {
  int64_t number = 0;
  uint32_t slot = 0;
  std::string path;
  uint32_t slot_now = 0;  // since the last loss
};

class TableBridge {
 public:
  // Nothing is known, and nothing leads there.
  void Clear();
  // `lost` bytes of the direction are missing behind the blocks seen so far. `inserted`: entries that were
  // seen to be inserted since the loss before; `newest`: the number of the newest entry.
  void Lose(uint64_t lost, uint64_t inserted, int64_t newest);
  // A :path that was in the table at the loss. Call it after Lose.
  void Keep(int64_t number, std::string_view path);
  // `lost` more of the same loss: bytes that were passed over.
  void LoseMore(uint64_t lost);
  // A block was read. True: it shows how the tables before and after belong together; entries and their
  // strings have moved.
  bool Read(const BlockLayout& layout);
  // A slot stands for the :path of a request.
  void NameSlot(int64_t number, uint32_t slot);
  // Null: nothing is known. Valid until the next call of another method.
  const FormerEntry* Find(int64_t number) const;

  bool pending() const { return pending_; }

 private:
  FormerEntry* FindOrAdd(int64_t number);

  static constexpr size_t kLayouts = 4;

  bool pending_ = false;  // a loss is not bridged yet
  uint64_t lost_ = 0;
  int64_t newest_ = 0;  // at the loss
  std::array<BlockLayout, kLayouts> layouts_;
  size_t next_layout_ = 0;
  std::vector<FormerEntry> entries_;
};

}  // namespace keytrail
