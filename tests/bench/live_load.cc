// live_load ADDRESS RATE SECONDS FAULTS [WARM_UP]: what agents on 20 hosts ship to a collector, at a paced
// rate.
//
// 10 TiDB, 3 PD and 7 TiKV hosts with a shipper each (the agent's own, with its queue, batches, zstd and
// ZeroMQ); RATE calls a second, each seen at both ends, stamped with the time at which they are made. After
// WARM_UP seconds (5) FAULTS faults are spread over the rest of SECONDS, each of a region of its own: PD
// tells a client where the region lies, and the client sends it a key from outside, which the store refuses.
// All of a fault's records are handed to their shippers one right after the other.
//
// Prints a line `fault REGION NS` when the last record of one was handed over (ns since 1970), and at the end
// `load CALLS RECORDS DROPPED SECONDS LATE`: records that shippers dropped, and the calls that were still to
// be made when the time was over.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "agent/ship/shipper.h"
#include "common/key_codec.h"
#include "common/record_codec.h"

namespace keytrail {
namespace {

constexpr int kTidb = 10, kPd = 3, kTikv = 7;
constexpr int kRegions = 2000;
constexpr uint64_t kFirstFaulty = 100'000;
constexpr int64_t kMostBehindNs = 2'000'000'000;

int64_t WallNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Endpoint At(int net, int host, uint16_t port) {
  return {ParseAddress("10.0." + std::to_string(net) + "." + std::to_string(host + 1)).value(), port};
}

std::string RawKey(uint64_t region, char suffix = 0) {
  char text[24];
  std::snprintf(text, sizeof text, "k%07llu", static_cast<unsigned long long>(region));
  return suffix == 0 ? text : text + std::string(1, suffix);
}

class Load {
 public:
  // False: said why.
  bool Start(const std::string& address) {
    for (int host = 0; host < kTidb + kPd + kTikv; ++host) {
      ShipperOptions options;
      options.address = address;
      const char* role = host < kTidb ? "tidb" : host < kTidb + kPd ? "pd" : "tikv";
      options.agent_name = role + std::to_string(host + 1);
      options.role = role;
      options.input = "live_load";
      auto shipper = Shipper::Start(options);
      if (!shipper) {
        std::fprintf(stderr, "live_load: %s\n", shipper.error().c_str());
        return false;
      }
      shippers_.push_back(std::move(*shipper));
    }
    return true;
  }

  // One of the ordinary calls.
  void Next() {
    const int tidb = static_cast<int>(random_() % kTidb);
    const uint64_t region = random_() % kRegions;
    const uint32_t what = static_cast<uint32_t>(random_() % 1000);
    if (what < 5) {
      Lookup(tidb, region + 10, 3, RawKey(region), RawKey(region + 1));
    } else if (what < 10) {
      Heartbeat(static_cast<int>(region % kTikv), region + 10, 3, RawKey(region), RawKey(region + 1));
    } else {
      Get(tidb, region + 10, 3, RawKey(region, static_cast<char>('a' + random_() % 20)), false);
    }
  }

  // Gives the number of the region.
  uint64_t Fault() {
    const uint64_t region = kFirstFaulty + faults_++;
    const int tidb = static_cast<int>(region % kTidb);
    Heartbeat(static_cast<int>(region % kTikv), region, 5, RawKey(region), RawKey(region + 1));
    Lookup(tidb, region, 5, RawKey(region), RawKey(region + 1));
    Get(tidb, region, 5, RawKey(region + 1, 'x'), true);
    return region;
  }

  bool Finish() {
    bool good = true;
    for (auto& shipper : shippers_) {
      const Status finished = shipper->Finish();
      if (!finished.ok()) std::fprintf(stderr, "live_load: %s\n", finished.error().c_str());
      good = good && finished.ok();
    }
    return good;
  }

  uint64_t calls() const { return calls_; }
  ShipperStats stats() const {
    ShipperStats all;
    for (const auto& shipper : shippers_) {
      const ShipperStats stats = shipper->stats();
      all.records += stats.records;
      all.records_dropped += stats.records_dropped;
    }
    return all;
  }

 private:
  static void Begin(OwnedRecord& record) {
    CallRecord& call = record.call;
    call.request = &record.request;
    call.response = &record.response;
    call.method_from = MethodFrom::kHeader;
    call.joined_at_start = true;
    call.req_messages = call.resp_messages = 1;
    call.req_bytes = 60;
    call.resp_bytes = 20;
  }

  static void State(OwnedRecord& record, MessageFacts& facts, uint64_t region, uint64_t version,
                    StatementSource source, const std::string& start, const std::string& end) {
    RegionStatement s;
    s.source = source;
    s.region_id = region;
    s.version = version;
    s.conf_ver = 1;
    s.has_epoch = true;
    s.start = record.request.arena.Copy(AsBytes(EncodeKey(AsBytes(start))));
    s.end = record.request.arena.Copy(AsBytes(EncodeKey(AsBytes(end))));
    facts.statements.push_back(s);
  }

  void Lookup(int tidb, uint64_t region, uint64_t version, const std::string& start, const std::string& end) {
    OwnedRecord record;
    Begin(record);
    record.call.client = At(1, tidb, 41000);
    record.call.server = At(2, 0, 2379);
    record.call.connection = 1u << 16 | static_cast<uint32_t>(tidb);
    record.call.method = "/pdpb.PD/GetRegion";
    record.call.stream = static_cast<uint32_t>(2 * calls_ + 1);
    KeyItem key;
    key.form = KeyForm::kEncoded;
    key.start = record.request.arena.Copy(AsBytes(EncodeKey(AsBytes(start))));
    record.request.keys.push_back(key);
    State(record, record.response, region, version, StatementSource::kPdGetRegion, start, end);
    Submit(record.call, tidb, kTidb);
  }

