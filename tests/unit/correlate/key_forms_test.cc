// Keys as they are and tokens of keys, and tokens of two secrets, are never compared.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "common/key_codec.h"
#include "common/key_token.h"
#include "tests/unit/correlate/script.h"

namespace keytrail {
namespace {

using testing::ParseScript;
using testing::ScriptOptions;
using testing::ScriptRecord;
using testing::Summary;

constexpr char kStory[] = R"(
   5 tidb2 > pd1 QueryRegion c = 7.3[a,m)
  10 tidb1 > pd1 GetRegion f = 7.3[a,z)
  12 tidb1 > tikv1 Get 7.3 p = outside p [a,m)
  20 tidb1 > pd1 GetRegion f = 7.3[a,m)
)";

RedactSecret Secret(uint8_t seed) {
  RedactSecret secret;
  secret.bytes.fill(seed);
  return secret;
}

void Redact(MessageFacts& facts, KeyTokens& tokens) {
  const auto replace = [&](Bytes& key) { key = facts.arena.Copy(tokens.Token(key)); };
  for (KeyItem& item : facts.keys) {
    if (item.form == KeyForm::kRaw) {
      std::string encoded;
      EncodeKeyTo(item.start, encoded);
      item.start = facts.arena.Copy(AsBytes(encoded));
      item.form = KeyForm::kEncoded;
    }
    replace(item.start);
    replace(item.end);
  }
  for (RegionStatement& s : facts.statements) {
    replace(s.start);
    replace(s.end);
  }
  for (ErrorFact& e : facts.errors) {
    for (Bytes* key : {&e.key, &e.range_start, &e.range_end, &e.start, &e.end}) replace(*key);
  }
}

// Secret 0: keys as they are.
InvestigationReport Judge(const std::map<std::string, uint8_t>& secrets) {
  ScriptOptions options;
  for (const char* host : {"tidb1", "tidb2", "pd1", "tikv1"}) options.names[host] = host;
  std::vector<ScriptRecord> records = ParseScript(kStory, options);
  for (ScriptRecord& r : records) {
    const uint8_t seed = secrets.at(r.host);
    if (seed == 0) continue;
    KeyTokens tokens(Secret(seed));
    Redact(r.record->request, tokens);
    Redact(r.record->response, tokens);
  }
  Correlator correlator;
  testing::Feed(correlator, records, options);
  return correlator.Judge();
}

TEST(KeyForms, OneSecretChangesNothing) {
  const std::string plain = Summary(Judge({{"tidb1", 0}, {"tidb2", 0}, {"pd1", 0}, {"tikv1", 0}}));
  EXPECT_EQ(plain, "pd certain 3 7.3 x2");
  const InvestigationReport redacted = Judge({{"tidb1", 5}, {"tidb2", 5}, {"pd1", 5}, {"tikv1", 5}});
  EXPECT_EQ(Summary(redacted), plain);
  EXPECT_EQ(redacted.key_forms, 1u);
}

TEST(KeyForms, TwoSecretsOrNoneOnOneHostWithholdEverything) {
  for (const std::map<std::string, uint8_t>& secrets :
       std::vector<std::map<std::string, uint8_t>>{{{"tidb1", 5}, {"tidb2", 5}, {"pd1", 5}, {"tikv1", 6}},
                                                   {{"tidb1", 5}, {"tidb2", 0}, {"pd1", 5}, {"tikv1", 5}},
                                                   {{"tidb1", 0}, {"tidb2", 0}, {"pd1", 7}, {"tikv1", 0}},
                                                   {{"tidb1", 1}, {"tidb2", 2}, {"pd1", 3}, {"tikv1", 4}}}) {
    const InvestigationReport report = Judge(secrets);
    EXPECT_TRUE(report.verdicts.empty());
    ASSERT_EQ(report.inconclusive.size(), 1u);
    EXPECT_GE(report.key_forms, 2u);
    EXPECT_EQ(report.inconclusive[0].missing.size(), report.key_forms);
    std::string all;
    for (const std::string& missing : report.inconclusive[0].missing) all += missing;
    for (const char* host : {"tidb1", "tidb2", "pd1", "tikv1"})
      EXPECT_NE(all.find(host), std::string::npos) << all;
  }
}

}  // namespace
}  // namespace keytrail
