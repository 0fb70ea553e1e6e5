// Encoding, decoding, storing and shipping of records, as a busy TiDB host makes them (point reads through
// BatchCommands). Items are records; socket_to_commit is the whole way from Submit() to the acknowledgement.

#include <benchmark/benchmark.h>
#include <pthread.h>
#include <sqlite3.h>
#include <time.h>

#include <atomic>
#include <deque>
#include <thread>

#include "agent/ship/shipper.h"
#include "collector/receive/receiver.h"
#include "collector/store/schema.h"
#include "collector/store/store.h"
#include "common/crc32c.h"
#include "common/limits.h"
#include "common/record_codec.h"
#include "tests/support/records.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

template <class T>
T Must(Result<T> result) {
  if (!result.ok()) std::abort();
  return std::move(*result);
}

// Seconds of processor time of a thread, or of the whole process.
double CpuSeconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// Records that live as long as this does.
class Recorded {
 public:
  explicit Recorded(size_t count) {
    RandomRecords records(1);
    BatchEncoder encoder;
    for (size_t i = 0; i < count; ++i) encoder.Add(records.Get());
    payload_ = encoder.Finish();
    BatchReader reader(AsBytes(payload_));
    for (size_t i = 0; i < count; ++i) (void)reader.Next(records_.emplace_back());
  }
  const std::deque<OwnedRecord>& all() const { return records_; }
  const std::string& payload() const { return payload_; }

 private:
  std::string payload_;
  std::deque<OwnedRecord> records_;
};

const Recorded& OneBatch() {
  static const Recorded recorded(limits::kMaxBatchRecords);
  return recorded;
}

void PerRecord(benchmark::State& state, size_t bytes) {
  const double records = static_cast<double>(state.iterations()) * limits::kMaxBatchRecords;
  state.SetItemsProcessed(static_cast<int64_t>(records));
  state.counters["bytes_per_record"] = static_cast<double>(bytes) / limits::kMaxBatchRecords;
}

void Encode(benchmark::State& state) {
  BatchEncoder encoder;
  size_t bytes = 0;
  for (auto _ : state) {
    for (const OwnedRecord& record : OneBatch().all()) encoder.Add(record.call);
    const std::string payload = encoder.Finish();
    bytes = payload.size();
    benchmark::DoNotOptimize(payload.data());
  }
  PerRecord(state, bytes);
}
BENCHMARK(Encode);

void Decode(benchmark::State& state) {
  OwnedRecord record;
  for (auto _ : state) {
    BatchReader reader(AsBytes(OneBatch().payload()));
    while (*reader.Next(record)) benchmark::DoNotOptimize(record.call.stream);
  }
  PerRecord(state, OneBatch().payload().size());
}
BENCHMARK(Decode);

void Compress(benchmark::State& state) {
  size_t bytes = 0;
  for (auto _ : state) bytes = CompressBatch(OneBatch().payload()).size();
  PerRecord(state, bytes);
}
BENCHMARK(Compress);

void Decompress(benchmark::State& state) {
  const std::string compressed = CompressBatch(OneBatch().payload());
  std::string payload;
  for (auto _ : state) {
    (void)DecompressBatch(AsBytes(compressed), OneBatch().payload().size(), payload);
    benchmark::DoNotOptimize(payload.data());
  }
  PerRecord(state, compressed.size());
}
BENCHMARK(Decompress);

void Checksum(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(Crc32c(AsBytes(OneBatch().payload())));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(OneBatch().payload().size()));
}
BENCHMARK(Checksum);

// One transaction a batch, on a real file.
void StoreBatches(benchmark::State& state) {
  const ScratchDir dir;
  std::unique_ptr<Store> store = Must(Store::Open(dir / "bench.db"));
  const uint32_t agent = store->RegisterAgent("bench", "", "", 1)->id;
  uint64_t sequence = 0;
  for (auto _ : state) {
    (void)store->Begin();
    for (const OwnedRecord& record : OneBatch().all()) (void)store->Add(agent, record.call);
    (void)store->Commit(agent, ++sequence);
  }
  store.reset();
  PerRecord(state, std::filesystem::file_size(dir / "bench.db") / static_cast<size_t>(state.iterations()));
}
BENCHMARK(StoreBatches)->Unit(benchmark::kMillisecond)->MinTime(3);

constexpr int kPlainBatches = 20;