  void Heartbeat(int store, uint64_t region, uint64_t version, const std::string& start,
                 const std::string& end) {
    OwnedRecord record;
    Begin(record);
    record.call.client = At(3, store, 42000);
    record.call.server = At(2, 0, 2379);
    record.call.connection = 2u << 16 | static_cast<uint32_t>(store);
    record.call.method = "/pdpb.PD/RegionHeartbeat";
    record.call.kind = CallKind::kMessage;
    record.call.stream = 1;
    State(record, record.request, region, version, StatementSource::kHeartbeat, start, end);
    Submit(record.call, kTidb + kPd + store, kTidb);
  }

  void Get(int tidb, uint64_t region, uint64_t version, const std::string& key_text, bool refused) {
    OwnedRecord record;
    Begin(record);
    CallRecord& call = record.call;
    const int store = static_cast<int>(region % kTikv);
    call.client = At(1, tidb, static_cast<uint16_t>(40000 + store));
    call.server = At(3, store, 20160);
    call.connection = static_cast<uint64_t>(tidb) << 8 | static_cast<uint64_t>(store);
    call.method = "/tikvpb.Tikv/BatchCommands";
    call.command = "Get";
    call.kind = CallKind::kSub;
    call.stream = 1;
    call.request_id = calls_;
    Route route;
    route.region_id = region;
    route.version = version;
    route.conf_ver = 1;
    route.has_epoch = true;
    record.request.routes.push_back(route);
    KeyItem key;
    key.form = KeyForm::kRaw;
    key.start = record.request.arena.Copy(AsBytes(key_text));
    record.request.keys.push_back(key);
    if (refused) {
      ErrorFact error;
      error.kind = ErrorKind::kKeyNotInRegion;
      error.region_id = region;
      error.has_key = error.has_bounds = true;
      error.key = record.request.arena.Copy(AsBytes(EncodeKey(AsBytes(key_text))));
      error.start = record.request.arena.Copy(AsBytes(EncodeKey(AsBytes(RawKey(region)))));
      error.end = record.request.arena.Copy(AsBytes(EncodeKey(AsBytes(RawKey(region + 1)))));
      record.response.errors.push_back(error);
    }
    Submit(call, tidb, kTidb + kPd + store);
  }

  // Both views, a tenth of a millisecond apart, of a call that is over now.
  void Submit(CallRecord& call, int client, int server) {
    const int64_t now = WallNs();
    Stamp(call, now - 400'000, now);
    shippers_[static_cast<size_t>(client)]->Submit(call);
    Stamp(call, now - 300'000, now - 100'000);
    shippers_[static_cast<size_t>(server)]->Submit(call);
    ++calls_;
  }
  static void Stamp(CallRecord& call, int64_t request, int64_t response) {
    call.req_first = call.req_last = {request};
    call.resp_first = call.resp_last = {response};
  }

  std::vector<std::unique_ptr<Shipper>> shippers_;
  std::mt19937_64 random_{1};
  uint64_t calls_ = 0;
  uint64_t faults_ = 0;
};

int Run(const std::string& address, double rate, double seconds, uint64_t faults, double warm_up) {
  Load load;
  if (!load.Start(address)) return 1;
  const int64_t begun = WallNs();
  const auto total = static_cast<uint64_t>(rate * seconds);
  const double apart = faults == 0 ? 0 : (seconds - warm_up) / static_cast<double>(faults);
  uint64_t made = 0;
  uint64_t fault = 0;
  for (;;) {
    const double passed = static_cast<double>(WallNs() - begun) / 1e9;
    if (passed * 1e9 > seconds * 1e9 + kMostBehindNs || (made >= total && fault >= faults)) break;
    const auto due = std::min(total, static_cast<uint64_t>(passed * rate));
    for (; made < due; ++made) load.Next();
    if (fault < faults && passed >= warm_up + apart * static_cast<double>(fault)) {
      const uint64_t region = load.Fault();
      ++fault;
      std::printf("fault %llu %lld\n", static_cast<unsigned long long>(region),
                  static_cast<long long>(WallNs()));
      std::fflush(stdout);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const double spent = static_cast<double>(WallNs() - begun) / 1e9;
  const bool finished = load.Finish();
  const ShipperStats stats = load.stats();
  std::printf("load %llu %llu %llu %.3f %llu\n", static_cast<unsigned long long>(load.calls()),
              static_cast<unsigned long long>(stats.records),
              static_cast<unsigned long long>(stats.records_dropped), spent,
              static_cast<unsigned long long>(total - made));
  return finished ? 0 : 1;
}

}  // namespace
}  // namespace keytrail

int main(int argc, char** argv) {
  if (argc != 5 && argc != 6) {
    std::fprintf(stderr, "usage: live_load ADDRESS RATE SECONDS FAULTS [WARM_UP]\n");
    return 2;
  }
  return keytrail::Run(argv[1], std::atof(argv[2]), std::atof(argv[3]), std::strtoull(argv[4], nullptr, 10),
                       argc == 6 ? std::atof(argv[5]) : 5);
}
