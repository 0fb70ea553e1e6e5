// Capture files of every kind that users bring, whole and damaged; the writer; a live device where allowed.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zstd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "agent/capture/packet_source.h"
#include "tests/support/packet_builder.h"

namespace keytrail {
namespace {

using namespace keytrail::testing;  // NOLINT
using ::testing::TempDir;

constexpr int64_t kStart = 1'700'000'000'123'456'789;

std::vector<FilePacket> SomePackets(size_t n = 20) {
  std::vector<FilePacket> packets;
  for (size_t i = 0; i < n; ++i) {
    packets.push_back(
        {kStart + static_cast<int64_t>(i) * 1'000'000'000,
         Ethernet(0x0800, Ipv4({}, Tcp({.destination_port = static_cast<uint16_t>(20160 + i % 2)},
                                       "payload " + std::to_string(i)))),
         i == 3 ? 9000 : -1});
  }
  return packets;
}

LiveSourceOptions Live(const std::string& device, const std::string& filter = "") {
  LiveSourceOptions options;
  options.devices = {device};
  options.filter = filter;
  options.ring_bytes = 1 << 20;
  return options;
}

class Capture : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = TempDir() + "keytrail_capture_" + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  std::string Put(const std::string& name, const std::string& bytes) const {
    std::ofstream(Path(name), std::ios::binary) << bytes;
    return Path(name);
  }

  struct Seen {
    std::vector<FilePacket> packets;
    int link_type = -1;
    std::string error;  // of opening or reading
    bool opened = false;
  };
  static Seen ReadAll(const std::string& path, const std::string& filter = "") {
    Seen seen;
    Result<std::unique_ptr<PacketSource>> source = OpenFile({path, filter});
    if (!source.ok()) {
      seen.error = source.error();
      return seen;
    }
    seen.opened = true;
    for (;;) {
      RawPacket packet;
      const Result<PacketSource::Next> next = (*source)->Read(packet);
      if (!next.ok()) {
        seen.error = next.error();
        return seen;
      }
      if (*next == PacketSource::Next::kEnd) return seen;
      seen.packets.push_back({packet.time.ns, ToString(packet.bytes), packet.wire_length});
      seen.link_type = packet.link_type;
    }
  }
  // `unit_ns`: what the file's stamps are rounded down to.
  static void ExpectPackets(const Seen& seen, const std::vector<FilePacket>& packets, int64_t unit_ns = 1) {
    ASSERT_EQ(seen.packets.size(), packets.size()) << seen.error;
    for (size_t i = 0; i < packets.size(); ++i) {
      EXPECT_EQ(seen.packets[i].ns, packets[i].ns / unit_ns * unit_ns) << i;
      EXPECT_EQ(seen.packets[i].bytes, packets[i].bytes) << i;
      EXPECT_EQ(seen.packets[i].wire_length, packets[i].wire_length < 0
                                                 ? static_cast<int64_t>(packets[i].bytes.size())
                                                 : packets[i].wire_length)
          << i;
    }
    EXPECT_EQ(seen.link_type, 1);
  }

  std::string folder_;
};

std::string Zstd(const std::string& bytes) {
  std::string packed(ZSTD_compressBound(bytes.size()), 0);
  packed.resize(ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), 3));
  return packed;
}

TEST_F(Capture, Formats) {
  const std::vector<FilePacket> packets = SomePackets();
  for (const bool big_endian : {false, true}) {
    ExpectPackets(ReadAll(Put("ns", PcapFile(1, packets, true, big_endian))), packets);
    ExpectPackets(ReadAll(Put("us", PcapFile(1, packets, false, big_endian))), packets, 1000);
  }
  ExpectPackets(ReadAll(Put("ng", PcapngFile(1, packets))), packets);
  const Seen none = ReadAll(Put("no_packets", PcapFile(1, {})));
  EXPECT_TRUE(none.opened);
  EXPECT_TRUE(none.error.empty() && none.packets.empty());
}

TEST_F(Capture, Zstd) {
  const std::vector<FilePacket> packets = SomePackets(3000);
  ExpectPackets(ReadAll(Put("a.zst", Zstd(PcapFile(1, packets)))), packets);
  // Known by content, not by name.
  ExpectPackets(ReadAll(Put("b.pcap", Zstd(PcapngFile(1, packets)))), packets);
  // Several frames, one after the other.
  const std::string file = PcapFile(1, packets);
  ExpectPackets(ReadAll(Put("c.zst", Zstd(file.substr(0, 1001)) + Zstd(file.substr(1001)))), packets);
}

