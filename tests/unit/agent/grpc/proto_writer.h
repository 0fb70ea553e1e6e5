// The least that writes protobuf bytes, for messages of tests.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace keytrail::testing {

class Proto {
 public:
  Proto& Varint(uint32_t number, uint64_t value) {
    Raw(uint64_t{number} << 3);
    Raw(value);
    return *this;
  }
  Proto& Text(uint32_t number, std::string_view value) {
    Raw(uint64_t{number} << 3 | 2);
    Raw(value.size());
    bytes_ += value;
    return *this;
  }
  Proto& Message(uint32_t number, const Proto& value) { return Text(number, value.bytes()); }
  // A varint without a tag, for packed fields.
  Proto& Raw(uint64_t v) {
    for (; v >= 0x80; v >>= 7) bytes_ += static_cast<char>(v | 0x80);
    bytes_ += static_cast<char>(v);
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

}  // namespace keytrail::testing
