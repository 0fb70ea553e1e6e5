// Tokens of keys keep what verdicts need: order, equality, prefixes, and with them containment.
#include "common/key_token.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

#include "common/key_codec.h"

namespace keytrail {
namespace {

RedactSecret Secret(uint8_t seed) {
  RedactSecret secret;
  for (size_t i = 0; i < secret.bytes.size(); ++i) secret.bytes[i] = static_cast<uint8_t>(seed + 7 * i);
  return secret;
}

// Keys that differ early, late and not at all, with runs of 00 and FF, of 0 to 300 bytes.
std::vector<std::string> Keys() {
  std::mt19937 random(3);
  std::set<std::string> keys{"", std::string(1, '\0'), "\xFF", std::string(300, '\xFF'),
                             std::string(300, '\0')};
  for (int i = 0; i < 400; ++i) {
    std::string key(random() % 301, '\0');
    for (char& c : key) c = static_cast<char>(random() % 4 == 0 ? 0xFF : random() % 3 == 0 ? 0 : random());
    keys.insert(key);
    keys.insert(key + '\0');
    keys.insert(key.substr(0, random() % (key.size() + 1)));
    std::string other = key;
    if (!other.empty()) other[random() % other.size()] ^= static_cast<char>(1u << random() % 8);
    keys.insert(other);
  }
  for (int i = 0; i < 256; ++i) keys.insert("t\x80" + std::string(1, static_cast<char>(i)));
  return {keys.begin(), keys.end()};
}

TEST(KeyTokens, OrderEqualityAndPrefixes) {
  for (const uint8_t seed : {1, 2, 3}) {
    KeyTokens tokens(Secret(seed));
    std::vector<std::string> all;
    for (const std::string& key : Keys()) all.push_back(ToString(tokens.Token(AsBytes(key))));
    const std::vector<std::string> keys = Keys();
    EXPECT_TRUE(all[0].empty()) << "unbounded stays unbounded";
    for (size_t i = 1; i < all.size(); ++i) {
      EXPECT_LT(all[i - 1], all[i]) << HexLower(AsBytes(keys[i - 1])) << " " << HexLower(AsBytes(keys[i]));
      EXPECT_TRUE(IsKeyToken(AsBytes(all[i])));
      if (!keys[i - 1].empty() && keys[i].starts_with(keys[i - 1])) {
        EXPECT_TRUE(all[i].starts_with(all[i - 1]));
      }
    }
  }
}

TEST(KeyTokens, TheSameForTheSameSecretInAnyOrder) {
  KeyTokens one(Secret(1)), two(Secret(1)), other(Secret(9));
  std::vector<std::string> keys = Keys();
  std::vector<std::string> first;
  for (const std::string& key : keys) first.push_back(ToString(one.Token(AsBytes(key))));
  for (size_t i = keys.size(); i-- > 1;) {
    EXPECT_EQ(ToString(two.Token(AsBytes(keys[i]))), first[i]);
    EXPECT_NE(ToString(other.Token(AsBytes(keys[i]))), first[i]);
    EXPECT_NE(KeyTokenFingerprint(other.Token(AsBytes(keys[i]))), KeyTokenFingerprint(AsBytes(first[i])));
  }
}

TEST(KeyTokens, RevealedWithTheirSecretAlone) {
  KeyTokens tokens(Secret(1));
  const KeyTokens other(Secret(2));
  for (const std::string& key : Keys()) {
    if (key.empty()) continue;
    const std::string token = ToString(tokens.Token(AsBytes(key)));
    EXPECT_EQ(tokens.Reveal(AsBytes(token)), key);
    EXPECT_EQ(other.Reveal(AsBytes(token)), std::nullopt);
    // A run of equal bytes may look like itself: the ends of a range are mapped near its ends.
    const std::string begin = key.substr(0, 8);
    if (begin.size() == 8 && std::set<char>(begin.begin(), begin.end()).size() >= 6) {
      EXPECT_EQ(token.find(begin), std::string::npos);
    }
    EXPECT_EQ(tokens.Reveal(AsBytes(token).first(token.size() - 1)), std::nullopt);
    EXPECT_EQ(DecodeKey(AsBytes(token)), std::nullopt);
  }
  EXPECT_EQ(tokens.Reveal(AsBytes(std::string_view("t_r"))), std::nullopt);
}

TEST(KeyTokens, ASecretHasTheFingerprintOfItsTokens) {
  KeyTokens one(Secret(1));
  const std::string fingerprint = one.Fingerprint();
  EXPECT_EQ(fingerprint.size(), 2 * kKeyTokenFingerprintBytes);
  EXPECT_EQ(KeyTokenFingerprint(one.Token(AsBytes(std::string_view("t_r")))), fingerprint);
  EXPECT_EQ(one.Fingerprint(), fingerprint);
  EXPECT_NE(KeyTokens(Secret(2)).Fingerprint(), fingerprint);
}

TEST(KeyTokens, TwoSecretsThatWereMadeDiffer) {
  const auto one = NewRedactSecret(), two = NewRedactSecret();
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_NE(one->bytes, two->bytes);
  EXPECT_NE(RedactSecretText(*one), RedactSecretText(*two));
}

}  // namespace
}  // namespace keytrail
