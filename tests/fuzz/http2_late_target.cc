// HTTP/2 with HPACK on a connection without the client's preface before it: joined late,
// upgraded, or not HTTP/2 at all. See http2_target.h.
#include "tests/fuzz/http2_target.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  keytrail::fuzz::RunHttp2(data, size, false);
  return 0;
}
