#include "agent/ship/spool_format.h"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <span>

#include "common/crc32c.h"
#include "common/limits.h"

namespace keytrail {

namespace {

constexpr std::string_view kSuffix = ".spool";
constexpr std::string_view kMagic = "KTSPOOL\n";
constexpr uint32_t kMarker = 0xB7E57A1C;
constexpr size_t kFixedHeaderBytes = 8 + 4 + 4 + 4 * 8;

template <typename T>
void Put(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    out.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i)));
  }
}

template <typename T>
T Get(Bytes bytes, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= uint64_t{bytes[at + i]} << (8 * i);
  return static_cast<T>(value);
}

uint32_t Seed(uint64_t epoch) {
  std::string bytes;
  Put(bytes, epoch);
  return Crc32c(AsBytes(bytes));
}

}  // namespace

std::string SpoolSegmentName(uint64_t start, uint64_t epoch, uint64_t sequence) {
  std::array<char, 96> name{};
  std::snprintf(name.data(), name.size(), "%010" PRIu64 "-%016" PRIx64 "-%020" PRIu64 "%s", start, epoch,
                sequence, kSuffix.data());
  return name.data();
}

bool ParseSpoolSegmentName(const std::string& name, uint64_t& start, uint64_t& epoch, uint64_t& sequence) {
  return name.ends_with(kSuffix) &&
         std::sscanf(name.c_str(), "%" SCNu64 "-%" SCNx64 "-%" SCNu64, &start, &epoch, &sequence) == 3 &&
         start != 0 && epoch != 0 && sequence != 0 && SpoolSegmentName(start, epoch, sequence) == name;
}

std::string EncodeSpoolHeader(const SpoolHeader& header) {
  const ShipIdentity& id = header.identity;
  const std::string redaction(RedactionName(id.redaction.mode));
  const std::array<const std::string*, 7> texts = {
      &id.agent_key, &id.name, &id.role, &id.hostname, &id.input, &redaction, &id.redaction.secret};
  size_t bytes = kFixedHeaderBytes + 4;
  for (const std::string* text : texts) bytes += 2 + text->size();
  std::string out(kMagic);
  Put(out, kSpoolVersion);
  Put(out, static_cast<uint32_t>(bytes));
  for (const uint64_t n : {header.start, id.epoch, header.first_sequence, header.records_before}) Put(out, n);
  for (const std::string* text : texts) {
    Put(out, static_cast<uint16_t>(text->size()));
    out += *text;
  }
  Put(out, Crc32c(AsBytes(out)));
  return out;
}

Result<SpoolHeader> ParseSpoolHeader(Bytes bytes, bool& newer) {
  newer = false;
  if (bytes.size() < kFixedHeaderBytes + 4) return Error{"shorter than a header"};
  if (AsText(bytes.first(kMagic.size())) != kMagic) return Error{"no spool segment (magic)"};
  const auto length = Get<uint32_t>(bytes, 12);
  if (length < kFixedHeaderBytes + 4 || length > std::min(bytes.size(), kMaxSpoolHeaderBytes)) {
    return Error{"header cut off or damaged"};
  }
  if (Crc32c(bytes.first(length - 4)) != Get<uint32_t>(bytes, length - 4))
    return Error{"header damaged (CRC)"};
  const auto version = Get<uint32_t>(bytes, 8);
  if (version == 0 || version > kSpoolVersion) {
    newer = true;
    return Error{"version " + std::to_string(version) + ", this program knows " +
                 std::to_string(kSpoolVersion)};
  }
  SpoolHeader header;
  header.bytes = length;
  header.start = Get<uint64_t>(bytes, 16);
  header.identity.epoch = Get<uint64_t>(bytes, 24);
  header.first_sequence = Get<uint64_t>(bytes, 32);
  header.records_before = Get<uint64_t>(bytes, 40);
  size_t at = kFixedHeaderBytes;
  ShipIdentity& id = header.identity;
  std::string redaction;
  const std::array<std::string*, 7> texts = {
      &id.agent_key, &id.name, &id.role, &id.hostname, &id.input, &redaction, &id.redaction.secret};
  for (std::string* text : std::span(texts).first(version == 1 ? 5 : 7)) {
    if (at + 2 > length - 4) return Error{"header damaged (texts)"};
    const auto size = Get<uint16_t>(bytes, at);
    at += 2;
    if (size > limits::kMaxHelloTextBytes || at + size > length - 4) return Error{"header damaged (texts)"};
    *text = ToString(bytes.subspan(at, size));
    at += size;
  }
  id.redaction.mode = RedactionOf(redaction);
  if (id.epoch == 0 || id.agent_key.empty() || header.first_sequence == 0) {
    return Error{"header without epoch, agent or sequence"};
  }
  return header;
}

