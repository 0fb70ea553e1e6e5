// Capture files: pcap, pcapng, zstd around either.
//
// Input: 1 byte (bit 0: through a pipe instead of a file, bits 1-2: which filter), then the file.
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "agent/capture/packet_source.h"
#include "tests/fuzz/input.h"

namespace keytrail::fuzz {
namespace {

// What a pipe takes without a reader (pipe(7)).
constexpr size_t kPipeBytes = 65536;

void WriteAll(int fd, Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    KEYTRAIL_REQUIRE(n > 0);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

// A descriptor that gives `bytes`; the caller closes it.
int MakeFile(Bytes bytes, bool pipe_wanted) {
  if (!pipe_wanted || bytes.size() > kPipeBytes) {
    const int fd = memfd_create("input", MFD_CLOEXEC);
    KEYTRAIL_REQUIRE(fd >= 0);
    WriteAll(fd, bytes);
    return fd;
  }
  int ends[2];
  KEYTRAIL_REQUIRE(pipe(ends) == 0);
  WriteAll(ends[1], bytes);
  close(ends[1]);
  return ends[0];
}

void ReadWhole(const FileSourceOptions& options) {
  Result<std::unique_ptr<PacketSource>> source = OpenFile(options);
  if (!source) {
    KEYTRAIL_REQUIRE(source.error().starts_with(options.path) || !options.filter.empty());
    return;
  }
  RawPacket packet;
  for (;;) {
    const Result<PacketSource::Next> next = (*source)->Read(packet);
    if (!next) {
      KEYTRAIL_REQUIRE(next.error().starts_with(options.path));
      return;
    }
    if (*next == PacketSource::Next::kEnd) return;
    KEYTRAIL_REQUIRE(*next == PacketSource::Next::kPacket);
    KEYTRAIL_REQUIRE(packet.time.known() && packet.time.ns >= 0);
    Touch(packet.bytes);
  }
}

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  static constexpr const char* kFilters[] = {"", "", "tcp", "tcp port 20160 or vlan or ip6"};
  Input input(data, size);
  const uint8_t how = input.Byte();
  const int fd = MakeFile(input.Rest(), how & 1);
  FileSourceOptions options;
  options.path = "/proc/self/fd/" + std::to_string(fd);
  options.filter = kFilters[how >> 1 & 3];
  ReadWhole(options);
  close(fd);
  return 0;
}
