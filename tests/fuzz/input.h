// The bytes of one fuzzer input, read as a small program, and the check that ends a run.
//
// Every read works at the end of the input too and gives zeroes then, so that each input is a program. Spans
// point into the input and live as long as it does. Used by the targets alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "common/bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// What a header promises. Ends the process also where assert() is compiled out: the replay runs in `release`.
#define KEYTRAIL_REQUIRE(condition)                                                               \
  do {                                                                                            \
    if (!(condition)) {                                                                           \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); /* NOLINT */ \
      std::abort();                                                                               \
    }                                                                                             \
  } while (false)

namespace keytrail::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(data, size) {}

  bool empty() const { return rest_.empty(); }

  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const uint8_t b = rest_[0];
    rest_ = rest_.subspan(1);
    return b;
  }
  uint16_t Two() {
    const uint8_t high = Byte();
    return static_cast<uint16_t>(high << 8 | Byte());
  }
  uint32_t Four() {
    const uint32_t high = Two();
    return high << 16 | Two();
  }

  // At most n bytes: fewer at the end.
  Bytes Take(size_t n) {
    const Bytes taken = rest_.first(std::min(n, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  Bytes Rest() { return Take(rest_.size()); }

 private:
  Bytes rest_;
};

// Reads every byte, so that a span that points nowhere is found by AddressSanitizer.
inline void Touch(Bytes bytes) {
  uint8_t sum = 0;
  for (const uint8_t b : bytes) sum = static_cast<uint8_t>(sum + b);
  __asm__ volatile("" : : "r"(sum));  // the reads stay though nobody needs the sum
}
inline void Touch(std::string_view text) {
  Touch(AsBytes(text));
}

}  // namespace keytrail::fuzz
