#include "agent/http2/hpack_decoder.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cassert>

#include "agent/http2/header_fields.h"
#include "agent/http2/header_memo.h"
#include "common/limits.h"

namespace keytrail {
namespace {

using Kind = HpackInstruction::Kind;

// Slots from here on name entries that were seen and that this table lost before the true one did.
constexpr uint32_t kLostEntrySlots = 0x80000000;

std::string_view Text(const uint8_t* p, size_t n) {
  return {reinterpret_cast<const char*>(p), n};
}

// A dynamic table size update (RFC 7541 section 6.3) as bytes; returns how many.
size_t WriteSizeUpdate(uint32_t value, uint8_t* out) {
  size_t n = 0;
  if (value < 31) {
    out[n++] = static_cast<uint8_t>(0x20 | value);
    return n;
  }
  out[n++] = 0x3F;
  for (value -= 31; value >= 128; value >>= 7) out[n++] = static_cast<uint8_t>(0x80 | (value & 0x7F));
  out[n++] = static_cast<uint8_t>(value);
  return n;
}

// Feeds `bytes`; at most one field comes out of one instruction.
bool Feed(nghttp2_hd_inflater* inflater, Bytes bytes, nghttp2_nv& field, bool& emitted) {
  const uint8_t* at = bytes.data();
  size_t left = bytes.size();
  while (left > 0) {
    int flags = 0;
    nghttp2_nv nv;
    const ssize_t used = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, at, left, 0);
    if (used < 0) return false;
    at += used;
    left -= static_cast<size_t>(used);
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
      field = nv;
      emitted = true;
    } else if (used == 0) {
      return false;
    }
  }
  return true;
}

nghttp2_hd_inflater* NewInflater() {
  nghttp2_hd_inflater* inflater = nullptr;
  const int error = nghttp2_hd_inflate_new(&inflater);
  assert(error == 0);  // out of memory alone
  (void)error;
  // What the peer announced is checked in ApplySizeUpdate; nghttp2 has only to be willing.
  nghttp2_hd_inflate_change_table_size(inflater, limits::kMaxHeaderTableBytes);
  return inflater;
}

}  // namespace

HpackDecoder::HpackDecoder() = default;

HpackDecoder::~HpackDecoder() {
  if (inflater_ != nullptr) nghttp2_hd_inflate_del(inflater_);
}

void HpackDecoder::Restart() {
  table_bytes_ = kDefaultHeaderTableBytes;
  ClearTable();
  bridge_.Clear();
  table_known_ = true;
  total_inserted_ = 0;
  slot_base_ = slot_next_ = 1;
}

void HpackDecoder::Forget(uint64_t lost_bytes) {
  KeepPaths(lost_bytes);
  ClearTable();
  table_known_ = false;
}

// What the table is known to hold before it is lost.
void HpackDecoder::KeepPaths(uint64_t lost_bytes) {
  if (lost_bytes == UINT64_MAX || table_bytes_ < kDefaultHeaderTableBytes || inflater_ == nullptr) {
    bridge_.Clear();
    return;
  }
  const int64_t newest = static_cast<int64_t>(total_inserted_);
  bridge_.Lose(lost_bytes, inserted_, newest);
  if (!bridge_.pending()) return;
  const size_t entries = nghttp2_hd_inflate_get_num_table_entries(inflater_) - kStaticEntries;
  for (size_t age = 0; age < entries && (table_known_ || age < inserted_); ++age) {
    const nghttp2_nv* nv = nghttp2_hd_inflate_get_table_entry(inflater_, kStaticEntries + 1 + age);
    if (nv != nullptr && Text(nv->name, nv->namelen) == ":path") {
      bridge_.Keep(newest - static_cast<int64_t>(age), Text(nv->value, nv->valuelen));
    }
  }
}

