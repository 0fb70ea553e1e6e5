// What the correlator concluded goes into the database and comes back whole.

#include <gtest/gtest.h>

#include <random>
#include <sstream>

#include "collector/store/store.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

// The structured bindings below stop compiling when a field is added: the tables must follow.

std::string Show(const std::optional<std::string>& s) {
  return s.has_value() ? "[" + *s + "]" : "none";
}
std::string Show(const std::optional<int64_t>& n) {
  return n.has_value() ? std::to_string(*n) : "none";
}

void Describe(const std::vector<Evidence>& all, std::ostringstream& out) {
  for (const Evidence& e : all) {
    const auto& [what, label, host, observer, speaker, listener, method, call_id, statement_id, t_ns,
                 region_id, version, key, range_start, range_end, note, ref_ns, count] = e;
    out << "  evidence " << what << '/' << label << '/' << host << '/' << observer << '/' << speaker << '/'
        << listener << '/' << method << '/' << call_id << '/' << statement_id << '/' << t_ns << '/'
        << region_id << '/' << version << '/' << Show(key) << '/' << Show(range_start) << '/'
        << Show(range_end) << '/' << note << '/' << ref_ns << '/' << count << '\n';
  }
}

std::string Describe(const InvestigationReport& report) {
  std::ostringstream out;
  const auto& [verdicts, inconclusive, benign, hosts, clocks, translations, losses, calls, unread,
               routed_requests, statements, regions, complaints, key_forms, not_captured] = report;
  for (const Verdict& v : verdicts) {
    const auto& [id, component, certain, rule, client, server, region_id, version, key, occurrences, first_ns,
                 last_ns, text, evidence, occurrence_list, weakened_by, culprit, sure_of] = v;
    out << "verdict " << id << '/' << int(component) << '/' << certain << '/' << rule << '/' << client << '/'
        << server << '/' << region_id << '/' << version << '/' << key << '/' << occurrences << '/' << first_ns
        << '/' << last_ns << '/' << text << '/' << culprit << '\n';
    Describe(evidence, out);
    for (const Occurrence& o : occurrence_list) {
      const auto& [t_ns, what, call_id, o_region, o_version, o_key, statement_id, range_start, range_end] = o;
      out << "  occurrence " << t_ns << '/' << what << '/' << call_id << '/' << o_region << '/' << o_version
          << '/' << Show(o_key) << '/' << statement_id << '/' << Show(range_start) << '/' << Show(range_end)
          << '\n';
    }
    for (const std::string& s : weakened_by) out << "  weakened " << s << '\n';
    for (const std::string& s : sure_of) out << "  sure " << s << '\n';
  }
  for (const Inconclusive& i : inconclusive) {
    const auto& [suspects, missing, rule, client, server, region_id, version, key, occurrences, first_ns,
                 last_ns, text, evidence] = i;
    out << "inconclusive";
    for (Component c : suspects) out << ' ' << int(c);
    for (const std::string& s : missing) out << " missing " << s;
    out << '/' << rule << '/' << client << '/' << server << '/' << region_id << '/' << version << '/' << key
        << '/' << occurrences << '/' << first_ns << '/' << last_ns << '/' << text << '\n';
    Describe(evidence, out);
  }
  for (const auto& [name, count] : benign) out << "benign " << name << ' ' << count << '\n';
  for (const HostReport& h : hosts) {
    const auto& [host, address, role, offset, error, reference, at, drift, steps] = h;
    out << "host " << host << '/' << address << '/' << role << '/' << Show(offset) << '/' << Show(error)
        << '/' << reference << '/' << at << '/' << Show(drift) << '/' << steps << '\n';
  }
  for (const ClockReport& c : clocks) {
    const auto& [host, reference, relation, via, from, to, offset, error, drift, drift_error, c_calls,
                 stepped] = c;
    out << "clock " << host << '/' << reference << '/' << relation << '/' << via << '/' << Show(from) << '/'
        << Show(to) << '/' << Show(offset) << '/' << Show(error) << '/' << Show(drift) << '/'
        << Show(drift_error) << '/' << c_calls << '/' << stepped << '\n';
  }
  for (const TranslationReport& t : translations) {
    const auto& [host, client, client_at_server, server, server_at_client, connections, t_calls] = t;
    out << "translation " << host << '/' << client << '/' << client_at_server << '/' << server << '/'
        << server_at_client << '/' << connections << '/' << t_calls << '\n';
  }
  for (const LossReport& l : losses) {
    const auto& [host, kind, count, first_ns, last_ns] = l;
    out << "loss " << host << '/' << kind << '/' << count << '/' << first_ns << '/' << last_ns << '\n';
  }
  out << "counts " << calls << '/' << unread << '/' << routed_requests << '/' << statements << '/' << regions
      << '/' << complaints << '/' << key_forms << '\n';
  for (const std::string& s : not_captured) out << "not captured " << s << '\n';
  return out.str();
}

class RandomReport {
 public:
  explicit RandomReport(uint64_t seed) : random_(seed) {}

