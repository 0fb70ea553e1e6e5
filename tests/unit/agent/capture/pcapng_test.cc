// pcapng files block by block: interfaces that differ, sections, every kind of packet block, damage. What
// Wireshark's own tools write is read in tests/e2e/test_links.py.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "agent/capture/packet_source.h"
#include "common/limits.h"
#include "tests/support/packet_builder.h"

namespace keytrail {
namespace {

using namespace keytrail::testing;  // NOLINT

constexpr uint64_t kSecond = 1'700'000'000;

// Blocks of one byte order (draft-ietf-opsawg-pcapng sections 4.1 to 4.6).
struct Blocks {
  bool big_endian = false;

  std::string N16(uint64_t v) const { return Number(v, 2, big_endian); }
  std::string N32(uint64_t v) const { return Number(v, 4, big_endian); }
  std::string N64(uint64_t v) const { return Number(v, 8, big_endian); }
  static std::string Padded(std::string s) { return s + Zeros((4 - s.size() % 4) % 4); }
  std::string Block(uint32_t type, const std::string& body) const {
    const std::string padded = Padded(body);
    return N32(type) + N32(padded.size() + 12) + padded + N32(padded.size() + 12);
  }
  std::string Option(uint16_t code, const std::string& value) const {
    return N16(code) + N16(value.size()) + Padded(value);
  }
  std::string Section(uint16_t version = 1) const {
    return Block(0x0A0D0D0A, N32(0x1A2B3C4D) + N16(version) + N16(0) + N64(~uint64_t{0}) +
                                 Option(4, "a test") + Option(0, ""));
  }
  std::string Interface(int link_type, const std::string& options = {}, uint32_t snap_length = 262144) const {
    return Block(1, N16(static_cast<uint64_t>(link_type)) + N16(0) + N32(snap_length) + options);
  }
  std::string Resolution(uint8_t v) const {
    return Option(2, "eth7") + Option(9, std::string(1, static_cast<char>(v)));
  }
  std::string Enhanced(uint32_t interface, uint64_t units, const std::string& bytes,
                       int64_t wire = -1) const {
    return Block(6, N32(interface) + N32(units >> 32) + N32(units & 0xFFFFFFFF) + N32(bytes.size()) +
                        N32(wire < 0 ? bytes.size() : static_cast<uint64_t>(wire)) + Padded(bytes) +
                        Option(1, "a comment") + Option(0, ""));
  }
  std::string Old(uint16_t interface, uint64_t units, const std::string& bytes) const {
    return Block(2, N16(interface) + N16(9) + N32(units >> 32) + N32(units & 0xFFFFFFFF) + N32(bytes.size()) +
                        N32(bytes.size()) + bytes);
  }
  std::string Simple(const std::string& bytes, size_t wire) const { return Block(3, N32(wire) + bytes); }
};

class Pcapng : public ::testing::Test {
 protected:
  void SetUp() override { path_ = ::testing::TempDir() + "keytrail_" + std::to_string(getpid()) + ".pcapng"; }
  void TearDown() override { std::filesystem::remove(path_); }

  struct Packet {
    int64_t ns;
    int link_type;
    std::string bytes;
    uint32_t wire_length;
    bool operator==(const Packet&) const = default;
  };
  struct Seen {
    std::vector<Packet> packets;
    std::string error;
    bool opened = false;
    Counters counters;
  };
  Seen Read(const std::string& file, const std::string& filter = {}) const {
    std::ofstream(path_, std::ios::binary) << file;
    Seen seen;
    Result<std::unique_ptr<PacketSource>> source = OpenFile({path_, filter});
    if (!source.ok()) {
      seen.error = source.error();
      return seen;
    }
    seen.opened = true;
    for (;;) {
      RawPacket packet;
      const Result<PacketSource::Next> next = (*source)->Read(packet);
      (*source)->ReadDrops(seen.counters);
      if (!next.ok()) seen.error = next.error();
      if (!next.ok() || *next == PacketSource::Next::kEnd) return seen;
      seen.packets.push_back({packet.time.ns, packet.link_type, ToString(packet.bytes), packet.wire_length});
    }
  }