// Which unknown field may bear the :path, and what it was before.
void HpackDecoder::FindPathSlot(HeaderScratch& scratch) {
  HeaderBlock& block = scratch.block;
  for (size_t i = 0; i < scratch.fields.size(); ++i) {
    const HeaderField& field = scratch.fields[i];
    if (field.name.empty() && !field.unknown_value) return;  // a new value, of :path for all we know
    if (!field.unknown_value || !(field.name.empty() || field.name == ":path")) continue;
    // Pseudo-header fields come first, and the others of them stand in HPACK's static table or follow
    // :path with every sender that we know; so the first field without a name is the best bearer of it.
    block.path_slot = field.slot;
    if (i >= layout_.size() || !layout_.is_entry(i)) return;
    const int64_t number = layout_.field(i);
    if (const FormerEntry* former = bridge_.Find(number); former != nullptr) {
      block.former_path = former->path;
      block.former_slot = former->slot;
    }
    bridge_.NameSlot(number, field.slot);
    return;
  }
}

void HpackDecoder::ClearTable() {
  inserted_ = 0;
  slot_base_ = slot_next_;
  unnamed_.clear();
  ++generation_;
  if (inflater_ == nullptr) return;
  uint8_t updates[12];
  size_t n = WriteSizeUpdate(0, updates);
  n += WriteSizeUpdate(table_bytes_, updates + n);
  nghttp2_nv none;
  bool emitted = false;
  nghttp2_hd_inflate_end_headers(inflater_);
  if (Feed(inflater_, {updates, n}, none, emitted)) {
    nghttp2_hd_inflate_end_headers(inflater_);
    return;
  }
  // After an error an inflater refuses everything.
  nghttp2_hd_inflate_del(inflater_);
  inflater_ = NewInflater();
  Feed(inflater_, {updates, n}, none, emitted);
  nghttp2_hd_inflate_end_headers(inflater_);
}

const HeaderBlock& HpackDecoder::Decode(Bytes block, uint32_t max_table_bytes, HeaderScratch& scratch) {
  scratch.counters.Add(Counter::kHeaderBlocks);
  const bool small = !block.empty() && block.size() <= HeaderMemo::kMaxBlockBytes;
  uint64_t hash = 0;
  if (small && memo_ != nullptr && memo_->generation() == generation_) {
    hash = HashHeaderBlock(block);
    if (const HeaderBlock* known = Recall(block, hash, scratch)) return *known;
  }
  scratch.fields.clear();
  scratch.in_table.clear();
  scratch.arena.Reset();
  scratch.block = HeaderBlock{};
  layout_.Clear();
  changed_ = false;
  fed_ = false;
  if (inflater_ == nullptr) inflater_ = NewInflater();
  const bool ok = Walk(block, max_table_bytes, scratch);
  if (fed_) nghttp2_hd_inflate_end_headers(inflater_);
  if (!ok) {
    scratch.counters.Add(Counter::kHeaderBlocksMalformed);
    Forget();
    scratch.block.undecodable = true;
    return scratch.block;
  }
  const size_t unknown = PickGrpcFields(scratch.fields, scratch.block);
  if (unknown != 0) scratch.counters.Add(Counter::kHeaderFieldsUnknown, unknown);
  if (bridge_.Read(layout_)) ++generation_;
  if (unknown != 0 && scratch.block.path.empty()) FindPathSlot(scratch);
  if (changed_) {
    ++generation_;
  } else if (small) {
    Remember(block, hash != 0 ? hash : HashHeaderBlock(block), scratch);
  }
  return scratch.block;
}

bool HpackDecoder::Walk(Bytes block, uint32_t max_table_bytes, HeaderScratch& scratch) {
  HpackInstruction instruction;
  size_t list_bytes = 0;
  while (!block.empty()) {
    if (!ReadHpackInstruction(block, instruction)) return false;
    if (instruction.kind == Kind::kSizeUpdate) {
      if (!scratch.fields.empty() || !ApplySizeUpdate(instruction.index, max_table_bytes, scratch))
        return false;
      continue;
    }
    if (instruction.kind == Kind::kIndexed) {
      // Written in place: a copy of what was just written in parts is slow.
      HeaderField& field = scratch.fields.emplace_back();
      bool in_table = false;
      if (!Lookup(instruction.index, field, in_table)) return false;
      if (instruction.index > kStaticEntries) {
        layout_.AddEntry(static_cast<int64_t>(total_inserted_) - (instruction.index - kStaticEntries - 1));
      } else {
        layout_.AddOther(instruction.index);
      }
      if (in_table) {
        // A later insertion in this block may evict it.
        if (changed_) {
          field.name = AsText(scratch.arena.Copy(AsBytes(field.name)));
          field.value = AsText(scratch.arena.Copy(AsBytes(field.value)));
        } else {
          scratch.in_table.push_back(static_cast<uint32_t>(scratch.fields.size() - 1));
        }
      }
    } else if (!AddLiteral(instruction, scratch)) {
      return false;
    }
    const HeaderField& field = scratch.fields.back();
    list_bytes += field.name.size() + field.value.size() + 32;
    if (list_bytes > limits::kMaxHeaderListBytes) {
      scratch.counters.Add(Counter::kCapHeaderBlock);
      return false;
    }
  }
  return true;
}

