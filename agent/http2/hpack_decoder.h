// HPACK of one direction of one connection (RFC 7541), through nghttp2's inflater.
//
// nghttp2 holds the dynamic table and decodes Huffman; what needs neither an insertion nor Huffman is looked
// up in that table directly, which is several times cheaper. Blocks that leave the table alone and come
// again are remembered (HeaderBlock::identity).
//
// The table may be unknown (Forget): joined late, or a block was lost. An index counts from the newest
// entry, so with n insertions seen since, indices 62 .. 61+n are exact, and 62+n+k is, until the next
// Forget, always the k-th entry from before: a field without name and value but with a stable slot number.
// Nothing depends on the size of the true table, as long as this one evicts no earlier; where it does (the
// true one is larger by a SETTINGS that was not seen) the entry has vanished here and is unknown again.
//
// One thread. Spans of a returned HeaderBlock live until the next Decode with the same HeaderScratch or of
// the same decoder.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "agent/http2/hpack_instruction.h"
#include "agent/http2/stream_events.h"
#include "agent/http2/table_bridge.h"
#include "common/arena.h"
#include "common/counters.h"

struct nghttp2_hd_inflater;

namespace keytrail {

class HeaderMemo;

inline constexpr uint32_t kDefaultHeaderTableBytes = 4096;  // RFC 9113 section 6.5.2

// Working storage that all decoders of one thread share.
struct HeaderScratch {
  explicit HeaderScratch(Counters& c) : counters(c) {}

  Counters& counters;
  std::vector<HeaderField> fields;
  std::vector<uint32_t> in_table;  // indices of `fields` that point into the dynamic table
  ByteArena arena;
  HeaderBlock block;
  uint64_t next_identity = 1;
  bool short_of_room = false;  // the tables of all connections have limits::kMaxHeaderTableBytesTotal
};

class HpackDecoder {
 public:
  HpackDecoder();
  ~HpackDecoder();
  HpackDecoder(const HpackDecoder&) = delete;
  HpackDecoder& operator=(const HpackDecoder&) = delete;

  // A new connection: the table is empty, and that is certain.
  void Restart();
  // The entries of the table are not known any more; slot numbers given out before are not used again. If
  // only so many bytes are missing, the next request may tell what the slots were (table_bridge.h).
  void Forget(uint64_t lost_bytes = UINT64_MAX);
  // More bytes of the same loss were passed over.
  void LoseMore(uint64_t lost_bytes) { bridge_.LoseMore(lost_bytes); }

  // One whole header block. `max_table_bytes` is what the receiver has announced, the largest of all times:
  // an update beyond it is an error. An undecodable block makes the table unknown.
  const HeaderBlock& Decode(Bytes block, uint32_t max_table_bytes, HeaderScratch& scratch);

  bool table_known() const { return table_known_; }
  // What the table may take beyond the size that every one has.
  size_t extra_table_bytes() const { return table_bytes_ - std::min(table_bytes_, kDefaultHeaderTableBytes); }

 private:
  bool Walk(Bytes block, uint32_t max_table_bytes, HeaderScratch& scratch);
  bool ApplySizeUpdate(uint32_t bytes, uint32_t max_table_bytes, HeaderScratch& scratch);
  bool AddLiteral(const HpackInstruction& instruction, HeaderScratch& scratch);
  bool Lookup(uint32_t index, HeaderField& out, bool& in_table);
  bool Inflate(const HpackInstruction& instruction, bool name_known, HeaderField& out);
  void NoteInsertion(const HeaderField& field);
  void ClearTable();
  void KeepPaths(uint64_t lost_bytes);
  void FindPathSlot(HeaderScratch& scratch);
  const HeaderBlock* Recall(Bytes block, uint64_t hash, HeaderScratch& scratch) const;
  void Remember(Bytes block, uint64_t hash, HeaderScratch& scratch);

  nghttp2_hd_inflater* inflater_ = nullptr;  // from the first block on: many directions never have one
  bool table_known_ = true;
  bool changed_ = false;  // the block under way has changed the table
  bool fed_ = false;      // the block under way has reached nghttp2
  uint32_t table_bytes_ = kDefaultHeaderTableBytes;
  // Insertions since Restart or Forget, and over the whole direction.
  uint64_t inserted_ = 0;
  uint64_t total_inserted_ = 0;
  uint32_t slot_base_ = 1;  // slot of the newest entry from before the last Forget
  uint32_t slot_next_ = 1;  // never given out yet
  // Entries that were inserted under an unknown name: their number (total_inserted_ then) and its slot.
  struct UnnamedEntry {
    uint64_t number;
    uint32_t slot;
  };
  std::vector<UnnamedEntry> unnamed_;
  BlockLayout layout_;  // of the block under way
  TableBridge bridge_;
  uint64_t generation_ = 1;  // changes with the table
  std::unique_ptr<HeaderMemo> memo_;
};

}  // namespace keytrail
