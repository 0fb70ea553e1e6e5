// HTTP/2 with HPACK on a connection seen from its start: the SYN and the client's preface come first. See
// http2_target.h.
#include "tests/fuzz/http2_target.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  keytrail::fuzz::RunHttp2(data, size, true);
  return 0;
}