bool HpackDecoder::ApplySizeUpdate(uint32_t bytes, uint32_t max_table_bytes, HeaderScratch& scratch) {
  if (bytes > max_table_bytes) return false;
  constexpr uint32_t kMost = limits::kMaxHeaderTableBytes;
  const uint32_t allowed = scratch.short_of_room ? std::max(table_bytes_, kDefaultHeaderTableBytes) : kMost;
  if (bytes > allowed) {
    if (allowed != kMost) scratch.counters.Add(Counter::kCapHeaderTables);
    // The true table may now hold more than this one: what is evicted here is unknown, not invalid.
    bytes = allowed;
    if (table_known_) {
      table_known_ = false;
      inserted_ = nghttp2_hd_inflate_get_num_table_entries(inflater_) - kStaticEntries;
    }
  }
  uint8_t update[8];
  nghttp2_nv none;
  bool emitted = false;
  fed_ = true;
  changed_ = true;
  table_bytes_ = bytes;
  if (!Feed(inflater_, {update, WriteSizeUpdate(bytes, update)}, none, emitted)) return false;
  if (bytes == 0) {
    // Nothing is left on either side, so nothing is unknown.
    table_known_ = true;
    inserted_ = 0;
    slot_base_ = slot_next_;
    unnamed_.clear();
    bridge_.Clear();
  }
  return true;
}

bool HpackDecoder::Lookup(uint32_t index, HeaderField& out, bool& in_table) {
  in_table = false;
  if (index == 0) return false;
  const bool is_static = index <= kStaticEntries;
  const uint64_t age = is_static ? 0 : index - kStaticEntries - 1;
  const bool seen = is_static || table_known_ || age < inserted_;
  const nghttp2_nv* nv = seen ? nghttp2_hd_inflate_get_table_entry(inflater_, index) : nullptr;
  if (nv != nullptr) {
    out.name = Text(nv->name, nv->namelen);
    out.value = Text(nv->value, nv->valuelen);
    in_table = !is_static;
    if (in_table && !unnamed_.empty()) {
      const uint64_t number = total_inserted_ - age;
      for (const UnnamedEntry& entry : unnamed_) {
        if (entry.number == number) out.slot = entry.slot;
      }
    }
    return true;
  }
  if (table_known_ || age >= limits::kMaxHeaderTableBytes / 32) return false;
  out.unknown_value = true;
  if (seen) {
    out.slot = kLostEntrySlots | static_cast<uint32_t>(total_inserted_ - age);
  } else {
    out.slot = slot_base_ + static_cast<uint32_t>(age - inserted_);
    slot_next_ = std::max(slot_next_, out.slot + 1);
  }
  return true;
}

