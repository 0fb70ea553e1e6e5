// Real captures: whole, cut at random packets, with packets lost. The undamaged capture is the oracle of the
// damaged one: a field or a client that is told must be the same.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "agent/capture/packet_source.h"
#include "agent/http2/http2_decoder.h"
#include "agent/packet/packet_decoder.h"
#include "agent/tcp/tcp_tracker.h"

namespace keytrail::testing {
namespace {

struct Packet {
  TimeNs time;
  std::vector<uint8_t> bytes;
  uint32_t wire_length = 0;
  int link_type = 0;
};

std::vector<Packet> ReadPackets(const std::string& path) {
  std::vector<Packet> packets;
  auto source = OpenFile({path, ""});
  if (!source) return packets;
  RawPacket raw;
  while (true) {
    const auto next = (*source)->Read(raw);
    if (!next || *next != PacketSource::Next::kPacket) return packets;
    packets.push_back({raw.time, {raw.bytes.begin(), raw.bytes.end()}, raw.wire_length, raw.link_type});
  }
}

// Connection, direction, stream, time of the first byte: the same block in two runs.
using BlockKey = std::tuple<std::string, int, uint32_t, int64_t>;

class FieldRecorder final : public Http2Sink {
 public:
  std::map<BlockKey, std::multimap<std::string, std::string>> blocks;
  std::map<std::string, int> clients;
  uint64_t undecodable = 0;
  uint64_t data_bytes = 0;

  void OnHttp2(const ConnectionRef& c, Protocol, int client, TimeNs) override {
    if (client >= 0) clients[Name(c)] = client;
  }
  void OnClientKnown(const ConnectionRef& c, int client) override { clients[Name(c)] = client; }
  void OnHeaders(const ConnectionRef& c, int direction, uint32_t stream, TimeNs first, TimeNs,
                 const HeaderBlock& block, bool) override {
    undecodable += block.undecodable;
    auto& fields = blocks[{Name(c), direction, stream, first.ns}];
    for (const HeaderField& field : block.fields) {
      if (!field.name.empty() && !field.unknown_value) fields.emplace(field.name, field.value);
    }
  }
  void OnData(const ConnectionRef&, int, uint32_t, TimeNs, TimeNs, Bytes data, bool, bool) override {
    data_bytes += data.size();
  }
  void OnReset(const ConnectionRef&, int, uint32_t, TimeNs, uint32_t) override {}
  void OnGoaway(const ConnectionRef&, int, TimeNs, uint32_t, uint32_t) override {}
  void OnLoss(const ConnectionRef&, int, TimeNs, uint64_t, uint32_t) override {}
  void OnEnd(const ConnectionRef&, TimeNs, CloseReason) override {}

 private:
  static std::string Name(const ConnectionRef& c) {
    return FormatEndpoint(c.key->a) + " " + FormatEndpoint(c.key->b);
  }
};

struct Run {
  FieldRecorder recorder;
  Counters counters;

  Run(const std::vector<Packet>& packets, size_t from, double loss, uint32_t seed) {
    Http2Decoder decoder(recorder, counters);
    TcpTracker tracker(decoder, counters);
    PacketDecoder packet_decoder(counters);
    std::mt19937 random(seed);
    std::uniform_real_distribution<> chance;
    for (size_t i = from; i < packets.size(); ++i) {
      if (loss > 0 && chance(random) < loss) continue;
      RawPacket raw;
      raw.time = packets[i].time;
      raw.bytes = packets[i].bytes;
      raw.wire_length = packets[i].wire_length;
      raw.link_type = packets[i].link_type;
      packet_decoder.Feed(raw, tracker);
    }
    tracker.Finish();
  }
};

void ExpectNothingFalse(const FieldRecorder& damaged, const FieldRecorder& whole, const std::string& label) {
  for (const auto& [key, fields] : damaged.blocks) {
    const auto at = whole.blocks.find(key);
    ASSERT_NE(at, whole.blocks.end())
        << label << ": a block on stream " << std::get<2>(key) << " that is not there";
    for (const auto& field : fields) {
      const auto [begin, end] = at->second.equal_range(field.first);
      bool found = false;
      for (auto f = begin; f != end; ++f) found = found || f->second == field.second;
      ASSERT_TRUE(found) << label << ": stream " << std::get<2>(key) << " has no " << field.first << ": "
                         << field.second;
    }
  }
  for (const auto& [connection, client] : damaged.clients) {
    const auto at = whole.clients.find(connection);
    if (at == whole.clients.end()) continue;
    ASSERT_EQ(at->second, client) << label << ": " << connection;
  }
}

void CheckCapture(const std::string& path) {
  const std::vector<Packet> packets = ReadPackets(path);
  ASSERT_FALSE(packets.empty()) << path;
  const Run whole(packets, 0, 0, 0);
  EXPECT_EQ(whole.recorder.undecodable, 0u) << path;
  EXPECT_EQ(whole.counters.Get(Counter::kFramesMalformed), 0u) << path;
  EXPECT_EQ(whole.counters.Get(Counter::kHeaderBlocksMalformed), 0u) << path;
  std::mt19937 random(5);
  size_t blocks = 0;
  for (int i = 0; i < 8; ++i) {
    const size_t from = i < 5 ? random() % packets.size() : i * packets.size() / 16;
    const double loss = i < 4 ? 0 : 0.01 * i;
    const Run damaged(packets, from, loss, static_cast<uint32_t>(i));
    const std::string label =
        path + " from packet " + std::to_string(from) + ", loss " + std::to_string(loss);
    ExpectNothingFalse(damaged.recorder, whole.recorder, label);
    if (::testing::Test::HasFatalFailure()) return;
    EXPECT_EQ(damaged.counters.Get(Counter::kFramesMalformed), 0u) << label;
    EXPECT_EQ(damaged.counters.Get(Counter::kHeaderBlocksMalformed), damaged.recorder.undecodable) << label;
    blocks += damaged.recorder.blocks.size();
  }
  const std::filesystem::path name(path);
  std::printf("%s: %zu blocks whole, %zu in 8 damaged runs, none false\n",
              (name.parent_path().filename() / name.filename()).c_str(), whole.recorder.blocks.size(),
              blocks);
}

std::set<std::string> CapturesBelow(const std::string& folder) {
  std::set<std::string> paths;
  if (!std::filesystem::exists(folder)) return paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().string().find(".pcap") != std::string::npos) paths.insert(entry.path());
  }
  return paths;
}

TEST(Http2Captures, Committed) {
  const auto paths = CapturesBelow(KEYTRAIL_TEST_DATA);
  ASSERT_FALSE(paths.empty());
  for (const std::string& path : paths) CheckCapture(path);
}

TEST(Http2Captures, Generated) {
  const char* dir = std::getenv("KEYTRAIL_SHARED_DATA");
  const std::string folder = std::string(dir != nullptr ? dir : KEYTRAIL_SHARED_DATA) + "/generated";
  const auto paths = CapturesBelow(folder);
  if (paths.empty()) GTEST_SKIP() << "the generated captures are not at hand: " << folder;
  for (const std::string& path : paths) CheckCapture(path);
}

}  // namespace
}  // namespace keytrail::testing