  InvestigationReport Make() {
    InvestigationReport report;
    for (size_t n = Below(4); n > 0; --n) report.verdicts.push_back(OneVerdict(report.verdicts.size() + 1));
    for (size_t n = Below(4); n > 0; --n) report.inconclusive.push_back(OneInconclusive());
    for (size_t n = Below(4); n > 0; --n) report.benign[Text()] = random_() >> 1;
    for (size_t n = Below(4); n > 0; --n) {
      report.hosts.push_back(
          {Text(), Text(), Text(), Maybe(), Maybe(), Text(), int64_t(Number()), Maybe(), Number()});
    }
    for (size_t n = Below(4); n > 0; --n) {
      report.clocks.push_back({Text(), Text(), Text(), Text(), Maybe(), Maybe(), Maybe(), Maybe(), Maybe(),
                               Maybe(), Number(), Below(2) == 1});
    }
    for (size_t n = Below(4); n > 0; --n) {
      report.translations.push_back({Text(), Text(), Text(), Text(), Text(), Number(), Number()});
    }
    for (size_t n = Below(4); n > 0; --n) {
      report.losses.push_back({Text(), Text(), Number(), int64_t(Number()), int64_t(Number())});
    }
    for (uint64_t* n : {&report.calls, &report.unread, &report.routed_requests, &report.statements,
                        &report.regions, &report.complaints, &report.key_forms}) {
      *n = Number();
    }
    report.not_captured = Texts();
    return report;
  }

 private:
  size_t Below(size_t n) { return static_cast<size_t>(random_() % n); }
  uint64_t Number() { return random_() >> (1 + Below(63)); }
  std::string Text() {
    static const char* kTexts[] = {"", "tidb1", "it's \"wrong\"", "naïve → ok", "10.77.0.11:20160"};
    return kTexts[Below(5)];
  }
  std::string Key() {
    std::string key(Below(20), '\0');
    for (char& c : key) c = static_cast<char>(random_());
    return key;
  }
  std::optional<std::string> MaybeKey() {
    if (Below(2) == 0) return std::nullopt;
    return Key();
  }
  std::optional<int64_t> Maybe() {
    if (Below(2) == 0) return std::nullopt;
    return static_cast<int64_t>(random_());
  }
  std::vector<std::string> Texts() {
    std::vector<std::string> all(Below(3));
    for (std::string& s : all) s = Text();
    return all;
  }
  std::vector<Evidence> AllEvidence() {
    std::vector<Evidence> all(Below(5));
    for (Evidence& e : all) {
      e = {Text(),
           Text(),
           Text(),
           Text(),
           Text(),
           Text(),
           Text(),
           Number(),
           Number(),
           int64_t(Number()),
           Number(),
           Number(),
           MaybeKey(),
           MaybeKey(),
           MaybeKey(),
           Text(),
           int64_t(Number()),
           Number()};
    }
    return all;
  }
  Verdict OneVerdict(uint64_t id) {
    Verdict v;
    v.id = id;
    v.component = static_cast<Component>(Below(3));
    v.certain = Below(2) != 0;
    for (std::string* s : {&v.rule, &v.client, &v.server, &v.text, &v.culprit}) *s = Text();
    v.region_id = Number();
    v.version = Number();
    v.key = Key();
    v.occurrences = Number();
    v.first_ns = static_cast<int64_t>(Number());
    v.last_ns = static_cast<int64_t>(Number());
    v.evidence = AllEvidence();
    v.weakened_by = Texts();
    v.sure_of = Texts();
    v.occurrence_list.resize(Below(5));
    for (Occurrence& o : v.occurrence_list) {
      o = {int64_t(Number()), Text(),   Number(),   Number(),  Number(),
           MaybeKey(),        Number(), MaybeKey(), MaybeKey()};
    }
    return v;
  }
  Inconclusive OneInconclusive() {
    Inconclusive i;
    for (size_t n = Below(4); n > 0; --n) i.suspects.push_back(static_cast<Component>(Below(3)));
    i.missing = Texts();
    for (std::string* s : {&i.rule, &i.client, &i.server, &i.text}) *s = Text();
    i.region_id = Number();
    i.version = Number();
    i.key = Key();
    i.occurrences = Number();
    i.first_ns = static_cast<int64_t>(Number());
    i.last_ns = static_cast<int64_t>(Number());
    i.evidence = AllEvidence();
    return i;
  }

  std::mt19937_64 random_;
};

TEST(StoreReport, ComesBackWholeAndReplacesTheOneBefore) {
  const ScratchDir dir;
  Result<std::unique_ptr<Store>> store = Store::Open(dir / "k.db");
  ASSERT_TRUE(store.ok()) << store.error();
  EXPECT_EQ(Describe((*store)->ReadReport().value()), Describe(InvestigationReport{}));
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const InvestigationReport report = RandomReport(seed).Make();
    const Status written = (*store)->WriteReport(report);
    ASSERT_TRUE(written.ok()) << written.error();
    const Result<InvestigationReport> back = (*store)->ReadReport();
    ASSERT_TRUE(back.ok()) << back.error();
    ASSERT_EQ(Describe(*back), Describe(report)) << "seed " << seed;
  }
  Result<std::unique_ptr<Store>> reader = Store::OpenReadOnly(dir / "k.db");
  ASSERT_TRUE(reader.ok()) << reader.error();
  EXPECT_EQ(Describe((*reader)->ReadReport().value()), Describe(RandomReport(59).Make()));
}

}  // namespace
}  // namespace keytrail
