// The public HPACK suite as oracle: exact from block 0 on, and from every later block on no wrong field.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "agent/http2/hpack_decoder.h"
#include "agent/http2/http2_decoder.h"
#include "tests/support/http2_builder.h"
#include "tests/support/http2_log.h"

namespace keytrail::testing {
namespace {

struct Case {
  std::string wire;
  FieldList fields;
  uint32_t table_bytes = 0;  // announced by the receiver before this block, 0: nothing new
};

struct Story {
  std::string name;
  std::vector<Case> cases;
};

std::string FromHex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return out;
}

Story ParseStory(const std::string& name, const std::string& text) {
  Story story{name, {}};
  const auto json = nlohmann::json::parse(text);
  for (const auto& one : json.at("cases")) {
    Case c;
    c.wire = FromHex(one.at("wire").get<std::string>());
    c.table_bytes = one.value("header_table_size", 0u);
    for (const auto& field : one.at("headers")) {
      for (const auto& [key, value] : field.items()) c.fields.emplace_back(key, value.get<std::string>());
    }
    story.cases.push_back(std::move(c));
  }
  return story;
}

std::vector<Story> CommittedStories() {
  std::vector<Story> stories;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(std::string(KEYTRAIL_TEST_DATA) + "/hpack")) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream in(entry.path());
    std::stringstream text;
    text << in.rdbuf();
    stories.push_back(
        ParseStory(entry.path().parent_path().filename() / entry.path().filename(), text.str()));
  }
  return stories;
}

std::string SharedSuitePath() {
  const char* dir = std::getenv("KEYTRAIL_SHARED_DATA");
  return std::string(dir != nullptr ? dir : KEYTRAIL_SHARED_DATA) + "/hpack-test-case.tar.zst";
}

// The .json members of a tar archive (POSIX ustar: 512-byte blocks, size in octal at 124).
std::vector<Story> StoriesOfArchive(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream packed;
  packed << in.rdbuf();
  const std::string bytes = packed.str();
  ZSTD_DCtx* context = ZSTD_createDCtx();
  std::string tar;
  std::string chunk(1 << 20, '\0');
  ZSTD_inBuffer input{bytes.data(), bytes.size(), 0};
  while (input.pos < input.size) {
    ZSTD_outBuffer output{chunk.data(), chunk.size(), 0};
    if (ZSTD_isError(ZSTD_decompressStream(context, &output, &input))) break;
    tar.append(chunk.data(), output.pos);
  }
  ZSTD_freeDCtx(context);
  std::vector<Story> stories;
  for (size_t at = 0; at + 512 <= tar.size() && tar[at] != '\0';) {
    const std::string name = tar.c_str() + at;
    const size_t size = std::strtoul(tar.substr(at + 124, 11).c_str(), nullptr, 8);
    if (name.ends_with(".json")) stories.push_back(ParseStory(name, tar.substr(at + 512, size)));
    at += 512 + (size + 511) / 512 * 512;
  }
  return stories;
}

class FieldSink final : public Http2Sink {
 public:
  std::vector<FieldList> blocks;
  int undecodable = 0;

  void OnHttp2(const ConnectionRef&, Protocol, int, TimeNs) override {}
  void OnClientKnown(const ConnectionRef&, int) override {}
  void OnHeaders(const ConnectionRef&, int, uint32_t, TimeNs, TimeNs, const HeaderBlock& block,
                 bool) override {
    FieldList fields;
    for (const HeaderField& f : block.fields) fields.emplace_back(f.name, f.value);
    blocks.push_back(fields);
    undecodable += block.undecodable;
  }
  void OnData(const ConnectionRef&, int, uint32_t, TimeNs, TimeNs, Bytes, bool, bool) override {}
  void OnReset(const ConnectionRef&, int, uint32_t, TimeNs, uint32_t) override {}
  void OnGoaway(const ConnectionRef&, int, TimeNs, uint32_t, uint32_t) override {}
  void OnLoss(const ConnectionRef&, int, TimeNs, uint64_t, uint32_t) override {}
  void OnEnd(const ConnectionRef&, TimeNs, CloseReason) override {}
};