// The rows that a Store makes of some batches, inserted by nothing but prepared statements, in as many
// transactions and with the same settings: what SQLite gives at best on this machine.
void PlainInserts(benchmark::State& state) {
  const ScratchDir dir;
  {
    std::unique_ptr<Store> store = Must(Store::Open(dir / "rows.db"));
    const uint32_t agent = store->RegisterAgent("bench", "", "", 1)->id;
    for (uint64_t sequence = 1; sequence <= kPlainBatches; ++sequence) {
      (void)store->Begin();
      for (const OwnedRecord& record : OneBatch().all()) (void)store->Add(agent, record.call);
      (void)store->Commit(agent, sequence);
    }
  }
  struct Rows {
    const TableDescription* table;
    std::vector<std::vector<sqlite3_value*>> values;
  };
  std::vector<Rows> all;
  sqlite3* db = nullptr;
  sqlite3_open((dir / "rows.db").c_str(), &db);
  for (const TableDescription& table : DatabaseSchema()) {
    if (table.view != nullptr || std::string_view(table.name) == "columns") continue;
    Rows& rows = all.emplace_back(Rows{&table, {}});
    sqlite3_stmt* read = nullptr;
    sqlite3_prepare_v2(db, (std::string("SELECT * FROM ") + table.name).c_str(), -1, &read, nullptr);
    while (sqlite3_step(read) == SQLITE_ROW) {
      auto& row = rows.values.emplace_back();
      for (int i = 0; i < sqlite3_column_count(read); ++i) {
        row.push_back(sqlite3_value_dup(sqlite3_column_value(read, i)));
      }
    }
    sqlite3_finalize(read);
  }
  sqlite3_close(db);
  int file = 0;
  double cpu = 0;
  for (auto _ : state) {
    state.PauseTiming();
    sqlite3_open((dir / ("plain" + std::to_string(++file) + ".db")).c_str(), &db);
    const auto run = [&](const std::string& sql) {
      sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr);
    };
    run("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4000;"
        "PRAGMA cache_size = -32768;");
    run(CreationSql());
    std::vector<sqlite3_stmt*> inserts;
    for (const Rows& rows : all) {
      std::string sql = std::string("INSERT INTO ") + rows.table->name + " VALUES (?";
      for (size_t i = 1; i < rows.table->columns.size(); ++i) sql += ",?";
      sqlite3_prepare_v3(db, (sql + ")").c_str(), -1, SQLITE_PREPARE_PERSISTENT, &inserts.emplace_back(),
                         nullptr);
    }
    const double cpu_before = CpuSeconds(CLOCK_THREAD_CPUTIME_ID);
    state.ResumeTiming();
    for (size_t batch = 0; batch < kPlainBatches; ++batch) {
      run("BEGIN IMMEDIATE");
      for (size_t t = 0; t < all.size(); ++t) {
        const auto& values = all[t].values;
        for (size_t r = values.size() * batch / kPlainBatches;
             r < values.size() * (batch + 1) / kPlainBatches; ++r) {
          for (size_t i = 0; i < values[r].size(); ++i) {
            sqlite3_bind_value(inserts[t], static_cast<int>(i) + 1, values[r][i]);
          }
          if (sqlite3_step(inserts[t]) != SQLITE_DONE) std::abort();
          sqlite3_reset(inserts[t]);
        }
      }
      run("COMMIT");
    }
    state.PauseTiming();
    cpu += CpuSeconds(CLOCK_THREAD_CPUTIME_ID) - cpu_before;
    for (sqlite3_stmt* insert : inserts) sqlite3_finalize(insert);
    sqlite3_close(db);
    state.ResumeTiming();
  }
  for (Rows& rows : all) {
    for (auto& row : rows.values) {
      for (sqlite3_value* value : row) sqlite3_value_free(value);
    }
  }
  state.SetItemsProcessed(state.iterations() * kPlainBatches *
                          static_cast<int64_t>(limits::kMaxBatchRecords));
  state.counters["records_per_cpu_second"] = static_cast<double>(state.items_processed()) / cpu;
}
BENCHMARK(PlainInserts)->Unit(benchmark::kMillisecond)->UseRealTime()->MinTime(3);

class Nobody final : public ReceiveObserver {
 public:
  void OnAgent(const AgentRow&) override {}
  void OnCall(uint32_t, uint64_t, const CallRecord&) override {}
  void OnLoss(const LossRow&) override {}
};

void SocketToCommit(benchmark::State& state) {
  const ScratchDir dir;
  // As the collector has it: windows that roll meanwhile and get their indexes beside ingestion.
  FolderOptions keep;
  keep.keep_bytes = 1u << 30;
  std::unique_ptr<Store> store = Must(Store::OpenFolder(dir / "data", keep));
  Nobody nobody;
  ReceiverOptions listen;
  listen.listen = "tcp://127.0.0.1:*";
  std::unique_ptr<Receiver> receiver = Must(Receiver::Open(listen, *store, nobody));
  std::atomic<bool> stop = false;
  std::thread collector([&] {
    while (!stop) receiver->Poll(20);
  });
  // What the collector's own thread needs, from the socket to the commit; and what is left, which is the
  // agent's side and the windows' indexes.
  clockid_t collector_clock{};
  pthread_getcpuclockid(collector.native_handle(), &collector_clock);
  const double collector_before = CpuSeconds(collector_clock);
  const double process_before = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID);
  double wire_bytes = 0;
  constexpr int kBatches = 50;
  for (auto _ : state) {
    ShipperOptions options;
    options.address = receiver->address();
    options.block_when_full = true;
    std::unique_ptr<Shipper> shipper = Must(Shipper::Start(options));
    for (int i = 0; i < kBatches; ++i) {
      for (const OwnedRecord& record : OneBatch().all()) shipper->Submit(record.call);
    }
    if (!shipper->Finish().ok()) state.SkipWithError("not stored");
    wire_bytes = static_cast<double>(shipper->stats().wire_bytes);
  }
  const double collector_cpu = CpuSeconds(collector_clock) - collector_before;
  const double rest = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID) - process_before - collector_cpu;
  stop = true;
  collector.join();
  state.SetItemsProcessed(state.iterations() * kBatches * static_cast<int64_t>(limits::kMaxBatchRecords));
  state.counters["wire_bytes_per_record"] = wire_bytes / (kBatches * limits::kMaxBatchRecords);
  const auto records = static_cast<double>(state.items_processed());
  state.counters["records_per_cpu_second"] = records / collector_cpu;
  state.counters["others_us_per_record"] = rest / records * 1e6;
}
BENCHMARK(SocketToCommit)->Unit(benchmark::kMillisecond)->UseRealTime()->MinTime(5);

}  // namespace
}  // namespace keytrail

BENCHMARK_MAIN();