void AppendSpoolEntry(uint64_t epoch, const SpoolEntry& entry, std::string& out) {
  std::string header;
  Put(header, kMarker);
  Put(header, static_cast<uint32_t>(entry.message.size()));
  Put(header, entry.sequence);
  Put(header, entry.records_before);
  Put(header, entry.records);
  Put(header, entry.first_ns);
  Put(header, entry.last_ns);
  Put(header, uint64_t{0});  // for later
  Put(header, Crc32c(entry.message));
  Put(header, Crc32c(AsBytes(header), Seed(epoch)));
  out += header;
  out += AsText(entry.message);
}

std::optional<SpoolEntry> SpoolScanner::HeaderAt(size_t at, size_t& length) const {
  if (at + kSpoolEntryHeaderBytes > bytes_.size()) return std::nullopt;
  const Bytes header = bytes_.subspan(at, kSpoolEntryHeaderBytes);
  if (Get<uint32_t>(header, 0) != kMarker) return std::nullopt;
  if (Crc32c(header.first(kSpoolEntryHeaderBytes - 4), Seed(epoch_)) !=
      Get<uint32_t>(header, kSpoolEntryHeaderBytes - 4)) {
    return std::nullopt;
  }
  SpoolEntry entry;
  length = Get<uint32_t>(header, 4);
  entry.sequence = Get<uint64_t>(header, 8);
  entry.records_before = Get<uint64_t>(header, 16);
  entry.records = Get<uint32_t>(header, 24);
  entry.first_ns = Get<int64_t>(header, 28);
  entry.last_ns = Get<int64_t>(header, 36);
  if (entry.sequence == 0 || length == 0 || length > limits::kMaxWireMessageBytes ||
      entry.records > limits::kMaxBatchRecords) {
    return std::nullopt;
  }
  return entry;
}

bool SpoolScanner::WholeAt(size_t at) const {
  size_t length = 0;
  if (!HeaderAt(at, length) || length > bytes_.size() - at - kSpoolEntryHeaderBytes) return false;
  return Crc32c(bytes_.subspan(at + kSpoolEntryHeaderBytes, length)) == Get<uint32_t>(bytes_, at + 52);
}

std::optional<size_t> SpoolScanner::FindWhole(size_t from) const {
  for (size_t at = from; at + kSpoolEntryHeaderBytes < bytes_.size(); ++at) {
    const void* hit = std::memchr(bytes_.data() + at, kMarker & 0xFF, bytes_.size() - at);
    if (hit == nullptr) break;
    at = static_cast<size_t>(static_cast<const uint8_t*>(hit) - bytes_.data());
    if (WholeAt(at)) return at;
  }
  return std::nullopt;
}

SpoolScanner::Found SpoolScanner::Next(SpoolEntry& entry) {
  if (at_ >= bytes_.size()) return Found::kEnd;
  size_t length = 0;
  const std::optional<SpoolEntry> here = HeaderAt(at_, length);
  if (here && WholeAt(at_)) {
    entry = *here;
    entry.message = bytes_.subspan(at_ + kSpoolEntryHeaderBytes, length);
    at_ += kSpoolEntryHeaderBytes + length;
    return Found::kEntry;
  }
  // A damaged length would lead astray; a damaged message may hold anything. So look at each byte behind the
  // header.
  const std::optional<size_t> next = FindWhole(at_ + 1);
  if (!next) {
    torn_entry_ = here;
    return Found::kEnd;
  }
  if (here && *next >= at_ + kSpoolEntryHeaderBytes) {
    entry = *here;
    entry.message = {};
    // Others may lie damaged between this one and the next good one.
    const size_t behind = at_ + kSpoolEntryHeaderBytes + length;
    size_t ignored = 0;
    at_ = behind < *next && HeaderAt(behind, ignored) ? behind : *next;
    return Found::kDamaged;
  }
  at_ = *next;
  return Next(entry);
}

}  // namespace keytrail
