// The bytes of one spool segment: a header, then entries, each a batch as it is sent.
//
// Little-endian. Header: "KTSPOOL\n", version (4), its whole length (4), start, epoch, first sequence,
// records written before (8 each), seven texts (2 bytes length each: agent key, name, role, hostname, input,
// "off" or "on" or nothing, the fingerprint of the secret; version 1 has the first five),
// CRC-32C of all before. Entry: marker (4), length of the message (4), sequence (8), records written before
// (8), records (4), first and last time (8 each), CRC-32C of the message, CRC-32C of the entry's header,
// seeded with the epoch so that an entry of another file is none of this one; then the message.
//
// Pure functions; nothing that is read is trusted. Spans live as long as the bytes they were read from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "agent/ship/batch_source.h"
#include "common/bytes.h"
#include "common/result.h"

namespace keytrail {

inline constexpr uint32_t kSpoolVersion = 2;  // version 1 is read as well
inline constexpr size_t kSpoolEntryHeaderBytes = 60;
// The longest header: five texts of limits::kMaxHelloTextBytes and two short ones.
inline constexpr size_t kMaxSpoolHeaderBytes = 24 << 10;

struct SpoolHeader {
  uint64_t start =
      0;  // the how manieth start of an agent on this spool: the order of epochs, without a clock
  ShipIdentity identity;
  uint64_t first_sequence = 0;
  uint64_t records_before = 0;  // written in this epoch before this segment
  size_t bytes = 0;             // of the header itself
};

// The lock of a folder, held (flock(2)) by the agent that uses it; its process id stands inside.
inline constexpr const char* kSpoolLockName = "lock";
std::string SpoolSegmentName(uint64_t start, uint64_t epoch, uint64_t sequence);
// False: `name` is no segment's.
bool ParseSpoolSegmentName(const std::string& name, uint64_t& start, uint64_t& epoch, uint64_t& sequence);

std::string EncodeSpoolHeader(const SpoolHeader& header);
// Error: what is wrong with it. `newer`: it is whole, but of a version that this program does not know.
Result<SpoolHeader> ParseSpoolHeader(Bytes bytes, bool& newer);

struct SpoolEntry {
  uint64_t sequence = 0;
  uint64_t records_before = 0;
  uint32_t records = 0;
  int64_t first_ns = 0;  // of its records' times; 0: not known
  int64_t last_ns = 0;
  Bytes message;
};

void AppendSpoolEntry(uint64_t epoch, const SpoolEntry& entry, std::string& out);

// Reads entries one after the other, over damage.
class SpoolScanner {
 public:
  // `entries`: what follows the header, or any part of it that begins with an entry.
  SpoolScanner(uint64_t epoch, Bytes entries) : epoch_(epoch), bytes_(entries) {}

  enum class Found : uint8_t {
    kEntry,    // whole, CRC good
    kDamaged,  // its header is good, its message is not, and something good follows: `entry` says what is
               // lost
    kEnd,      // nothing that is good follows; torn() says whether there are bytes left
  };
  // Bytes that are no entry's header are passed over.
  Found Next(SpoolEntry& entry);

  // Where the next entry begins: at the end, behind the last whole one.
  size_t offset() const { return at_; }
  bool torn() const { return at_ < bytes_.size(); }
  // The header of an entry whose message is not whole, if the rest begins with one.
  const std::optional<SpoolEntry>& torn_entry() const { return torn_entry_; }

 private:
  // The entry at `at`: nothing if there is no good header.
  std::optional<SpoolEntry> HeaderAt(size_t at, size_t& length) const;
  bool WholeAt(size_t at) const;
  // The next whole entry at or behind `from`.
  std::optional<size_t> FindWhole(size_t from) const;

  const uint64_t epoch_;
  const Bytes bytes_;
  size_t at_ = 0;
  std::optional<SpoolEntry> torn_entry_;
};

}  // namespace keytrail
