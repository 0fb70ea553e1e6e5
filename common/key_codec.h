// TiDB and TiKV key encodings (tidb-wire.md section 4). Pure functions.
#pragma once

#include <optional>
#include <string>

#include "common/bytes.h"

namespace keytrail {

// Memcomparable ("order-preserving bytes") form of a raw key, as PD and region boundaries hold it:
// groups of 8 bytes, each followed by 0xFF minus its pad. Appends to `out`.
void EncodeKeyTo(Bytes raw, std::string& out);
std::string EncodeKey(Bytes raw);

// The raw key, or nothing if `encoded` is not a whole valid encoding. A tail of exactly 8 bytes is an MVCC
// timestamp: allowed (and returned through mvcc_ts, bitwise NOT undone) only if mvcc_ts is not null.
std::optional<std::string> DecodeKey(Bytes encoded, std::optional<uint64_t>* mvcc_ts = nullptr);

// The prefix of `encoded` that is a whole valid encoding, with an 8-byte MVCC tail cut off; the input
// itself if it is no encoding.
Bytes WithoutMvccSuffix(Bytes encoded);

// start <= key < end in plain byte order; an empty end is +infinity.
bool InRange(Bytes key, Bytes start, Bytes end);

// For people: "t53_r8012", "t53_i1_902" (integers and strings of index datums, joined by '_'), "t53",
// "m_DB:1_Table:5", "-inf"/"+inf" for an empty bound, upper-case hex when it is none of these.
// RawKeyText takes a raw key, EncodedKeyText an encoded one (decoded first; hex if that fails).
std::string RawKeyText(Bytes raw);
std::string EncodedKeyText(Bytes encoded);

// Hex, and back (nothing if odd or not hex; accepts both cases).
std::string HexLower(Bytes b);
std::string HexUpper(Bytes b);
std::optional<std::string> FromHex(std::string_view hex);

}  // namespace keytrail
