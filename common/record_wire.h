// Protobuf's wire format, the part that proto/keytrail/record.proto needs: a writer and a field cursor.
//
// Used by common/record_codec.cc and its tests only. Neither knows a schema. The cursor trusts nothing: it
// never reads outside its bytes, and stops with bad() at the first field that is not well formed.
// Not thread-safe. Spans of the cursor point into its input.
#pragma once

#include <cstring>
#include <string>

#include "common/bytes.h"

namespace keytrail {

enum class RecordWireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

inline uint64_t ZigZag(int64_t n) {
  return static_cast<uint64_t>(n) << 1 ^ static_cast<uint64_t>(n >> 63);
}
inline int64_t UnZigZag(uint64_t n) {
  return static_cast<int64_t>(n >> 1 ^ (0 - (n & 1)));
}

class RecordWriter {
 public:
  size_t size() const { return used_; }
  // Forgets everything after the first `size` bytes.
  void Truncate(size_t size) { used_ = size; }
  std::string Take() {
    buffer_.resize(used_);
    used_ = 0;
    std::string out = std::move(buffer_);
    buffer_.clear();
    return out;
  }

  // Fields, written also when zero; the caller leaves out what is absent.
  void Varint(uint32_t field, uint64_t value) {
    uint8_t* p = Room(20);
    p = Put(p, field << 3);
    Use(Put(p, value));
  }
  void Fixed64(uint32_t field, uint64_t value) {
    uint8_t* p = Room(20);
    p = Put(p, field << 3 | static_cast<uint32_t>(RecordWireType::kFixed64));
    for (int i = 0; i < 8; ++i) *p++ = static_cast<uint8_t>(value >> (8 * i));
    Use(p);
  }
  void String(uint32_t field, Bytes value) {
    uint8_t* p = Room(20 + value.size());
    p = Put(p, field << 3 | static_cast<uint32_t>(RecordWireType::kBytes));
    p = Put(p, value.size());
    if (!value.empty()) std::memcpy(p, value.data(), value.size());
    Use(p + value.size());
  }
  void Raw(uint64_t value) { Use(Put(Room(10), value)); }  // an element of a packed list

  // A message or packed list: Begin() leaves one byte for its length, End() makes room if it needs more.
  size_t Begin(uint32_t field) {
    uint8_t* p = Room(20);
    Use(Put(p, field << 3 | static_cast<uint32_t>(RecordWireType::kBytes)) + 1);
    return used_;
  }
  void End(size_t begun) {
    const size_t length = used_ - begun;
    if (length < 0x80) {
      buffer_[begun - 1] = static_cast<char>(length);
      return;
    }
    uint8_t prefix[10];
    const size_t prefix_size = static_cast<size_t>(Put(prefix, length) - prefix);
    uint8_t* p = Room(prefix_size) - length;
    std::memmove(p + prefix_size - 1, p, length);
    std::memcpy(p - 1, prefix, prefix_size);
    used_ += prefix_size - 1;
  }

 private:
  uint8_t* Room(size_t n) {
    if (buffer_.size() - used_ < n) buffer_.resize(buffer_.size() * 2 + n + 4096);
    return reinterpret_cast<uint8_t*>(buffer_.data()) + used_;
  }
  void Use(const uint8_t* end) {
    used_ = static_cast<size_t>(end - reinterpret_cast<const uint8_t*>(buffer_.data()));
  }
  static uint8_t* Put(uint8_t* p, uint64_t value) {
    while (value >= 0x80) {
      *p++ = static_cast<uint8_t>(value | 0x80);
      value >>= 7;
    }
    *p++ = static_cast<uint8_t>(value);
    return p;
  }

  std::string buffer_;
  size_t used_ = 0;
};

struct RecordField {
  uint32_t number = 0;
  RecordWireType type = RecordWireType::kVarint;
  uint64_t value = 0;  // kVarint, kFixed64, kFixed32
  Bytes bytes;         // kBytes
};

class RecordCursor {
 public:
  explicit RecordCursor(Bytes input)
      : begin_(input.data()), at_(input.data()), end_(input.data() + input.size()) {}

  bool bad() const { return bad_; }
  size_t offset() const { return static_cast<size_t>(at_ - begin_); }

  // False at the end, or if what follows is no field (then bad()).
  bool Next(RecordField& field) {
    if (at_ == end_ || bad_) return false;
    uint64_t tag = 0;
    if (!ReadVarint(tag) || tag > 0xFFFFFFFF || tag >> 3 == 0) return Bad();
    field.number = static_cast<uint32_t>(tag >> 3);
    field.type = static_cast<RecordWireType>(tag & 7);
    switch (field.type) {
      case RecordWireType::kVarint:
        return ReadVarint(field.value) || Bad();
      case RecordWireType::kBytes: {
        uint64_t length = 0;
        if (!ReadVarint(length) || length > static_cast<uint64_t>(end_ - at_)) return Bad();
        field.bytes = Bytes(at_, static_cast<size_t>(length));
        at_ += length;
        return true;
      }
      case RecordWireType::kFixed64:
        return ReadFixed(8, field.value) || Bad();
      case RecordWireType::kFixed32:
        return ReadFixed(4, field.value) || Bad();
    }
    return Bad();
  }

  // An element of a packed list of varints.
  bool NextRaw(uint64_t& value) {
    if (at_ == end_ || bad_) return false;
    return ReadVarint(value) || Bad();
  }

 private:
  bool Bad() {
    bad_ = true;
    return false;
  }
  bool ReadVarint(uint64_t& value) {
    value = 0;
    for (unsigned shift = 0; shift < 70 && at_ != end_; shift += 7) {
      const uint8_t b = *at_++;
      // Bits beyond 64 in the tenth byte fall off, as in protobuf's own parser.
      if (shift < 64) value |= static_cast<uint64_t>(b & 0x7F) << shift;
      if (b < 0x80) return true;
    }
    return false;
  }
  bool ReadFixed(int n, uint64_t& value) {
    if (end_ - at_ < n) return false;
    value = 0;
    for (int i = 0; i < n; ++i) value |= uint64_t{at_[i]} << (8 * i);
    at_ += n;
    return true;
  }

  const uint8_t* begin_;
  const uint8_t* at_;
  const uint8_t* end_;
  bool bad_ = false;
};

}  // namespace keytrail