bool HpackDecoder::AddLiteral(const HpackInstruction& instruction, HeaderScratch& scratch) {
  HeaderField name;
  bool name_in_table = false;
  if (instruction.index != 0 && !Lookup(instruction.index, name, name_in_table)) return false;
  const bool inserts = instruction.kind == Kind::kLiteralIndexed;
  HeaderField field;
  field.slot = name.slot;
  // An entry with an unknown name is inserted with an empty one: never larger than the true entry.
  const bool name_known = instruction.index == 0 || field.slot == 0;
  if (!inserts) layout_.AddOther(instruction.index <= kStaticEntries ? instruction.index : 0);
  if (!inserts && !instruction.value.huffman && !(instruction.index == 0 && instruction.name.huffman)) {
    field.name = instruction.index == 0 ? AsText(instruction.name.bytes) : name.name;
    field.value = AsText(instruction.value.bytes);
    if (name_in_table) {
      if (changed_) {
        field.name = AsText(scratch.arena.Copy(AsBytes(field.name)));
      } else {
        scratch.in_table.push_back(static_cast<uint32_t>(scratch.fields.size()));
      }
    }
    scratch.fields.push_back(field);
    return true;
  }
  if (inserts && !changed_) {
    for (const uint32_t i : scratch.in_table) {
      HeaderField& held = scratch.fields[i];
      held.name = AsText(scratch.arena.Copy(AsBytes(held.name)));
      held.value = AsText(scratch.arena.Copy(AsBytes(held.value)));
    }
    scratch.in_table.clear();
    changed_ = true;
  }
  HeaderField inflated;
  if (!Inflate(instruction, name_known, inflated)) return false;
  // What nghttp2 lends ends with the next instruction; names of the static table do not.
  const bool static_name = instruction.index != 0 && instruction.index <= kStaticEntries;
  field.name = static_name ? name.name : AsText(scratch.arena.Copy(AsBytes(inflated.name)));
  field.value = AsText(scratch.arena.Copy(AsBytes(inflated.value)));
  scratch.fields.push_back(field);
  if (inserts) NoteInsertion(field);
  return true;
}

// One literal through nghttp2. Under an unknown name the index is replaced by an empty literal name.
bool HpackDecoder::Inflate(const HpackInstruction& instruction, bool name_known, HeaderField& out) {
  fed_ = true;
  nghttp2_nv nv{};
  bool emitted = false;
  if (name_known) {
    if (!Feed(inflater_, instruction.bytes, nv, emitted)) return false;
  } else {
    const uint8_t opening[2] = {static_cast<uint8_t>(instruction.kind == Kind::kLiteralIndexed ? 0x40 : 0x00),
                                0x00};
    if (!Feed(inflater_, opening, nv, emitted)) return false;
    if (!Feed(inflater_, instruction.value_bytes, nv, emitted)) return false;
  }
  if (!emitted) return false;
  out.name = Text(nv.name, nv.namelen);
  out.value = Text(nv.value, nv.valuelen);
  return true;
}

void HpackDecoder::NoteInsertion(const HeaderField& field) {
  const size_t entries = nghttp2_hd_inflate_get_num_table_entries(inflater_);
  if (entries == kStaticEntries && !table_known_) {
    // Too large for this table, so it is empty now (RFC 7541 section 4.4). A larger true table may have kept
    // the entry and shifted the older ones by it: slots cannot be followed across that.
    slot_base_ = slot_next_;
    inserted_ = 0;
    unnamed_.clear();
    bridge_.Clear();
    layout_.AddOther(0);
    return;
  }
  ++inserted_;
  ++total_inserted_;
  layout_.AddEntry(static_cast<int64_t>(total_inserted_));
  if (field.slot != 0) {
    const uint64_t oldest = total_inserted_ - (entries - kStaticEntries);
    std::erase_if(unnamed_, [oldest](const UnnamedEntry& e) { return e.number <= oldest; });
    unnamed_.push_back({total_inserted_, field.slot});
  }
}

const HeaderBlock* HpackDecoder::Recall(Bytes block, uint64_t hash, HeaderScratch& scratch) const {
  const HeaderMemo::Entry* entry = memo_->Find(block, hash);
  if (entry == nullptr) return nullptr;
  if (entry->unknown_fields != 0) scratch.counters.Add(Counter::kHeaderFieldsUnknown, entry->unknown_fields);
  return &entry->block;
}

void HpackDecoder::Remember(Bytes block, uint64_t hash, HeaderScratch& scratch) {
  if (memo_ == nullptr) memo_ = std::make_unique<HeaderMemo>();
  memo_->Offer(block, hash, generation_, scratch.block, scratch.next_identity);
}

}  // namespace keytrail
