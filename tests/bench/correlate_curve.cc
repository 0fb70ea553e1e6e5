// What the correlator costs as calls add up: 20 hosts (10 TiDB, 3 PD, 7 TiKV), every call seen at both ends.
//
//   correlate_curve [CALLS ...]      (100000 300000 1000000 3000000 without)
//
// For each number of calls: nanoseconds a call to add both of its records, seconds of one judgement in the
// end, both of processor time, records that are held then, and MiB by which the process has grown.

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "collector/correlate/correlator.h"
#include "common/key_codec.h"
#include "common/record_codec.h"

namespace keytrail {
namespace {

constexpr int kTidb = 10, kPd = 3, kTikv = 7;
constexpr int kRegions = 2000;
constexpr int64_t kStartNs = 1'795'451'400'000'000'000;

Endpoint At(int net, int host, uint16_t port) {
  return {ParseAddress("10.0." + std::to_string(net) + "." + std::to_string(host + 1)).value(), port};
}

std::string Key(int region) {
  char text[16];
  std::snprintf(text, sizeof text, "k%06d", region);
  return EncodeKey(AsBytes(std::string(text)));
}

// Calls one after the other, a tenth of a millisecond apart; both views of one call share a record.
class Traffic {
 public:
  void Next(Correlator& correlator) {
    OwnedRecord record;
    CallRecord& call = record.call;
    call.request = &record.request;
    call.response = &record.response;
    call.method_from = MethodFrom::kHeader;
    call.joined_at_start = true;
    call.req_messages = call.resp_messages = 1;
    call.req_bytes = 60;
    call.resp_bytes = 20;
    const int tidb = static_cast<int>(random_() % kTidb);
    const int region = static_cast<int>(random_() % kRegions);
    const int store = region % kTikv;
    const uint32_t what = static_cast<uint32_t>(random_() % 1000);
    uint32_t client = static_cast<uint32_t>(tidb + 1);
    uint32_t server = static_cast<uint32_t>(kTidb + kPd + store + 1);
    call.client = At(1, tidb, static_cast<uint16_t>(40000 + store));
    call.server = At(3, store, 20160);
    call.connection = static_cast<uint64_t>(tidb) << 8 | static_cast<uint64_t>(store);
    if (what < 5) {
      server = kTidb + 1;
      call.server = At(2, 0, 2379);
      call.client.port = 41000;
      call.connection = 1u << 16 | static_cast<uint32_t>(tidb);
      call.method = "/pdpb.PD/GetRegion";
      KeyItem key;
      key.form = KeyForm::kEncoded;
      key.start = record.request.arena.Copy(AsBytes(Key(region)));
      record.request.keys.push_back(key);
      State(record, record.response, region, StatementSource::kPdGetRegion);
      call.stream = static_cast<uint32_t>(2 * count_ + 1);
    } else if (what < 10) {
      client = server;
      server = kTidb + 1;
      call.client = At(3, store, 42000);
      call.server = At(2, 0, 2379);
      call.connection = 2u << 16 | static_cast<uint32_t>(store);
      call.method = "/pdpb.PD/RegionHeartbeat";
      call.kind = CallKind::kMessage;
      call.stream = 1;
      State(record, record.request, region, StatementSource::kHeartbeat);
    } else {
      call.method = "/tikvpb.Tikv/BatchCommands";
      call.command = "Get";
      call.kind = CallKind::kSub;
      call.stream = 1;
      call.request_id = count_;
      Route route;
      route.region_id = static_cast<uint64_t>(region) + 10;
      route.version = 3;
      route.conf_ver = 1;
      route.has_epoch = true;
      record.request.routes.push_back(route);
      KeyItem key;
      key.form = KeyForm::kRaw;
      char text[24];
      std::snprintf(text, sizeof text, "k%06d%c", region, 'a' + static_cast<int>(random_() % 20));
      key.start = record.request.arena.Copy(AsBytes(std::string(text)));
      record.request.keys.push_back(key);
    }
    now_ += 100'000;
    const int64_t delay = 50'000 + static_cast<int64_t>(random_() % 100'000);
    const int64_t sent = now_;
    Stamp(call, sent, sent + 2 * delay + 200'000);
    correlator.Add(client, 2 * count_, call);
    Stamp(call, sent + delay, sent + delay + 200'000);
    correlator.Add(server, 2 * count_ + 1, call);
    ++count_;
  }

 private:
  static void Stamp(CallRecord& call, int64_t request, int64_t response) {
    call.req_first = call.req_last = {request};
    call.resp_first = call.resp_last = {response};
  }
  static void State(OwnedRecord& record, MessageFacts& facts, int region, StatementSource source) {
    RegionStatement s;
    s.source = source;
    s.region_id = static_cast<uint64_t>(region) + 10;
    s.version = 3;
    s.conf_ver = 1;
    s.has_epoch = true;
    s.start = record.request.arena.Copy(AsBytes(Key(region)));
    s.end = record.request.arena.Copy(AsBytes(Key(region + 1)));
    facts.statements.push_back(s);
  }

  std::mt19937_64 random_{1};
  uint64_t count_ = 0;
  int64_t now_ = kStartNs;
};

// Of this process, which has one thread: what else the machine does counts less.
double Seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

size_t ResidentBytes() {
  std::ifstream status("/proc/self/statm");
  size_t pages = 0, resident = 0;
  status >> pages >> resident;
  return resident * 4096;
}

void Measure(uint64_t calls) {
  const size_t before = ResidentBytes();
  auto correlator = std::make_unique<Correlator>();
  for (uint32_t agent = 1; agent <= kTidb + kPd + kTikv; ++agent) correlator->AddAgent({agent, "", ""});
  Traffic traffic;
  double spent = 0;
  for (uint64_t i = 0; i < calls;) {
    const double begun = Seconds();
    for (uint64_t n = 0; n < 10000 && i < calls; ++n, ++i) traffic.Next(*correlator);
    spent += Seconds() - begun;
  }
  const size_t after = ResidentBytes();
  const double begun = Seconds();
  const InvestigationReport report = correlator->Judge();
  const double judged = Seconds() - begun;
  std::printf("%10llu %12.0f %12.3f %12zu %12.1f %10llu\n", static_cast<unsigned long long>(calls),
              spent / static_cast<double>(calls) * 1e9, judged, correlator->held(),
              static_cast<double>(after - before) / (1 << 20), static_cast<unsigned long long>(report.calls));
  std::fflush(stdout);
}

}  // namespace
}  // namespace keytrail

int main(int argc, char** argv) {
  std::vector<uint64_t> sizes = {100'000, 300'000, 1'000'000, 3'000'000};
  if (argc > 1) sizes.clear();
  for (int i = 1; i < argc; ++i) sizes.push_back(std::strtoull(argv[i], nullptr, 10));
  std::printf("%10s %12s %12s %12s %12s %10s\n", "calls", "add ns/call", "judge s", "held", "MiB", "counted");
  for (const uint64_t calls : sizes) keytrail::Measure(calls);
}
