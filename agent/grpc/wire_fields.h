// A cursor over protobuf fields (encoding specification: tag = number << 3 | wire type), for the outer
// layers that this room takes apart itself. The schema's walker reads everything else.
#pragma once

#include <cstdint>

#include "common/bytes.h"

namespace keytrail::grpc {

// Reads one base-128 varint at `at`, at most 10 bytes. False if it does not end within `end`.
inline bool ReadVarint(const uint8_t*& at, const uint8_t* end, uint64_t& value) {
  if (at < end && *at < 0x80) {
    value = *at++;
    return true;
  }
  uint64_t v = 0;
  for (int shift = 0; shift < 70 && at < end; shift += 7) {
    const uint8_t byte = *at++;
    v |= uint64_t{byte & 0x7Fu} << (shift & 63);
    if (byte < 0x80) {
      value = v;
      return shift < 63 || byte <= 1;
    }
  }
  return false;
}

struct WireField {
  uint32_t number = 0;
  uint8_t type = 0;     // 0 varint, 1 fixed64, 2 length-delimited, 5 fixed32
  uint64_t varint = 0;  // type 0
  Bytes bytes;          // types 1, 2, 5
};

class WireFields {
 public:
  explicit WireFields(Bytes message) : at_(message.data()), end_(message.data() + message.size()) {}

  // The next field; false at the end or at damage (see ok()). Groups count as damage: proto3 has none.
  bool Next(WireField& field) {
    if (at_ == end_) return false;
    uint64_t tag = 0;
    if (!ReadVarint(at_, end_, tag) || tag >> 3 == 0 || tag >> 32 != 0) return Fail();
    field.number = static_cast<uint32_t>(tag >> 3);
    field.type = tag & 7;
    uint64_t size = 0;
    switch (field.type) {
      case 0:
        return ReadVarint(at_, end_, field.varint) || Fail();
      case 1:
        size = 8;
        break;
      case 2:
        if (!ReadVarint(at_, end_, size)) return Fail();
        break;
      case 5:
        size = 4;
        break;
      default:
        return Fail();
    }
    if (size > static_cast<uint64_t>(end_ - at_)) return Fail();
    field.bytes = Bytes(at_, static_cast<size_t>(size));
    at_ += size;
    return true;
  }

  bool ok() const { return ok_; }

 private:
  bool Fail() {
    ok_ = false;
    at_ = end_;
    return false;
  }

  const uint8_t* at_;
  const uint8_t* end_;
  bool ok_ = true;
};

// All bytes are protobuf fields, to the end.
inline bool ParsesAsFields(Bytes message) {
  WireFields fields(message);
  WireField field;
  while (fields.Next(field)) {
  }
  return fields.ok();
}

}  // namespace keytrail::grpc
