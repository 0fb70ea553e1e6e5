// The public HPACK suite as oracle: exact from block 0 on, and from every later block on no wrong field.
//
// What must come out is what the stories say. Which fields a late decoder may call unknown follows from the
// stories' wire bytes: those that a table entry gave of which the insertion was not seen (Sources).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <unordered_map>
#include <unordered_set>

#include "agent/http2/hpack_decoder.h"
#include "agent/http2/hpack_instruction.h"
#include "agent/http2/http2_decoder.h"
#include "tests/support/http2_builder.h"
#include "tests/support/http2_log.h"

namespace keytrail::testing {
namespace {

struct Case {
  std::string wire;
  FieldList fields;
  std::optional<uint32_t> table_bytes;  // announced by the receiver before this block
};

struct Story {
  std::string encoder;  // the directory
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

Story ParseStory(const std::filesystem::path& path, const std::string& text) {
  const std::filesystem::path directory = path.parent_path().filename();
  Story story{directory, directory / path.filename(), {}};
  const auto json = nlohmann::json::parse(text);
  for (const auto& one : json.at("cases")) {
    Case c;
    c.wire = FromHex(one.at("wire").get<std::string>());
    if (one.contains("header_table_size")) c.table_bytes = one.at("header_table_size").get<uint32_t>();
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
    stories.push_back(ParseStory(entry.path(), text.str()));
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
    if (c.table_bytes) send(1, SettingsFrame({{1, *c.table_bytes}}));
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

// Where the fields of a story come from, by the indices on the wire. Entries of the dynamic table are
// numbered from 1 in the order of their insertion; 0 is none.
struct Sources {
  struct Field {
    uint32_t entry = 0;  // gave the name, or name and value
    bool whole = false;  // ... and the value
  };
  struct Block {
    std::vector<Field> fields;
    uint32_t entries_before = 0;
    std::optional<uint32_t> largest_update;           // of the size updates at its beginning
    bool empties = false;                             // ... and one of them is to 0
    uint32_t table_bytes = kDefaultHeaderTableBytes;  // the encoder's table from here on
  };
  std::vector<Block> blocks;
  std::vector<uint32_t> named_after{0};  // by entry: the one that gave it its name
};

Sources FindSources(const Story& story) {
  Sources sources;
  uint32_t table_bytes = kDefaultHeaderTableBytes;
  for (const Case& c : story.cases) {
    Sources::Block block;
    block.entries_before = static_cast<uint32_t>(sources.named_after.size() - 1);
    Bytes wire = AsBytes(c.wire);
    HpackInstruction instruction;
    while (!wire.empty() && ReadHpackInstruction(wire, instruction)) {
      if (instruction.kind == HpackInstruction::Kind::kSizeUpdate) {
        table_bytes = instruction.index;
        block.largest_update = std::max(block.largest_update.value_or(0), table_bytes);
        block.empties |= table_bytes == 0;
        continue;
      }
      const auto entries = static_cast<uint32_t>(sources.named_after.size() - 1);
      Sources::Field field;
      if (instruction.index > kStaticEntries) field.entry = entries + kStaticEntries + 1 - instruction.index;
      field.whole = field.entry != 0 && instruction.kind == HpackInstruction::Kind::kIndexed;
      block.fields.push_back(field);
      if (instruction.kind == HpackInstruction::Kind::kLiteralIndexed) {
        sources.named_after.push_back(field.entry);
      }
    }
    block.table_bytes = table_bytes;
    sources.blocks.push_back(std::move(block));
  }
  return sources;
}

struct Share {
  uint64_t fields = 0;
  uint64_t unknown = 0;      // by name, and most of them by value
  uint64_t value_known = 0;  // ... these not
  // ... though no insertion is from before the join: a table smaller than the encoder's, or a refused block.
  uint64_t seen = 0;

  void Add(const Share& other) {
    fields += other.fields;
    unknown += other.unknown;
    value_known += other.value_known;
    seen += other.seen;
  }
  double Percent() const {
    return fields == 0 ? 0.0 : 100.0 * static_cast<double>(unknown) / static_cast<double>(fields);
  }
};

// By blocks read since joining: the 1st, the 2nd, up to the 4th, 8th, ... 128th, and all later ones.
constexpr size_t kAges = 9;
constexpr const char* kAgeNames[kAges] = {"1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "65-128", "129+"};

struct JoinTally {
  uint64_t stories = 0;
  uint64_t joins = 0;
  Share all;
  std::array<Share, kAges> by_age;
  uint64_t undecodable_blocks = 0;

  void Add(const JoinTally& other) {
    stories += other.stories;
    joins += other.joins;
    all.Add(other.all);
    for (size_t i = 0; i < kAges; ++i) by_age[i].Add(other.by_age[i]);
    undecodable_blocks += other.undecodable_blocks;
  }
};

// How a decoder comes to a story in its middle.
struct Join {
  size_t from = 0;  // the first block before which it knows nothing of the table
  // So many blocks were read before, up to the one before `from`, which was lost.
  size_t read_before = 0;
  bool knew_nothing = false;    // ... and the table was not known then either
  uint32_t limit = UINT32_MAX;  // what it believes to be announced; this is what it is told without SETTINGS
};

// A field is right or unknown, and a slot always stands for one entry. Nothing is unknown that need not be,
// as long as the decoder's table is as large as the encoder's.
void ExpectNoWrongField(const Story& story, const Sources& sources, const Join& join, JoinTally& tally) {
  Counters counters;
  HeaderScratch scratch(counters);
  HpackDecoder hpack;
  const auto where = [&](size_t block) {
    return story.name + " from " + std::to_string(join.from) + " block " + std::to_string(block);
  };
  uint32_t own_table_bytes = kDefaultHeaderTableBytes;
  std::unordered_set<uint32_t> spent_slots;
  if (join.knew_nothing) hpack.Forget();
  for (size_t i = join.from - 1 - join.read_before; i < join.from - 1; ++i) {
    const HeaderBlock& block = hpack.Decode(AsBytes(story.cases[i].wire), join.limit, scratch);
    ASSERT_FALSE(block.undecodable) << where(i);
    for (const HeaderField& field : block.fields) spent_slots.insert(field.slot);
    if (sources.blocks[i].largest_update) own_table_bytes = sources.blocks[i].table_bytes;
  }
  spent_slots.erase(0);
  hpack.Forget();
  // The decoder's table evicts no earlier than the encoder's, and no block was refused.
  bool table_covers = own_table_bytes >= sources.blocks[join.from - 1].table_bytes;
  const uint32_t unseen = sources.blocks[join.from].entries_before;
  // By entry: the one from before that its name came from. Made as far as the story was read.
  std::vector<uint32_t> origin;
  for (uint32_t entry = 0; entry <= unseen; ++entry) origin.push_back(entry);
  std::unordered_map<uint32_t, uint32_t> entry_of_slot;
  std::unordered_map<uint32_t, const std::string*> name_of_slot;
  std::unordered_map<uint32_t, const std::pair<std::string, std::string>*> field_of_slot;
  ++tally.joins;
  for (size_t i = join.from; i < story.cases.size(); ++i) {
    const Case& c = story.cases[i];
    const Sources::Block& source = sources.blocks[i];
    const HeaderBlock& block = hpack.Decode(AsBytes(c.wire), join.limit, scratch);
    Share share;
    share.fields = c.fields.size();
    // Refused for its size update, and for nothing else; what it inserted is missing from then on.
    ASSERT_EQ(block.undecodable, source.largest_update.value_or(0) > join.limit) << where(i);
    if (block.undecodable) {
      ++tally.undecodable_blocks;
      table_covers = false;
      share.unknown = share.fields;
    } else {
      ASSERT_EQ(block.fields.size(), c.fields.size()) << where(i);
      ASSERT_EQ(source.fields.size(), c.fields.size()) << where(i);
      table_covers |= source.empties;
    }
    const uint32_t entries = i + 1 < sources.blocks.size()
                                 ? sources.blocks[i + 1].entries_before
                                 : static_cast<uint32_t>(sources.named_after.size() - 1);
    while (origin.size() <= entries) origin.push_back(origin[sources.named_after[origin.size()]]);
    for (size_t f = 0; f < block.fields.size(); ++f) {
      const HeaderField& got = block.fields[f];
      const auto& want = c.fields[f];
      const Sources::Field& from = source.fields[f];
      if (!got.unknown_value) {
        ASSERT_EQ(got.value, want.second) << where(i);
      } else {
        const auto [at, fresh] = field_of_slot.emplace(got.slot, &want);
        ASSERT_EQ(*at->second, want) << where(i) << " slot " << got.slot;
        if (table_covers) {
          ASSERT_TRUE(from.whole && from.entry <= unseen) << where(i) << " field " << f << " is known";
        }
      }
      if (!got.name.empty()) {
        ASSERT_EQ(got.name, want.first) << where(i);
        ASSERT_EQ(got.slot, 0u) << where(i);
        ASSERT_FALSE(got.unknown_value) << where(i);
        continue;
      }
      ++share.unknown;
      share.value_known += !got.unknown_value;
      share.seen += origin[from.entry] == 0;
      ASSERT_NE(got.slot, 0u) << where(i);
      ASSERT_FALSE(spent_slots.contains(got.slot)) << where(i) << " slot " << got.slot;
      const auto [at, fresh] = name_of_slot.emplace(got.slot, &want.first);
      ASSERT_EQ(*at->second, want.first) << where(i) << " slot " << got.slot;
      if (table_covers) {
        ASSERT_NE(origin[from.entry], 0u) << where(i) << " field " << f << " has a name";
        const auto [entry, first] = entry_of_slot.emplace(got.slot, origin[from.entry]);
        ASSERT_EQ(entry->second, origin[from.entry]) << where(i) << " slot " << got.slot;
      }
    }
    tally.all.Add(share);
    tally.by_age[std::min<size_t>(std::bit_width(i - join.from), kAges - 1)].Add(share);
  }
}

// Before how many blocks of one story to join it, spread evenly; 0: before all. `most` is for a test that
// finds what it is after with fewer, and a sanitizer takes ten times as long. KEYTRAIL_HPACK_JOINS overrules
// both.
size_t MostJoins(size_t most) {
  if (const char* set = std::getenv("KEYTRAIL_HPACK_JOINS")) return std::strtoul(set, nullptr, 10);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr size_t kSanitized = 25;
  return most == 0 ? kSanitized : std::min(most, kSanitized);
#else
  return most;
#endif
}

std::vector<size_t> JoinsOf(const Story& story, const Sources& sources, size_t most) {
  const size_t step = most == 0 ? 1 : (story.cases.size() + most - 1) / most;
  std::vector<size_t> joins;
  for (size_t from = 1; from < story.cases.size(); ++from) {
    // Where the table's size changes is where a join is hardest.
    const bool resized =
        sources.blocks[from].table_bytes != sources.blocks[from - 1].table_bytes ||
        (from > 1 && sources.blocks[from - 1].table_bytes != sources.blocks[from - 2].table_bytes);
    if ((from - 1) % step == 0 || resized) joins.push_back(from);
  }
  return joins;
}

using Tallies = std::map<std::string, JoinTally>;  // by encoder

void PrintShares(const char* title, size_t most, const Tallies& tallies) {
  if (most == 0) {
    std::printf("%s every block of every story\n", title);
  } else {
    std::printf("%s at most %zu blocks of a story, spread evenly (all of them with KEYTRAIL_HPACK_JOINS=0)\n",
                title, most);
  }
  JoinTally all;
  for (const auto& [encoder, tally] : tallies) all.Add(tally);
  const auto row = [](const std::string& name, const JoinTally& tally) {
    std::printf("| %-28s | %7llu | %6llu | %9llu | %8llu | %6.2f | %10llu | %8llu | %7llu |\n", name.c_str(),
                static_cast<unsigned long long>(tally.stories), static_cast<unsigned long long>(tally.joins),
                static_cast<unsigned long long>(tally.all.fields),
                static_cast<unsigned long long>(tally.all.unknown), tally.all.Percent(),
                static_cast<unsigned long long>(tally.all.value_known),
                static_cast<unsigned long long>(tally.all.seen),
                static_cast<unsigned long long>(tally.undecodable_blocks));
  };
  std::printf(
      "| %-28s | stories |  joins |    fields |  unknown |      %% | name alone |     seen | refused |\n",
      "encoder");
  std::printf("|---|---|---|---|---|---|---|---|---|\n");
  for (const auto& [encoder, tally] : tallies) row(encoder, tally);
  row("all", all);

  const auto ages = [](const std::string& name, const JoinTally& tally) {
    std::printf("| %-28s |", name.c_str());
    for (const Share& share : tally.by_age) {
      if (share.fields == 0) {
        std::printf(" %6s |", "-");
      } else {
        std::printf(" %6.2f |", share.Percent());
      }
    }
    std::printf("\n");
  };
  std::printf("| %-28s |", "% unknown in the n-th block");
  for (const char* name : kAgeNames) std::printf(" %6s |", name);
  std::printf("\n|---|---|---|---|---|---|---|---|---|---|\n");
  for (const auto& [encoder, tally] : tallies) ages(encoder, tally);
  ages("all", all);
}

class HpackSuite : public ::testing::TestWithParam<const char*> {
 protected:
  // Read once for all tests; the pointer stays null if the suite is not at hand.
  static const std::vector<Story>* Stories(const std::string& which) {
    static const std::vector<Story> committed = CommittedStories();
    static const std::vector<Story> whole = std::filesystem::exists(SharedSuitePath())
                                                ? StoriesOfArchive(SharedSuitePath())
                                                : std::vector<Story>{};
    if (which == "Committed") return &committed;
    return std::filesystem::exists(SharedSuitePath()) ? &whole : nullptr;
  }

  void SetUp() override {
    stories_ = Stories(GetParam());
    if (stories_ == nullptr) GTEST_SKIP() << "the whole suite is not at hand: " << SharedSuitePath();
    if (std::string(GetParam()) == "Committed") {
      ASSERT_EQ(stories_->size(), 26u);
    } else {
      ASSERT_GT(stories_->size(), 150u);
    }
  }

  // Joins every story wherever JoinsOf says, in the way that `how` makes of the place.
  template <typename How>
  static void JoinAll(const std::vector<Story>& stories, size_t most, Tallies& tallies, How how) {
    for (const Story& story : stories) {
      const Sources sources = FindSources(story);
      ASSERT_EQ(sources.blocks.size(), story.cases.size());
      JoinTally& tally = tallies[story.encoder];
      ++tally.stories;
      for (const size_t from : JoinsOf(story, sources, most)) {
        ExpectNoWrongField(story, sources, how(from), tally);
        if (HasFatalFailure()) return;
      }
    }
  }

  const std::vector<Story>* stories_ = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Stories, HpackSuite, ::testing::Values("Committed", "Whole"),
                         [](const auto& which) { return std::string(which.param); });

TEST_P(HpackSuite, ExactFromStart) {
  uint64_t blocks = 0;
  for (const Story& story : *stories_) {
    blocks += story.cases.size();
    ExpectExactFromStart(story, 16384);
    ExpectExactFromStart(story, 7);
    if (HasFatalFailure()) return;
  }
  std::printf("%s: %zu stories, %llu blocks, exact\n", GetParam(), stories_->size(),
              static_cast<unsigned long long>(blocks));
}

TEST_P(HpackSuite, JoinedBeforeEveryBlock) {
  const size_t most = MostJoins(0);
  Tallies tallies;
  JoinAll(*stories_, most, tallies, [](size_t from) { return Join{from}; });
  if (HasFatalFailure()) return;
  PrintShares("joined before", most, tallies);
}

// The block before is lost, the ones before that were read. If the lost one had a size update, the decoder's
// table has another size than the encoder's from there on.
TEST_P(HpackSuite, OneBlockLost) {
  const size_t most = MostJoins(100);
  Tallies tallies;
  JoinAll(*stories_, most, tallies, [](size_t from) { return Join{from, from - 1}; });
  if (HasFatalFailure()) return;
  PrintShares("one block lost, and read on before", most, tallies);
}

// The slots that were told before the loss are not told again.
TEST_P(HpackSuite, JoinedAndOneBlockLost) {
  const size_t most = MostJoins(100);
  Tallies tallies;
  JoinAll(*stories_, most, tallies, [](size_t from) {
    return Join{from, std::min<size_t>(from - 1, 8), true};
  });
  if (HasFatalFailure()) return;
  PrintShares("joined, 8 blocks read, one lost, and read on before", most, tallies);
}

// The suite's fields as nghttp2 encodes them under table sizes that the suite does not have.
std::vector<Story> Encoded(const std::vector<Story>& stories, const std::string& encoder,
                           const std::vector<uint32_t>& table_bytes) {
  std::vector<Story> encoded;
  for (const Story& story : stories) {
    // The fields of a story are the same in all directories.
    if (story.encoder != "nghttp2") continue;
    Story again{encoder, encoder + ", fields of " + story.name, {}};
    HpackEncoder nghttp2(*std::max_element(table_bytes.begin(), table_bytes.end()));
    for (size_t i = 0; i < story.cases.size(); ++i) {
      // One size after the other, each for the same number of blocks.
      const size_t now = i * table_bytes.size() / story.cases.size();
      const bool changes = i == 0 || now != (i - 1) * table_bytes.size() / story.cases.size();
      Case c;
      c.fields = story.cases[i].fields;
      if (changes) {
        nghttp2.ChangeTableSize(table_bytes[now]);
        c.table_bytes = table_bytes[now];
      }
      c.wire = nghttp2.Encode(c.fields);
      again.cases.push_back(std::move(c));
    }
    encoded.push_back(std::move(again));
  }
  return encoded;
}

// A SETTINGS that nobody saw: the encoder's table is larger or smaller than the 4,096 bytes that a decoder
// begins with, and may change again after the join. With a limit of 4,096 the decoder is wrong about what was
// announced as well; in the program it is not, see ConnectionFacts::MaxHeaderTableBytes.
TEST_P(HpackSuite, JoinedUnderAnotherTableSize) {
  const std::pair<const char*, std::vector<uint32_t>> kSizes[] = {
      {"table of 256", {256}},
      {"table of 1024", {1024}},
      {"table of 16384", {16384}},
      {"table of 65536", {65536}},
      {"16384, 512, 65536, 0, 8192", {16384, 512, 65536, 0, 8192}},
  };
  const size_t most = MostJoins(50);
  Tallies unlimited;
  Tallies limited;
  Tallies lost;
  for (const auto& [name, table_bytes] : kSizes) {
    const std::vector<Story> stories = Encoded(*stories_, name, table_bytes);
    ASSERT_FALSE(stories.empty());
    for (const Story& story : stories) ExpectExactFromStart(story, 16384);
    JoinAll(stories, most, unlimited, [](size_t from) { return Join{from}; });
    JoinAll(stories, most, limited, [](size_t from) {
      return Join{from, 0, false, kDefaultHeaderTableBytes};
    });
    JoinAll(stories, most, lost, [](size_t from) { return Join{from, from - 1}; });
    if (HasFatalFailure()) return;
  }
  PrintShares("table size not seen, joined before", most, unlimited);
  PrintShares("... and updates beyond 4096 refused, joined before", most, limited);
  PrintShares("... and seen, one block lost, and read on before", most, lost);
}

}  // namespace
}  // namespace keytrail::testing
