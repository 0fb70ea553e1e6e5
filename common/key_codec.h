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

// Which end of a range an empty key stands for.
enum class Bound : uint8_t { kStart, kEnd };

// For people:
//   t53_r8012, t53_i1_902, t53        TiDB table keys; index datums joined by '_' (integers decimal, bytes as
//                                     text, quoted where that could be misread, else 0x and hex)
//   t53_r{7_ab}                       the handle of a clustered primary key
//   m_DB:1_Table:5                    TiDB meta keys
//   ks=7:t53_r1                       API V2: keyspace id, then the same
//   "tkv_00180"                       any other wholly printable key, in quotes
//   redacted:1f0c3a2b9d4e  a token of a key (common/key_token.h): the same name for the same key
//   -inf, +inf                        empty: `bound` says which
//   +00 behind one of these           bytes that follow and are none of the known parts (e.g. key + 0x00)
// and upper-case hex when it is none of these. RawKeyText takes a raw key, EncodedKeyText an encoded one
// (decoded first; if that fails, as a RawKV V1 boundary: quoted if printable, else hex).
std::string RawKeyText(Bytes raw, Bound bound = Bound::kStart);
std::string EncodedKeyText(Bytes encoded, Bound bound = Bound::kStart);

// Hex, and back (nothing if odd or not hex; accepts both cases).
std::string HexLower(Bytes b);
std::string HexUpper(Bytes b);
std::optional<std::string> FromHex(std::string_view hex);

}  // namespace keytrail