TEST_F(Capture, TruncatedAtEveryByte) {
  const std::vector<FilePacket> packets = SomePackets(4);
  const std::string file = PcapFile(1, packets);
  std::vector<size_t> ends = {24};
  for (const FilePacket& p : packets) ends.push_back(ends.back() + 16 + p.bytes.size());
  for (size_t n = 24; n < file.size(); ++n) {
    const Seen seen = ReadAll(Put("cut", file.substr(0, n)));
    size_t whole = 0;
    while (whole + 1 < ends.size() && ends[whole + 1] <= n) ++whole;
    ASSERT_EQ(seen.packets.size(), whole) << n;
    if (n == ends[whole]) {
      EXPECT_TRUE(seen.error.empty()) << n << seen.error;
    } else {
      EXPECT_NE(seen.error.find(Path("cut")), std::string::npos) << seen.error;
      EXPECT_NE(seen.error.find("truncated"), std::string::npos) << seen.error;
      EXPECT_NE(seen.error.find("byte " + std::to_string(n)), std::string::npos) << seen.error;
    }
  }
}

TEST_F(Capture, TruncatedZstdGivesThePacketsBeforeIt) {
  const std::vector<FilePacket> packets = SomePackets(20000);
  const std::string packed = Zstd(PcapFile(1, packets));
  const Seen seen = ReadAll(Put("cut.zst", packed.substr(0, packed.size() - packed.size() / 4)));
  EXPECT_GT(seen.packets.size(), 100u);
  EXPECT_LT(seen.packets.size(), packets.size());
  EXPECT_NE(seen.error.find(Path("cut.zst")), std::string::npos) << seen.error;
  EXPECT_NE(seen.error.find("zstd"), std::string::npos) << seen.error;
  for (size_t i = 0; i < seen.packets.size(); ++i) ASSERT_EQ(seen.packets[i].bytes, packets[i].bytes);
}

TEST_F(Capture, WhatIsNotACaptureIsOneSentence) {
  const auto expect = [](const Seen& seen, const std::string& path, const std::string& reason) {
    EXPECT_FALSE(seen.opened);
    EXPECT_NE(seen.error.find(path), std::string::npos) << seen.error;
    EXPECT_NE(seen.error.find(reason), std::string::npos) << seen.error;
    EXPECT_EQ(seen.error.find('\n'), std::string::npos) << seen.error;
  };
  expect(ReadAll(Path("missing")), Path("missing"), "No such file");
  expect(ReadAll(folder_), folder_, "directory");
  expect(ReadAll(Put("empty", "")), Path("empty"), "empty");
  expect(ReadAll(Put("text", "this is a text file, not a capture")), Path("text"), "format");
  expect(ReadAll(Put("short", "\xD4")), Path("short"), "");
  expect(ReadAll(Put("damaged.zst", std::string("\x28\xB5\x2F\xFD") + Zeros(100))), Path("damaged.zst"),
         "zstd");
  expect(ReadAll(Put("head", PcapFile(1, {}).substr(0, 20))), Path("head"), "truncated");
}

// libpcap gives a stamp's 32 bits with a sign: garbage must be no time before 1970.
TEST_F(Capture, StampsThatAreNone) {
  std::string bytes = PcapFile(1, SomePackets(1));
  bytes.replace(24, 8, 8, '\xFF');
  const Seen seen = ReadAll(Put("stamps", bytes));
  ASSERT_EQ(seen.packets.size(), 1u);
  EXPECT_EQ(seen.packets[0].ns, 0);
}

TEST_F(Capture, Filters) {
  const std::string path = Put("f", PcapFile(1, SomePackets()));
  EXPECT_EQ(ReadAll(path, "tcp port 20160").packets.size(), 10u);
  EXPECT_EQ(ReadAll(path, "udp").packets.size(), 0u);
  const Seen bad = ReadAll(path, "port port");
  EXPECT_FALSE(bad.opened);
  EXPECT_NE(bad.error.find("port port"), std::string::npos) << bad.error;
  EXPECT_NE(bad.error.find("syntax error"), std::string::npos) << bad.error;
}