  std::string path_;
};

// What a capture on an Ethernet device and a tunnel holds, each with a clock of its own.
TEST_F(Pcapng, InterfacesWithDifferentLinkTypesAndClocks) {
  for (const bool big_endian : {false, true}) {
    const Blocks b{big_endian};
    const std::string file =
        b.Section() + b.Interface(1) + b.Interface(101, b.Resolution(9)) +
        b.Enhanced(0, kSecond * 1000000 + 7, "ethernet") + b.Enhanced(1, kSecond * 1000000000 + 8, "raw") +
        // Described when it came up; seconds from an offset, in picoseconds.
        b.Interface(276, b.Resolution(12) + b.Option(14, b.N64(kSecond)), 65535) +
        b.Enhanced(2, 123456789012, "cooked", 1500) + b.Enhanced(0, kSecond * 1000000 + 9, "") +
        b.Block(0x00000BAD, "unknown") + b.Block(5, b.N32(0) + b.N64(7)) +
        b.Interface(113, b.Resolution(0x80 | 10)) + b.Enhanced(3, kSecond * 1024 + 512, "half a second") +
        b.Interface(0, b.Resolution(0)) + b.Enhanced(4, kSecond + 3, "whole seconds") +
        b.Old(1, kSecond * 1000000000, "old");
    const Seen seen = Read(file);
    EXPECT_EQ(seen.error, "");
    const auto at = [](int64_t ns) { return static_cast<int64_t>(kSecond) * 1'000'000'000 + ns; };
    const std::vector<Packet> expected = {{at(7000), 1, "ethernet", 8},
                                          {at(8), 12, "raw", 3},
                                          {at(123456789), 276, "cooked", 1500},
                                          {at(9000), 1, "", 0},
                                          {at(500'000'000), 113, "half a second", 13},
                                          {at(3'000'000'000), 0, "whole seconds", 13},
                                          {at(0), 12, "old", 3}};
    EXPECT_EQ(seen.packets, expected);
  }
}

TEST_F(Pcapng, SimplePacketsAreCutByTheSnapshotLength) {
  const Blocks b;
  const Seen seen = Read(b.Section() + b.Interface(1, {}, 6) + b.Simple("abcdef", 900) + b.Simple("abc", 3) +
                         b.Section() + b.Interface(101, {}, 0) + b.Simple("abcdefghij", 10));
  EXPECT_EQ(seen.packets,
            (std::vector<Packet>{{0, 1, "abcdef", 900}, {0, 1, "abc", 3}, {0, 12, "abcdefghij", 10}}));
}

// `cat a.pcapng b.pcapng`: the numbers of interfaces begin anew, the byte order may change.
TEST_F(Pcapng, Sections) {
  const Blocks little, big{true};
  const Seen seen = Read(little.Section() + little.Interface(1) + little.Enhanced(0, 5, "one") +
                         big.Section() + big.Interface(113) + big.Enhanced(0, 6, "two"));
  EXPECT_EQ(seen.packets, (std::vector<Packet>{{5000, 1, "one", 3}, {6000, 113, "two", 3}}));
  const Seen strange =
      Read(little.Section() + little.Interface(1) + little.Interface(1) + little.Enhanced(1, 5, "one") +
           big.Section() + big.Interface(113) + big.Enhanced(1, 6, "two"));
  EXPECT_EQ(strange.packets.size(), 1u);
  EXPECT_NE(strange.error.find("interface 1"), std::string::npos) << strange.error;
}

TEST_F(Pcapng, Filters) {
  const Blocks b;
  const auto ip = [](uint16_t port) { return Ipv4({}, Tcp({.destination_port = port}, "x")); };
  const std::string file = b.Section() + b.Interface(1) + b.Enhanced(0, 1, Ethernet(0x0800, ip(20160))) +
                           b.Interface(101) + b.Enhanced(1, 2, ip(20160)) + b.Enhanced(1, 3, ip(4000)) +
                           b.Interface(276) + b.Enhanced(2, 4, LinuxSll2(0x0800, ip(20160))) +
                           b.Enhanced(0, 5, Ethernet(0x0800, ip(4000)));
  EXPECT_EQ(Read(file).packets.size(), 5u);
  const Seen seen = Read(file, "tcp dst port 20160");
  ASSERT_EQ(seen.packets.size(), 3u) << seen.error;
  EXPECT_EQ(seen.packets[1].ns, 2000);
  EXPECT_EQ(seen.packets[2].link_type, 276);
  for (const std::string& each : {file, b.Section()}) {
    const Seen bad = Read(each, "port port");
    EXPECT_FALSE(bad.opened);
    EXPECT_NE(bad.error.find("port port"), std::string::npos) << bad.error;
  }
  // A filter that fits one link type alone says so when the other comes.
  const Seen half = Read(file, "ether host 00:00:00:00:00:02");
  EXPECT_TRUE(half.opened);
  EXPECT_EQ(half.packets.size(), 1u);
  EXPECT_NE(half.error.find("ether host"), std::string::npos) << half.error;
}

TEST_F(Pcapng, TruncatedAtEveryByte) {
  const Blocks b{true};
  const std::vector<std::string> blocks = {b.Section(), b.Interface(1), b.Enhanced(0, 1, "first"),
                                           b.Interface(12), b.Enhanced(1, 2, "second!")};
  std::string file;
  std::vector<size_t> ends = {0};
  for (const std::string& block : blocks) {
    file += block;
    ends.push_back(file.size());
  }
  for (size_t n = 4; n < file.size(); ++n) {
    const Seen seen = Read(file.substr(0, n));
    EXPECT_EQ(seen.packets.size(), n >= ends[3] ? 1u : 0u) << n;
    if (std::find(ends.begin(), ends.end(), n) != ends.end()) {
      EXPECT_EQ(seen.error, "") << n;
      continue;
    }
    EXPECT_NE(seen.error.find("truncated"), std::string::npos) << n << seen.error;
    EXPECT_NE(seen.error.find(path_), std::string::npos) << n;
    if (n > ends[2]) {
      EXPECT_NE(seen.error.find("byte " + std::to_string(n)), std::string::npos) << n << seen.error;
    }
  }
}

TEST_F(Pcapng, DamageIsOneSentence) {
  const Blocks b;
  const std::string head = b.Section() + b.Interface(1) + b.Enhanced(0, 1, "good");
  const auto expect = [&](const std::string& file, size_t packets, const std::string& words) {
    const Seen seen = Read(file);
    EXPECT_EQ(seen.packets.size(), packets) << words;
    EXPECT_NE(seen.error.find(words), std::string::npos) << seen.error;
    EXPECT_NE(seen.error.find(path_), std::string::npos) << seen.error;
    EXPECT_EQ(seen.error.find('\n'), std::string::npos) << seen.error;
  };
  expect(head + b.Enhanced(3, 1, "x"), 1, "interface 3");
  expect(head + b.N32(6) + b.N32(7) + Zeros(40), 1, "block of 7 bytes");
  expect(head + b.N32(6) + b.N32(0x7FFFFFF0) + Zeros(40), 1, "block of 2147483632 bytes");
  expect(head + b.Block(6, b.N32(0) + b.N64(0) + b.N32(100) + b.N32(100) + Zeros(8)), 1, "100 bytes");
  expect(head + b.Block(6, Zeros(8)), 1, "too short");
  expect(head + b.Block(1, Zeros(4)), 1, "too short");
  expect(head + b.Interface(1, b.N16(9) + b.N16(60000) + Zeros(4)), 1, "option");
  expect(head + b.Interface(1, b.Resolution(30)), 1, "10^-30");
  expect(head + b.Interface(1, b.Resolution(0xC0)), 1, "2^-64");
  std::string lengths = head;
  lengths[lengths.size() - 4] ^= 4;
  expect(lengths, 0, "two lengths");
  expect(b.Section(2) + b.Interface(1), 0, "version 2");
  expect(b.Section() + b.Enhanced(0, 1, "x"), 0, "before any interface");
  std::string order = head;
  order[8] = 0;
  expect(order, 0, "byte order");
}

TEST_F(Pcapng, InterfacesBeyondTheCapAreCounted) {
  const Blocks b;
  std::string file = b.Section();
  for (size_t i = 0; i < limits::kMaxCaptureInterfaces + 3; ++i) file += b.Interface(1);
  const auto last = static_cast<uint32_t>(limits::kMaxCaptureInterfaces);
  file += b.Enhanced(last - 1, 1, "known") + b.Enhanced(last + 2, 2, "beyond") + b.Enhanced(0, 3, "known");
  const Seen seen = Read(file);
  EXPECT_EQ(seen.error, "");
  EXPECT_EQ(seen.packets,
            (std::vector<Packet>{{1000, 1, "known", 5}, {2000, -1, "beyond", 6}, {3000, 1, "known", 5}}));
  EXPECT_EQ(seen.counters.Get(Counter::kCapInterfaces), 3u);
  EXPECT_NE(Read(file + b.Enhanced(last + 3, 1, "x")).error, "");
}

// The largest block that is read, and one more.
TEST_F(Pcapng, BlockCap) {
  const Blocks b;
  const std::string head = b.Section() + b.Interface(1);
  const size_t most = limits::kMaxCaptureBlockBytes - 12;
  EXPECT_EQ(Read(head + b.Block(0x0BAD, Zeros(most)) + b.Enhanced(0, 1, "x")).packets.size(), 1u);
  EXPECT_NE(Read(head + b.Block(0x0BAD, Zeros(most + 4))).error.find("block of"), std::string::npos);
}

// Whatever stands in the file: no crash, and no packet that is longer than the file.
TEST_F(Pcapng, RandomDamage) {
  const Blocks b;
  const std::string good = b.Section() + b.Interface(1, b.Resolution(9)) +
                           b.Interface(113, b.Option(14, b.N64(5))) + b.Enhanced(0, 1, "abcdef") +
                           b.Enhanced(1, 2, "ghi") + b.Simple("jkl", 3) + b.Old(0, 4, "mno") +
                           b.Block(5, Zeros(12));
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string file = good;
    for (uint32_t n = 1 + random() % 3; n != 0; --n) {
      file[4 + random() % (file.size() - 4)] = static_cast<char>(random() % 3 == 0 ? random() : random() % 8);
    }
    for (const Packet& packet : Read(file).packets) EXPECT_LE(packet.bytes.size(), file.size());
  }
}

}  // namespace
}  // namespace keytrail
