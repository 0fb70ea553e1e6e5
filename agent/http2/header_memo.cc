#include "agent/http2/header_memo.h"

#include <cstring>

#include "agent/http2/header_fields.h"

namespace keytrail {

uint64_t HashHeaderBlock(Bytes block) {
  // Two multiplications a word are enough here: a hit is compared byte by byte.
  uint64_t h = 0x9E3779B97F4A7C15u ^ block.size();
  const uint8_t* p = block.data();
  size_t left = block.size();
  const auto mix = [&h](uint64_t word) {
    h = (h ^ word) * 0xFF51AFD7ED558CCDu;
    h ^= h >> 32;
  };
  for (; left >= 8; p += 8, left -= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    mix(word);
  }
  if (left > 0) {
    uint64_t word = 0;
    std::memcpy(&word, p, left);
    mix(word);
  }
  return h | 1;  // never 0
}

const HeaderMemo::Entry* HeaderMemo::Find(Bytes block, uint64_t hash) const {
  const size_t set = (hash >> 8) % kSets * kWays;
  for (size_t i = set; i < set + kWays; ++i) {
    const Entry* entry = entries_[i].get();
    if (entry != nullptr && entry->hash == hash && entry->block_bytes == block.size() &&
        std::memcmp(entry->bytes.data(), block.data(), block.size()) == 0) {
      return entry;
    }
  }
  return nullptr;
}

void HeaderMemo::Offer(Bytes block, uint64_t hash, uint64_t generation, const HeaderBlock& decoded,
                       uint64_t& next_identity) {
  if (generation != generation_) {
    generation_ = generation;
    sighted_ = {};
    for (const auto& entry : entries_) {
      if (entry != nullptr) entry->hash = 0;
    }
  }
  const uint32_t mark = static_cast<uint32_t>(hash >> 32) | 1;
  uint32_t& sighted = sighted_[(hash >> 4) % sighted_.size()];
  if (sighted != mark) {
    sighted = mark;
    return;
  }
  const size_t set = (hash >> 8) % kSets * kWays;
  size_t at = set + victim_++ % kWays;
  for (size_t i = set; i < set + kWays; ++i) {
    if (entries_[i] == nullptr || entries_[i]->hash == 0) at = i;
  }
  if (entries_[at] == nullptr) entries_[at] = std::make_unique<Entry>();
  Entry& entry = *entries_[at];
  size_t bytes = block.size() + decoded.former_path.size();
  for (const HeaderField& field : decoded.fields) bytes += field.name.size() + field.value.size();
  entry.hash = hash;
  entry.block_bytes = block.size();
  entry.bytes.resize(bytes);
  uint8_t* to = entry.bytes.data();
  const auto keep = [&to](std::string_view text) {
    std::string_view copy(reinterpret_cast<const char*>(to), text.size());
    if (!text.empty()) std::memcpy(to, text.data(), text.size());
    to += text.size();
    return copy;
  };
  keep(AsText(block));
  entry.fields.assign(decoded.fields.begin(), decoded.fields.end());
  for (HeaderField& field : entry.fields) {
    field.name = keep(field.name);
    field.value = keep(field.value);
  }
  entry.block = HeaderBlock{};
  entry.unknown_fields = static_cast<uint32_t>(PickGrpcFields(entry.fields, entry.block));
  entry.block.path_slot = decoded.path_slot;
  entry.block.former_path = keep(decoded.former_path);
  entry.block.former_slot = decoded.former_slot;
  entry.block.identity = next_identity++;
}

}  // namespace keytrail