// Standard input is read through a descriptor that the test puts in its place.
class StandardInput {
 public:
  StandardInput() : saved_(dup(0)) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    dup2(ends[0], 0);
    close(ends[0]);
    write_end_ = ends[1];
  }
  ~StandardInput() {
    CloseWriteEnd();
    std::clearerr(stdin);
    dup2(saved_, 0);
    close(saved_);
  }
  void Write(const std::string& bytes) {
    size_t at = 0;
    while (at < bytes.size()) {
      const ssize_t n = write(write_end_, bytes.data() + at, bytes.size() - at);
      ASSERT_GT(n, 0);
      at += static_cast<size_t>(n);
    }
  }
  void CloseWriteEnd() {
    if (write_end_ >= 0) close(write_end_);
    write_end_ = -1;
  }

 private:
  int saved_;
  int write_end_ = -1;
};

TEST_F(Capture, StandardInput) {
  const std::vector<FilePacket> packets = SomePackets(2000);
  for (const std::string& file :
       {PcapFile(1, packets), PcapngFile(1, packets), keytrail::Zstd(PcapFile(1, packets))}) {
    StandardInput input;
    std::thread writer([&] {
      input.Write(file);
      input.CloseWriteEnd();
    });
    const Seen seen = ReadAll("-");
    writer.join();
    ExpectPackets(seen, packets);
  }
}

// `tcpdump -U -w - | keytrail-agent -r -`: packets are told as they come, not when a buffer is full.
TEST_F(Capture, StandardInputIsReadAsItComes) {
  const std::string file = PcapFile(1, SomePackets(3));
  for (const std::string& bytes : {file, keytrail::Zstd(file), PcapngFile(1, SomePackets(3))}) {
    StandardInput input;
    std::atomic<bool> read_all = false;
    bool waited = false;
    std::thread writer([&] {
      input.Write(bytes);
      for (int i = 0; i < 500 && !read_all; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      waited = !read_all;
      input.CloseWriteEnd();
    });
    Result<std::unique_ptr<PacketSource>> source = OpenFile({"-", ""});
    size_t packets = 0;
    if (source.ok()) {
      RawPacket packet;
      while (packets < 3 && *(*source)->Read(packet) == PacketSource::Next::kPacket) ++packets;
    }
    read_all = true;
    writer.join();
    EXPECT_EQ(packets, 3u);
    EXPECT_FALSE(waited) << "nothing was read before the writer closed the pipe";
  }
}

TEST_F(Capture, WriterKeepsNanosecondsAndLengths) {
  const std::vector<FilePacket> packets = SomePackets();
  Result<std::unique_ptr<PacketWriter>> writer = CreateCaptureFile(Path("out"));
  ASSERT_TRUE(writer.ok()) << writer.error();
  for (const FilePacket& p : packets) {
    RawPacket raw{
        TimeNs{p.ns}, AsBytes(p.bytes),
        static_cast<uint32_t>(p.wire_length < 0 ? static_cast<int64_t>(p.bytes.size()) : p.wire_length), 1};
    ASSERT_TRUE((*writer)->Write(raw).ok());
  }
  RawPacket other{TimeNs{kStart}, AsBytes(packets[0].bytes), 10, 113};
  const Status refused = (*writer)->Write(other);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().find(Path("out")), std::string::npos) << refused.error();
  ASSERT_TRUE((*writer)->Close().ok());
  ExpectPackets(ReadAll(Path("out")), packets);
}

TEST_F(Capture, WriterErrors) {
  const Result<std::unique_ptr<PacketWriter>> nowhere = CreateCaptureFile(Path("no/such/folder/x"));
  ASSERT_FALSE(nowhere.ok());
  EXPECT_NE(nowhere.error().find(Path("no/such/folder/x")), std::string::npos);
  Result<std::unique_ptr<PacketWriter>> unused = CreateCaptureFile(Path("unused"));
  ASSERT_TRUE(unused.ok());
  ASSERT_TRUE((*unused)->Close().ok());
  EXPECT_TRUE(ReadAll(Path("unused")).opened);
  if (!std::filesystem::exists("/dev/full")) return;
  Result<std::unique_ptr<PacketWriter>> full = CreateCaptureFile("/dev/full");
  ASSERT_TRUE(full.ok());
  const std::string big(100000, 'x');
  RawPacket packet{TimeNs{kStart}, AsBytes(big), 100000, 1};
  bool failed = !(*full)->Write(packet).ok();
  failed = !(*full)->Close().ok() || failed;
  EXPECT_TRUE(failed);
}

