// One segment of a spool as an agent finds it after a crash.
//
// Input: the bytes of a segment; if they have no good header, entries of epoch 7 from the first byte on. Then
// a program over real entries: the same bytes as messages, with some bytes of the segment changed.
#include "agent/ship/spool_format.h"

#include <string>
#include <vector>

#include "common/limits.h"
#include "tests/fuzz/input.h"

namespace keytrail::fuzz {
namespace {

// Reads all; what is called whole is inside, and the scan ends.
std::vector<SpoolEntry> Scan(uint64_t epoch, Bytes bytes) {
  SpoolScanner scanner(epoch, bytes);
  std::vector<SpoolEntry> whole;
  SpoolEntry entry;
  size_t before = 0;
  for (SpoolScanner::Found found; (found = scanner.Next(entry)) != SpoolScanner::Found::kEnd;) {
    KEYTRAIL_REQUIRE(scanner.offset() > before && scanner.offset() <= bytes.size());
    before = scanner.offset();
    KEYTRAIL_REQUIRE(entry.records <= limits::kMaxBatchRecords && entry.sequence != 0);
    Touch(entry.message);
    if (found == SpoolScanner::Found::kEntry) whole.push_back(entry);
  }
  KEYTRAIL_REQUIRE(scanner.torn() == (scanner.offset() < bytes.size()));
  return whole;
}

// Entries of our own, one byte of them changed: every message that comes out is one that went in.
void Damage(Input& input) {
  std::string segment;
  std::vector<std::string> messages;
  const uint64_t epoch = input.Two() + 1;
  const size_t at = input.Two();
  const uint8_t change = input.Byte();
  for (uint64_t n = 1; n <= 4; ++n) {
    messages.emplace_back(AsText(input.Take(1 + input.Byte() % 64)));
    if (messages.back().empty()) messages.back().assign(1, 'x');
    AppendSpoolEntry(epoch, {n, n, 1, 0, 0, AsBytes(messages.back())}, segment);
  }
  const bool changed = change != 0;
  segment[at % segment.size()] = static_cast<char>(segment[at % segment.size()] ^ change);
  const std::vector<SpoolEntry> whole = Scan(epoch, AsBytes(segment));
  KEYTRAIL_REQUIRE(whole.size() == (changed ? 3 : 4));
  for (const SpoolEntry& entry : whole) {
    KEYTRAIL_REQUIRE(AsText(entry.message) == messages[entry.sequence - 1]);
  }
  KEYTRAIL_REQUIRE(Scan(epoch + 1, AsBytes(segment)).empty());
}

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  const std::vector<uint8_t> exact(data, data + size);
  const Bytes bytes(exact);
  bool newer = false;
  const Result<SpoolHeader> header = ParseSpoolHeader(bytes, newer);
  KEYTRAIL_REQUIRE(header.ok() || !header.error().empty());
  if (header.ok()) {
    KEYTRAIL_REQUIRE(header->bytes <= bytes.size());
    KEYTRAIL_REQUIRE(EncodeSpoolHeader(*header).size() <= kMaxSpoolHeaderBytes);
  }
  Scan(header.ok() ? header->identity.epoch : 7, header.ok() ? bytes.subspan(header->bytes) : bytes);
  Input input(exact.data(), exact.size());
  Damage(input);
  return 0;
}