// Through real frames; `piece`: HEADERS and CONTINUATIONs of so many bytes each. Every block is sent as it
// is; an identical one that comes again meets the memo.
void ExpectExactFromStart(const Story& story, size_t piece) {
  FieldSink sink;
  Counters counters;
  Http2Decoder decoder(sink, counters);
  FlowKey key;
  ConnectionRef ref;
  ref.key = &key;
  ref.opened_by = 0;
  uint64_t offsets[2] = {};
  const auto send = [&](int direction, const std::string& bytes) {
    decoder.OnBytes(ref, direction, TimeNs{0}, offsets[direction], AsBytes(bytes));
    offsets[direction] += bytes.size();
  };
  decoder.OnOpen(ref, TimeNs{0});
  send(0, kPreface + SettingsFrame({}));
  send(1, SettingsFrame({}));
  uint32_t stream = 1;
  for (const Case& c : story.cases) {
    if (c.table_bytes != 0) send(1, SettingsFrame({{1, c.table_bytes}}));
    send(0, SplitHeaders(stream, c.wire, piece));
    stream += 2;
  }
  decoder.OnClose(ref, TimeNs{0}, CloseReason::kFin);
  ASSERT_EQ(sink.blocks.size(), story.cases.size()) << story.name;
  for (size_t i = 0; i < story.cases.size(); ++i) {
    ASSERT_EQ(sink.blocks[i], story.cases[i].fields) << story.name << " block " << i;
  }
  EXPECT_EQ(sink.undecodable, 0) << story.name;
  EXPECT_EQ(counters.Get(Counter::kHeaderBlocksMalformed), 0u);
  EXPECT_EQ(counters.Get(Counter::kFramesMalformed), 0u);
}

struct LateTally {
  uint64_t fields = 0;
  uint64_t unknown = 0;
  uint64_t undecodable_blocks = 0;
};

// Joined before block `from`: a field is right or unknown, and a slot always stands for one field.
void ExpectNoWrongField(const Story& story, size_t from, LateTally& tally) {
  Counters counters;
  HeaderScratch scratch(counters);
  HpackDecoder hpack;
  hpack.Forget();
  std::map<uint32_t, std::pair<std::string, std::string>> whole_slots;
  std::map<uint32_t, std::string> name_slots;
  for (size_t i = from; i < story.cases.size(); ++i) {
    const Case& c = story.cases[i];
    const HeaderBlock& block = hpack.Decode(AsBytes(c.wire), UINT32_MAX, scratch);
    tally.fields += c.fields.size();
    if (block.undecodable) {
      ++tally.undecodable_blocks;
      tally.unknown += c.fields.size();
      continue;
    }
    const std::string where = story.name + " from " + std::to_string(from) + " block " + std::to_string(i);
    ASSERT_EQ(block.fields.size(), c.fields.size()) << where;
    for (size_t f = 0; f < c.fields.size(); ++f) {
      const HeaderField& got = block.fields[f];
      const auto& want = c.fields[f];
      if (got.name.empty()) {
        ASSERT_NE(got.slot, 0u) << where;
        ++tally.unknown;
        const auto [at, fresh] = name_slots.emplace(got.slot, want.first);
        ASSERT_EQ(at->second, want.first) << where << " slot " << got.slot;
      } else {
        ASSERT_EQ(got.name, want.first) << where;
        ASSERT_EQ(got.slot, 0u) << where;
      }
      if (got.unknown_value) {
        const auto [at, fresh] = whole_slots.emplace(got.slot, want);
        ASSERT_EQ(at->second, want) << where << " slot " << got.slot;
      } else {
        ASSERT_EQ(got.value, want.second) << where;
      }
    }
  }
}

void RunSuite(const std::vector<Story>& stories, const char* label) {
  LateTally tally;
  uint64_t blocks = 0;
  for (const Story& story : stories) {
    blocks += story.cases.size();
    ExpectExactFromStart(story, 16384);
    ExpectExactFromStart(story, 7);
    if (::testing::Test::HasFatalFailure()) return;
    // Every later block; of the longest stories a hundred, spread evenly.
    const size_t step = 1 + story.cases.size() / 150;
    for (size_t from = 1; from < story.cases.size(); from += step) {
      ExpectNoWrongField(story, from, tally);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
  std::printf(
      "%s: %zu stories, %llu blocks; joined late: %llu fields, %.2f %% unknown, "
      "%llu undecodable blocks, 0 wrong\n",
      label, stories.size(), static_cast<unsigned long long>(blocks),
      static_cast<unsigned long long>(tally.fields),
      tally.fields == 0 ? 0.0
                        : 100.0 * static_cast<double>(tally.unknown) / static_cast<double>(tally.fields),
      static_cast<unsigned long long>(tally.undecodable_blocks));
  EXPECT_EQ(tally.undecodable_blocks, 0u);
}

TEST(HpackSuite, Committed) {
  const auto stories = CommittedStories();
  ASSERT_EQ(stories.size(), 26u);
  RunSuite(stories, "committed stories");
}

TEST(HpackSuite, Whole) {
  const std::string path = SharedSuitePath();
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "the whole suite is not at hand: " << path;
  const auto stories = StoriesOfArchive(path);
  ASSERT_GT(stories.size(), 150u);
  RunSuite(stories, "whole suite");
}

}  // namespace
}  // namespace keytrail::testing