TEST_F(Capture, InterruptEndsAFile) {
  Result<std::unique_ptr<PacketSource>> source = OpenFile({Put("i", PcapFile(1, SomePackets())), ""});
  ASSERT_TRUE(source.ok());
  RawPacket packet;
  ASSERT_EQ(*(*source)->Read(packet), PacketSource::Next::kPacket);
  (*source)->Interrupt();
  EXPECT_EQ(*(*source)->Read(packet), PacketSource::Next::kEnd);
}

TEST_F(Capture, InterruptEndsAQuietPipe) {
  const std::string file = PcapFile(1, SomePackets(1));
  StandardInput input;
  input.Write(file.substr(0, file.size() - 3));  // in the middle of a packet, too
  Result<std::unique_ptr<PacketSource>> source = OpenFile({"-", ""});
  ASSERT_TRUE(source.ok()) << source.error();
  std::thread interrupter([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    (*source)->Interrupt();
    std::this_thread::sleep_for(std::chrono::milliseconds(2000));
    input.CloseWriteEnd();
  });
  const auto start = std::chrono::steady_clock::now();
  RawPacket packet;
  const Result<PacketSource::Next> next = (*source)->Read(packet);
  const auto took = std::chrono::steady_clock::now() - start;
  interrupter.join();
  ASSERT_TRUE(next.ok()) << next.error();
  EXPECT_EQ(*next, PacketSource::Next::kEnd);
  EXPECT_LT(took, std::chrono::milliseconds(1500));
}

// Needs CAP_NET_RAW: skipped where that is missing.
class LiveCapture : public Capture {
 protected:
  void Open(const std::string& device, const std::string& filter) {
    Result<std::unique_ptr<PacketSource>> source = OpenDevices(Live(device, filter));
    if (source.ok()) {
      source_ = std::move(source).value();
    } else {
      EXPECT_NE(source.error().find("device " + device), std::string::npos) << source.error();
    }
  }
  static uint16_t SendDatagram(const std::string& text) {
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(kPort);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)!sendto(fd, text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to);
    close(fd);
    return kPort;
  }
  static constexpr uint16_t kPort = 47789;
  std::unique_ptr<PacketSource> source_;
};

TEST_F(LiveCapture, PacketsAndQuietTimes) {
  for (const char* device : {"lo", "any"}) {
    Open(device, "udp port 47789");
    if (source_ == nullptr) GTEST_SKIP() << "no permission to capture";
    RawPacket packet;
    // Nothing comes: a timeout soon, so that the reader can look after other things.
    const auto start = std::chrono::steady_clock::now();
    Result<PacketSource::Next> next = source_->Read(packet);
    ASSERT_TRUE(next.ok()) << next.error();
    EXPECT_EQ(*next, PacketSource::Next::kTimeout);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    SendDatagram("keytrail live");
    for (int i = 0; i < 30; ++i) {
      next = source_->Read(packet);
      ASSERT_TRUE(next.ok()) << next.error();
      if (*next == PacketSource::Next::kPacket) break;
    }
    ASSERT_EQ(*next, PacketSource::Next::kPacket) << device;
    EXPECT_NE(ToString(packet.bytes).find("keytrail live"), std::string::npos);
    const int64_t age = packet.time.ns - std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
    EXPECT_LT(std::abs(age), int64_t{10'000'000'000});
    Counters counters;
    source_->ReadDrops(counters);
    EXPECT_EQ(counters.Get(Counter::kKernelDrops), 0u);
    std::thread interrupter([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(150));
      source_->Interrupt();
    });
    do {
      next = source_->Read(packet);
      ASSERT_TRUE(next.ok()) << next.error();
    } while (*next != PacketSource::Next::kEnd);
    interrupter.join();
  }
}

TEST_F(Capture, MissingDevice) {
  const Result<std::unique_ptr<PacketSource>> source = OpenDevices(Live("keytrail-none0"));
  ASSERT_FALSE(source.ok());
  EXPECT_NE(source.error().find("keytrail-none0"), std::string::npos) << source.error();
}

}  // namespace
}  // namespace keytrail
