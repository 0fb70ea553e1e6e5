// Which protocol a connection is, by content alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "common/limits.h"
#include "tests/support/http2_builder.h"
#include "tests/support/http2_log.h"
#include "tests/support/segmenter.h"

namespace keytrail::testing {
namespace {

using ::testing::ElementsAre;

std::string FromHex(std::string_view hex) {
  std::string out;
  std::string digits;
  for (const char c : hex) {
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0) continue;
    digits += c;
    if (digits.size() == 2) {
      out += static_cast<char>(std::stoi(digits, nullptr, 16));
      digits.clear();
    }
  }
  return out;
}

// The category that the connection is counted as at its end.
Counter Category(const Session& session) {
  for (const Counter c :
       {Counter::kConnectionsHttp2Start, Counter::kConnectionsHttp2Late, Counter::kConnectionsHttp1,
        Counter::kConnectionsTls, Counter::kConnectionsOther, Counter::kConnectionsEmpty}) {
    if (session.Count(c) != 0) return c;
  }
  return Counter::kCount;
}

struct Message {
  int direction;
  std::string bytes;
};

Counter CategoryOf(int opened_by, const std::vector<Message>& messages) {
  Session session(opened_by);
  for (const Message& m : messages) session.Send(m.direction, m.bytes);
  session.Close();
  return Category(session);
}

const std::string kMysqlGreeting = FromHex(
    "4a 00 00 00 0a 35 2e 37 2e 32 35 2d 54 69 44 42 00 01 00 00 00 3f 2d 16 5a 45 1b 34 42 00 ff f7 2e 02 "
    "00 0f c1"
    "15 00 00 00 00 00 00 00 00 00 00 4b 31 5e 20 2c 5d 43 59 77 1c 3a 58 00 6d 79 73 71 6c 5f 6e 61 74 69 "
    "76 65 5f"
    "70 61 73 73 77 6f 72 64 00");
const std::string kMysqlLogin = FromHex(
    "20 00 00 01 85 a6 3f 20 00 00 00 01 21 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
    "00 00"
    "07 00 00 02 00 00 00 02 00 00 00 0f 00 00 00 03 73 65 6c 65 63 74 20 40 40 78 2c 20 31");
const std::string kTlsHello = FromHex("16 03 01 02 00 01 00 01 fc 03 03") + std::string(501, 'r');
const std::string kTlsRecord = FromHex("17 03 03 00 40") + std::string(64, '\x91');
const std::string kHttpGet = "GET /pd/api/v1/regions HTTP/1.1\r\nHost: pd:2379\r\nAccept: */*\r\n\r\n";
const std::string kHttpOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

TEST(Protocol, ThePrefaceBeginsHttp2InEitherDirection) {
  for (const int client : {0, 1}) {
    for (const int opened_by : {client, -1}) {
      const std::string request = kPreface + SettingsFrame({}) + HeadersFrame(1, HpackIndexed(3));
      const std::string server = SettingsFrame({}) + SettingsAck();
      ForEachSegmentation(AsBytes(request), [&](const Pieces& pieces, const std::string& label) {
        // C-core servers send their SETTINGS before they have read anything.
        Session session(opened_by);
        session.Send(1 - client, server);
        for (const Bytes piece : pieces) session.Send(client, piece);
        session.Send(1 - client, HeadersFrame(1, HpackIndexed(8)));
        const std::string c = client == 0 ? ">" : "<";
        const std::string s = client == 0 ? "<" : ">";
        EXPECT_THAT(session.Close(),
                    ElementsAre("http2 start client " + std::to_string(client),
                                c + "1 headers [:method: POST]", s + "1 headers [:status: 200]", "end"))
            << label;
        EXPECT_EQ(Category(session), Counter::kConnectionsHttp2Start);
        EXPECT_EQ(session.Count(Counter::kBytesSkipped), 0u);
      });
    }
  }
}

TEST(Protocol, UpgradeToH2c) {
  const std::string request =
      "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: websocket, h2c\r\n"
      "HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
  const std::string switching =
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
  const std::string server = switching + SettingsFrame({}) + HeadersFrame(1, HpackIndexed(8));
  const std::string client = kPreface + SettingsFrame({}) + HeadersFrame(3, HpackIndexed(3));
  ForEachSegmentation(AsBytes(server), [&](const Pieces& pieces, const std::string& label) {
    Session session;
    session.Send(0, request);
    for (const Bytes piece : pieces) session.Send(1, piece);
    session.Send(0, client);
    EXPECT_THAT(session.Close(), ElementsAre("http2 start client 0", "<1 headers [:status: 200]",
                                             ">3 headers [:method: POST]", "end"))
        << label;
  });
  ForEachSegmentation(AsBytes(request + client), [&](const Pieces& pieces, const std::string& label) {
    Session session;
    size_t sent = 0;
    bool answered = false;
    for (const Bytes piece : pieces) {
      // The server answers when the request is whole; a piece that goes on past it was sent too early to be
      // real, but must do no harm.
      if (!answered && sent >= request.size()) {
        session.Send(1, server);
        answered = true;
      }
      session.Send(0, piece);
      sent += piece.size();
    }
    if (!answered) session.Send(1, server);
    EXPECT_EQ(session.Close().front(), "http2 start client 0") << label;
  });
}

TEST(Protocol, AnUpgradeThatIsDeclinedIsHttp1) {
  const std::string request = "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n";
  EXPECT_EQ(CategoryOf(0, {{0, request}, {1, kHttpOk}, {0, kHttpGet}}), Counter::kConnectionsHttp1);
  EXPECT_EQ(CategoryOf(0, {{0, request}, {0, kHttpGet}}), Counter::kConnectionsHttp1);
  EXPECT_EQ(CategoryOf(0, {{0, request}}), Counter::kConnectionsHttp1);
}

TEST(Protocol, OthersFromTheirBeginning) {
  EXPECT_EQ(CategoryOf(0, {{0, kHttpGet}, {1, kHttpOk}}), Counter::kConnectionsHttp1);
  EXPECT_EQ(CategoryOf(0, {{0, kTlsHello}, {1, kTlsRecord}}), Counter::kConnectionsTls);
  EXPECT_EQ(CategoryOf(0, {{1, kMysqlGreeting}, {0, kMysqlLogin}}), Counter::kConnectionsOther);
  EXPECT_EQ(CategoryOf(1, {{0, kMysqlGreeting}, {1, kMysqlLogin}}), Counter::kConnectionsOther);
  EXPECT_EQ(CategoryOf(0, {{0, "SSH-2.0-x\r\n"}}), Counter::kConnectionsOther);
  EXPECT_EQ(CategoryOf(0, {{0, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"}}), Counter::kConnectionsOther);
  EXPECT_EQ(CategoryOf(0, {}), Counter::kConnectionsEmpty);
  EXPECT_EQ(CategoryOf(0, {{1, kMysqlGreeting}}), Counter::kConnectionsOther);
  // A chain of frames without the preface, on a connection whose SYN was seen, is not HTTP/2.
  std::string frames;
  for (int i = 0; i < 9; ++i) frames += HeadersFrame(1 + 2u * i, HpackIndexed(3)) + WindowUpdateFrame(0, 7);
  EXPECT_EQ(CategoryOf(0, {{0, frames}}), Counter::kConnectionsOther);
}

TEST(Protocol, OthersJoinedLate) {
  EXPECT_EQ(CategoryOf(-1, {{0, kHttpGet}, {1, kHttpOk}}), Counter::kConnectionsHttp1);
  EXPECT_EQ(CategoryOf(-1, {{0, "rest of something"}, {0, kTlsRecord}, {1, kTlsRecord}}),
            Counter::kConnectionsTls);
  EXPECT_EQ(CategoryOf(-1, {{0, kTlsRecord + kTlsRecord}}), Counter::kConnectionsTls);
  EXPECT_EQ(CategoryOf(-1, {{1, kMysqlGreeting}, {0, kMysqlLogin}}), Counter::kConnectionsOther);
}

TEST(Protocol, NothingIsToldOfOthers) {
  Session session;
  session.Send(0, kHttpGet);
  session.Gap(0, 100);
  session.Send(1, kPreface + SettingsFrame({}));
  EXPECT_TRUE(session.Close().empty());
}

// No false HTTP/2 ------------------------------------------------------------------------------------------

std::string Repeat(const std::string& pattern, size_t bytes) {
  std::string out;
  while (out.size() < bytes) out += pattern;
  out.resize(bytes);
  return out;
}

// `bytes` on a connection joined late, in segments, in both directions.
void ExpectNotHttp2(const std::string& bytes, const std::string& what, size_t segment = 1448) {
  Session session(-1);
  for (size_t at = 0; at < bytes.size(); at += segment) {
    session.Send(static_cast<int>(at / segment % 2),
                 Bytes(AsBytes(bytes)).subspan(at, std::min(segment, bytes.size() - at)));
  }
  session.Close();
  EXPECT_EQ(session.log.http2, 0) << what;
  EXPECT_TRUE(session.log.lines.empty()) << what;
}

TEST(NoFalseHttp2, RandomBytes) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    std::string bytes(65536, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    ExpectNotHttp2(bytes, "random " + std::to_string(seed));
  }
}

// Zeroes are the stuff of frame headers: the more there are, the more headers appear by chance.
TEST(NoFalseHttp2, RandomBytesRichInZeroesAndSmallNumbers) {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    std::mt19937 random(seed);
    std::string bytes(65536, '\0');
    const uint32_t zeroes = 1 + seed % 20;
    const uint32_t range = 2 + seed % 11;
    for (char& c : bytes) {
      if (random() % (zeroes + 1) == 0)
        c = static_cast<char>(random() % 3 == 0 ? random() : random() % range);
    }
    ExpectNotHttp2(bytes, "zeroes " + std::to_string(seed), 65536);
  }
}

TEST(NoFalseHttp2, Patterns) {
  ExpectNotHttp2(std::string(200000, '\0'), "zeroes");
  ExpectNotHttp2(std::string(200000, '\xff'), "0xff");
  ExpectNotHttp2(std::string(200000, ' '), "spaces");
  ExpectNotHttp2(Repeat("The quick brown fox jumps over the lazy dog.\r\n", 200000), "text");
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string pattern(1 + random() % 60, '\0');
    for (char& c : pattern) {
      if (random() % 3 == 0) c = static_cast<char>(random() % 4 == 0 ? random() : random() % 12);
    }
    ExpectNotHttp2(Repeat(pattern, 4000), "pattern " + Printable(pattern), 4000);
  }
  // One frame that says little, over and over.
  for (const std::string& frame : {DataFrame(1, ""), DataFrame(1, "x"), DataFrame(1, std::string(100, 'x')),
                                   DataFrame(1, std::string(100, '\0')), DataFrame(3, "", true),
                                   DataFrame(257, "abc"), RawFrame(4, 0, 0, ""), SettingsAck()}) {
    ExpectNotHttp2(Repeat(frame, 9000), "frame " + Printable(frame), 3000);
  }
}

TEST(NoFalseHttp2, ArraysOfNumbers) {
  for (const size_t width : {2, 3, 4, 8}) {
    for (const bool big_endian : {false, true}) {
      for (uint32_t step = 0; step < 40; ++step) {
        std::string bytes;
        for (uint32_t value = 1; bytes.size() < 60000; value += step) {
          std::string number;
          for (size_t i = 0; i < width; ++i) {
            const size_t shift = 8 * (big_endian ? width - 1 - i : i);
            number += static_cast<char>(shift < 32 ? value >> shift : 0);
          }
          bytes += number;
        }
        ExpectNotHttp2(bytes, std::to_string(width) + " bytes, step " + std::to_string(step), 30000);
      }
    }
  }
}

TEST(NoFalseHttp2, OtherProtocols) {
  std::string mysql = kMysqlGreeting + kMysqlLogin;
  for (int row = 0; mysql.size() < 100000; ++row) {
    // A text result row: 3 bytes of length, a sequence number, length-prefixed columns.
    const std::string a = std::to_string(row);
    const std::string b(static_cast<size_t>(row % 40), 'v');
    const std::string body =
        std::string(1, static_cast<char>(a.size())) + a + static_cast<char>(b.size()) + b;
    mysql +=
        std::string(1, static_cast<char>(body.size())) + std::string(2, '\0') + static_cast<char>(row) + body;
  }
  ExpectNotHttp2(mysql, "mysql");
  ExpectNotHttp2(mysql.substr(31), "mysql joined late", 536);

  std::string protobuf;
  std::mt19937 random(5);
  while (protobuf.size() < 100000) {
    std::string inner = "\x08" + std::string(1, static_cast<char>(random() % 128)) + "\x10\x01\x1a";
    const std::string key(random() % 30, '\0');
    inner += static_cast<char>(key.size()) + key;
    protobuf += "\x0a" + std::string(1, static_cast<char>(inner.size())) + inner;
  }
  ExpectNotHttp2(protobuf, "protobuf");

  std::string tls;
  while (tls.size() < 100000) {
    const size_t n = random() % 1400;
    tls += FromHex("17 03 03") + Be16(static_cast<uint32_t>(n));
    for (size_t i = 0; i < n; ++i) tls += static_cast<char>(random());
  }
  ExpectNotHttp2(tls, "tls");
  ExpectNotHttp2(tls.substr(3), "tls joined late", 333);

  // Big-endian length-prefixed protocols: Kafka, ZooKeeper, PostgreSQL.
  std::string kafka;
  std::string postgres;
  for (uint32_t i = 0; kafka.size() < 100000; ++i) {
    const std::string body =
        Be16(i % 20) + Be16(i % 9) + Be32(i) + Be16(3) + "cli" + std::string(i % 60, '\0');
    kafka += Be32(static_cast<uint32_t>(body.size())) + body;
    const std::string row = Be16(2) + Be32(4) + Be32(i) + Be32(i % 7) + std::string(i % 7, 'x');
    postgres += "D" + Be32(static_cast<uint32_t>(row.size() + 4)) + row;
  }
  ExpectNotHttp2(kafka, "kafka");
  ExpectNotHttp2(postgres, "postgres");
}

TEST(Protocol, AConnectionThatIsNothingIsLeftAlone) {
  Session session(-1);
  std::mt19937 random(1);
  std::string bytes(4096, '\0');
  for (size_t sent = 0; sent < limits::kMaxSearchBytes + 2 * bytes.size(); sent += bytes.size()) {
    for (char& c : bytes) c = static_cast<char>(random());
    session.Send(0, bytes);
  }
  // HTTP/2 now would be a wonder; nobody looks any more.
  std::string frames;
  for (uint32_t i = 0; i < 20; ++i)
    frames += HeadersFrame(1 + 2 * i, HpackIndexed(3)) + WindowUpdateFrame(0, 7 + i);
  session.Send(0, frames);
  EXPECT_TRUE(session.Close().empty());
  EXPECT_EQ(Category(session), Counter::kConnectionsOther);
}

}  // namespace
}  // namespace keytrail::testing
