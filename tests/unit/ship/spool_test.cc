// The spool on real files: torn, damaged, full, locked, read-only; and the thread that keeps it.

#include "agent/ship/spool.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "agent/ship/batch_queue.h"
#include "agent/ship/spool_source.h"
#include "common/crc32c.h"
#include "tests/support/records.h"
#include "tests/support/scratch_dir.h"

namespace keytrail {
namespace {

using ::testing::HasSubstr;

ShipIdentity Identity(uint64_t epoch) {
  return {"key", "tidb1", "tidb", epoch, "host", "input"};
}

NumberedBatch Batch(uint64_t sequence, size_t bytes = 100) {
  NumberedBatch batch;
  batch.sequence = sequence;
  batch.records = 10;
  batch.first_ns = static_cast<int64_t>(sequence * 1000);
  batch.last_ns = batch.first_ns + 9;
  batch.message = "batch " + std::to_string(sequence) + " ";
  batch.message.resize(bytes, static_cast<char>('a' + sequence % 26));
  return batch;
}

std::unique_ptr<Spool> Opened(SpoolOptions options, uint64_t epoch) {
  bool may_recover = false;
  Result<std::unique_ptr<Spool>> spool = Spool::Open(options, Identity(epoch), may_recover);
  EXPECT_TRUE(spool.ok()) << spool.error();
  return spool.ok() ? std::move(*spool) : nullptr;
}

// Sequences of what can be read of an epoch; each must be as it was written.
std::vector<uint64_t> Sequences(Spool& spool, uint64_t epoch, uint64_t after = 0) {
  std::vector<uint64_t> all;
  NumberedBatch batch;
  while (spool.Read(epoch, after, batch)) {
    all.push_back(batch.sequence);
    EXPECT_EQ(batch.message, Batch(batch.sequence, batch.message.size()).message);
    EXPECT_EQ(batch.records, 10u);
    EXPECT_EQ(batch.first_ns, Batch(batch.sequence).first_ns);
  }
  return all;
}

std::vector<uint64_t> Range(uint64_t first, uint64_t last) {
  std::vector<uint64_t> all;
  for (uint64_t n = first; n <= last; ++n) all.push_back(n);
  return all;
}

uint64_t Records(const std::vector<LossRecord>& losses, const std::string& kind) {
  uint64_t count = 0;
  for (const LossRecord& loss : losses) count += loss.kind == kind ? loss.count : 0;
  return count;
}

class SpoolTest : public ::testing::Test {
 protected:
  SpoolTest() { options_.folder = dir_ / "spool"; }

  // The bytes of the only segment.
  std::string Write(uint64_t epoch, uint64_t batches) {
    const std::unique_ptr<Spool> spool = Opened(options_, epoch);
    for (uint64_t n = 1; n <= batches; ++n) EXPECT_TRUE(spool->Append(Batch(n), false).ok());
    path_ = Segments().back();
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void Put(const std::string& bytes) { std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes; }
  std::vector<std::string> Segments() const {
    std::vector<std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator(options_.folder)) {
      if (entry.path().extension() == ".spool") all.push_back(entry.path());
    }
    std::sort(all.begin(), all.end());
    return all;
  }

  const ScratchDir dir_;
  SpoolOptions options_;
  std::string path_;
};

TEST_F(SpoolTest, WhatIsWrittenIsReadByTheNextStart) {
  options_.segment_bytes = 500;
  {
    const std::unique_ptr<Spool> spool = Opened(options_, 7);
    for (uint64_t n = 1; n <= 20; ++n) ASSERT_TRUE(spool->Append(Batch(n), false).ok());
    ASSERT_TRUE(spool->Sync(0, true).ok());
    EXPECT_EQ(spool->RecordsLeft(), 200u);
  }
  EXPECT_GT(Segments().size(), 5u);
  struct stat about {};
  stat(Segments()[0].c_str(), &about);
  EXPECT_EQ(about.st_mode & 0777, 0600u);
  stat(options_.folder.c_str(), &about);
  EXPECT_EQ(about.st_mode & 0777, 0700u);
  const std::unique_ptr<Spool> spool = Opened(options_, 8);
  ASSERT_EQ(spool->OldEpochs().size(), 1u);
  const ShipIdentity old = spool->OldEpochs()[0];
  EXPECT_EQ(old.agent_key + old.name + old.role + old.hostname + old.input, "keytidb1tidbhostinput");
  EXPECT_EQ(old.epoch, 7u);
  EXPECT_EQ(Sequences(*spool, 7, 5), Range(6, 20)) << "the collector has five";
  spool->Acknowledge(7, 19);
  EXPECT_LE(Segments().size(), 2u);
  spool->Complete(7);
  EXPECT_TRUE(Segments().empty());
  EXPECT_TRUE(spool->TakeLosses().empty());
  EXPECT_EQ(spool->stats().bytes, 0u);
}

// Keys in two forms cannot be compared, and an agent's spool would bring them together.
TEST_F(SpoolTest, OneFormOfKeys) {
  const auto opened = [&](uint64_t epoch, const Redaction& redaction, bool drain = false) {
    SpoolOptions options = options_;
    options.one_redaction = !drain;
    ShipIdentity identity = Identity(epoch);
    identity.redaction = redaction;
    bool may_recover = true;
    Result<std::unique_ptr<Spool>> spool = Spool::Open(options, identity, may_recover);
    EXPECT_TRUE(spool.ok() || !may_recover);
    return spool;
  };
  const Redaction off{Redaction::Mode::kOff, ""};
  const Redaction one{Redaction::Mode::kOn, "0011223344"};
  const Redaction other{Redaction::Mode::kOn, "0011223355"};
  ASSERT_TRUE((*opened(1, one))->Append(Batch(1), false).ok());
  for (const Redaction& differs : {off, other}) {
    const Result<std::unique_ptr<Spool>> refused = opened(2, differs);
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error(), HasSubstr("'" + options_.folder +
                                           "' has records of an agent with --redact on (secret"
                                           " 0011223344)"));
    EXPECT_THAT(refused.error(), HasSubstr("--drain"));
  }
  ASSERT_TRUE(opened(3, one).ok());
  {
    const Result<std::unique_ptr<Spool>> drained = opened(4, Redaction(), true);
    ASSERT_TRUE(drained.ok()) << drained.error();
    ASSERT_EQ((*drained)->OldEpochs().size(), 1u);
    EXPECT_EQ((*drained)->OldEpochs()[0].redaction, one) << "it is shipped as what it is";
    (*drained)->Complete(1);
  }
  EXPECT_TRUE(opened(5, off).ok()) << "empty: nothing to compare";
}

// Version 1 does not say how keys are told.
TEST_F(SpoolTest, SegmentsOfTheVersionBefore) {
  const std::string bytes = Write(7, 3);
  bool newer = false;
  const Result<SpoolHeader> header = ParseSpoolHeader(AsBytes(bytes), newer);
  ASSERT_TRUE(header.ok()) << header.error();
  std::string old = bytes.substr(0, header->bytes - 4 - 2 * 2);  // without two empty texts and the CRC
  old[8] = 1;
  old[12] = static_cast<char>(old[12] - 4);
  const uint32_t crc = Crc32c(AsBytes(old));
  for (int i = 0; i < 4; ++i) old += static_cast<char>(crc >> (8 * i));
  Put(old + bytes.substr(header->bytes));
  const std::unique_ptr<Spool> spool = Opened(options_, 8);
  ASSERT_EQ(spool->OldEpochs().size(), 1u);
  EXPECT_EQ(spool->OldEpochs()[0].input, "input");
  EXPECT_EQ(spool->OldEpochs()[0].redaction, Redaction());
  EXPECT_EQ(Sequences(*spool, 7), Range(1, 3));
}

TEST_F(SpoolTest, StartsAreShippedInTheirOrder) {
  Write(99, 1);
  Write(5, 1);
  Write(50, 1);
  std::vector<uint64_t> epochs;
  for (const ShipIdentity& id : Opened(options_, 1)->OldEpochs()) epochs.push_back(id.epoch);
  EXPECT_THAT(epochs, testing::ElementsAre(99, 5, 50));
}

TEST_F(SpoolTest, ATailTornAtAnyByteIsCutOff) {
  const std::string whole = Write(7, 3);
  const size_t entry = kSpoolEntryHeaderBytes + 100;
  for (size_t torn = 1; torn <= entry; ++torn) {
    Put(whole.substr(0, whole.size() - torn));
    const std::unique_ptr<Spool> spool = Opened(options_, 8);
    EXPECT_EQ(Sequences(*spool, 7), Range(1, 2)) << torn;
    EXPECT_EQ(std::filesystem::file_size(path_), whole.size() - entry) << torn;
    EXPECT_EQ(spool->stats().torn_tails, torn < entry ? 1u : 0u) << torn;
    const std::vector<std::string> told = spool->TakeNotices();
    if (torn < entry) {
      ASSERT_EQ(told.size(), 1u);
      EXPECT_THAT(told[0], HasSubstr("cut off after"));
    }
    // The collector may have got it before the agent died; else it is lost.
    spool->Acknowledge(7, torn % 2 == 0 ? 2 : 3);
    spool->Complete(7);
    const uint64_t lost = Records(spool->TakeLosses(), "spool_torn");
    const bool header_there = torn <= 100;
    EXPECT_EQ(lost, torn % 2 != 0 || torn == entry ? 0u : (header_there ? 10u : 1u)) << torn;
  }
}

TEST_F(SpoolTest, AFileThatEndsInItsHeaderIsNone) {
  const std::string whole = Write(7, 1);
  const size_t header = whole.size() - kSpoolEntryHeaderBytes - 100;
  for (size_t size = 0; size <= header; ++size) {
    Put(whole.substr(0, size));
    const std::unique_ptr<Spool> spool = Opened(options_, 8);
    EXPECT_TRUE(spool->OldEpochs().empty()) << size;
    EXPECT_TRUE(Segments().empty()) << size;
  }
}

TEST_F(SpoolTest, ABitThatFlippedNeverGoesOutAsGood) {
  const std::string whole = Write(7, 3);
  const size_t entry = kSpoolEntryHeaderBytes + 100;
  const size_t header = whole.size() - 3 * entry;
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string bytes = whole;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    Put(bytes);
    const std::unique_ptr<Spool> spool = Opened(options_, 8);
    std::vector<uint64_t> expected = Range(1, 3);
    if (bit / 8 >= header) expected.erase(expected.begin() + static_cast<long>((bit / 8 - header) / entry));
    ASSERT_EQ(spool->OldEpochs().size(), 1u) << bit;
    EXPECT_EQ(Sequences(*spool, 7), expected) << bit;  // compares the messages, too
    spool->Acknowledge(7, expected.back());
    spool->Complete(7);
    const std::vector<LossRecord> losses = spool->TakeLosses();
    if (expected.size() == 3) {
      EXPECT_TRUE(losses.empty()) << bit;
    } else {
      ASSERT_EQ(losses.size(), 1u) << bit;
      // At the end it cannot be told from what an agent had not written whole.
      EXPECT_EQ(losses[0].kind, expected.back() == 3 ? "spool_damaged" : "spool_torn") << bit;
      if (expected.back() == 3) {
        EXPECT_EQ(losses[0].count, 10u) << bit;
      }
    }
  }
}

TEST_F(SpoolTest, AFullSpoolShedsTheOldestAndSaysSo) {
  options_.segment_bytes = 2000;
  options_.max_bytes = 60'000;
  const std::unique_ptr<Spool> spool = Opened(options_, 7);
  for (uint64_t n = 1; n <= 1000; ++n) {
    ASSERT_TRUE(spool->Append(Batch(n), false).ok());
    ASSERT_LE(spool->stats().bytes, options_.max_bytes);
  }
  const std::vector<LossRecord> losses = spool->TakeLosses();
  const std::vector<uint64_t> left = Sequences(*spool, 7);
  ASSERT_FALSE(left.empty());
  EXPECT_EQ(left, Range(left.front(), 1000));
  EXPECT_EQ(Records(losses, "shed"), 10 * (left.front() - 1));
  EXPECT_EQ(losses.front().first_ns, 1000);
  EXPECT_EQ(losses.back().last_ns, static_cast<int64_t>((left.front() - 1) * 1000 + 9));
  EXPECT_EQ(spool->TakeNotices().size(), 1u) << "told once";
}

TEST_F(SpoolTest, WhatTheReaderHasIsNotShed) {
  options_.segment_bytes = 2000;
  options_.max_bytes = 60'000;
  const std::unique_ptr<Spool> spool = Opened(options_, 7);
  std::vector<uint64_t> read;
  for (uint64_t n = 1; n <= 1000; ++n) {
    ASSERT_TRUE(spool->Append(Batch(n), false).ok());
    NumberedBatch batch;
    if (n <= 100 && spool->Read(7, 0, batch)) read.push_back(batch.sequence);
  }
  for (const uint64_t n : Sequences(*spool, 7)) read.push_back(n);
  EXPECT_EQ(10 * read.size() + Records(spool->TakeLosses(), "shed"), 10'000u);
}

TEST_F(SpoolTest, AFileWaitsInsteadOfShedding) {
  options_.max_bytes = 60'000;
  options_.segment_bytes = 2000;
  options_.shed_when_full = false;
  const std::unique_ptr<Spool> spool = Opened(options_, 7);
  uint64_t n = 1;
  while (spool->Append(Batch(n), false).ok()) ++n;
  EXPECT_TRUE(spool->TakeLosses().empty());
  EXPECT_EQ(Sequences(*spool, 7), Range(1, n - 1));
  spool->Acknowledge(7, n - 1);
  EXPECT_TRUE(spool->Append(Batch(n), false).ok()) << "room again";
}

TEST_F(SpoolTest, ALivingOwnerIsAnErrorADeadOneIsNot) {
  const pid_t owner = fork();
  if (owner == 0) {
    bool may_recover = false;
    const auto spool = Spool::Open(options_, Identity(1), may_recover);
    std::ofstream(dir_ / "ready") << "1";
    pause();
    _exit(0);
  }
  while (!std::filesystem::exists(dir_ / "ready")) std::this_thread::yield();
  bool may_recover = true;
  const auto second = Spool::Open(options_, Identity(2), may_recover);
  ASSERT_FALSE(second.ok());
  EXPECT_FALSE(may_recover);
  EXPECT_THAT(second.error(), HasSubstr("process " + std::to_string(owner)));
  kill(owner, SIGKILL);
  waitpid(owner, nullptr, 0);
  const std::unique_ptr<Spool> third = Opened(options_, 3);
  EXPECT_THAT(third->TakeNotices(), testing::ElementsAre(HasSubstr("did not end by itself")));
}

TEST_F(SpoolTest, FoldersThatOthersMayReadAreRefused) {
  std::filesystem::create_directory(options_.folder);
  chmod(options_.folder.c_str(), 0755);
  bool may_recover = true;
  const auto open = Spool::Open(options_, Identity(1), may_recover);
  ASSERT_FALSE(open.ok());
  EXPECT_THAT(open.error(), HasSubstr("chmod 700"));
  EXPECT_FALSE(may_recover);
  options_.folder = dir_ / "file";
  std::ofstream(options_.folder) << "x";
  EXPECT_FALSE(Spool::Open(options_, Identity(1), may_recover).ok());
  EXPECT_FALSE(may_recover);
}

TEST_F(SpoolTest, AFileOfANewerVersionIsLeftAlone) {
  std::string bytes = Write(7, 2);
  bytes[8] = 9;
  // A header that is whole: its CRC is made anew.
  const size_t length = static_cast<uint8_t>(bytes[12]) | static_cast<size_t>(static_cast<uint8_t>(bytes[13]))
                                                              << 8;
  const uint32_t crc = Crc32c(AsBytes(bytes.substr(0, length - 4)));
  for (size_t i = 0; i < 4; ++i) bytes[length - 4 + i] = static_cast<char>(crc >> (8 * i));
  Put(bytes);
  const std::unique_ptr<Spool> spool = Opened(options_, 8);
  EXPECT_TRUE(spool->OldEpochs().empty());
  EXPECT_THAT(spool->TakeNotices(), testing::ElementsAre(HasSubstr("version 9")));
  EXPECT_TRUE(std::filesystem::exists(path_));
}

// ---------------------------------------------------------------------------------------------------------
// With the keeper's thread, played against by a shipper of a few lines.

class SourceTest : public ::testing::Test {
 protected:
  void Start(const std::string& folder, uint64_t epoch, uint64_t max_bytes = limits::kDefaultSpoolBytes) {
    SpoolSource::Options options;
    options.spool.folder = folder;
    options.spool.max_bytes = max_bytes;
    options.tell = [this](const std::string& what) {
      const std::lock_guard lock(mutex_);
      told_.push_back(what);
    };
    Result<std::unique_ptr<SpoolSource>> source =
        SpoolSource::Start(std::move(options), Identity(epoch), queue_, [] {});
    ASSERT_TRUE(source.ok()) << source.error();
    source_ = std::move(*source);
  }
  void PutBatches(int n) {
    for (int i = 0; i < n * 10; ++i) queue_.Put(records_.Get());
    if (source_ != nullptr) source_->Wake();
  }
  // Takes n batches; they must be in order.
  void Take(int n, bool acknowledge = true) {
    NumberedBatch batch;
    while (n > 0) {
      if (!source_->Next(0, batch)) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      EXPECT_EQ(batch.sequence, ++taken_);
      if (acknowledge) source_->Acknowledged(batch.sequence);
      --n;
    }
  }
  std::vector<std::string> told() {
    const std::lock_guard lock(mutex_);
    return told_;
  }
  void WaitTold(const std::string& what) {
    for (;;) {
      for (const std::string& one : told()) {
        if (one.find(what) != std::string::npos) return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  // The keeper says so a moment after it happened.
  std::string WaitProblem(bool any) {
    for (;;) {
      const std::string problem = source_->problem();
      if (problem.empty() != any) return problem;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  const ScratchDir dir_;
  RandomRecords records_{1};
  BatchQueue queue_{4 << 20, 10, false, [] {}};
  std::unique_ptr<SpoolSource> source_;
  uint64_t taken_ = 0;
  std::mutex mutex_;
  std::vector<std::string> told_;
};

TEST_F(SourceTest, MoreThanMemoryHoldsIsReadBackInOrder) {
  Start(dir_ / "spool", 7);
  PutBatches(500);
  Take(500);
  queue_.Close();
  source_->Stop();
  EXPECT_EQ(source_->stats().records_left, 0u);
  EXPECT_GT(source_->stats().spool.batches_read, 0u);
}

TEST_F(SourceTest, SheddingIsAProblem) {
  Start(dir_ / "spool", 7, 256 << 10);
  PutBatches(1);
  Take(1);
  EXPECT_EQ(source_->problem(), "");
  // Nobody takes these.
  while (source_->stats().spool.records_shed == 0) PutBatches(10);
  EXPECT_THAT(WaitProblem(true), HasSubstr("is full and sheds its oldest records: "));
  queue_.Close();
  source_->Stop();
}

TEST_F(SourceTest, AReadOnlyFolderIsToldOnceAndUsedWhenItCanBe) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to give the folder away";
  const std::string folder = dir_ / "spool";
  mkdir(folder.c_str(), 0700);
  ASSERT_EQ(mount("keytrail", folder.c_str(), "tmpfs", MS_RDONLY, "size=1m,mode=0700"), 0)
      << "no mounts here: " << std::strerror(errno);
  Start(folder, 7);
  PutBatches(5);
  Take(5);
  ASSERT_EQ(told().size(), 1u);
  EXPECT_THAT(told()[0], HasSubstr("shipping goes on from memory"));
  EXPECT_THAT(source_->problem(), HasSubstr("Read-only"));
  ASSERT_EQ(mount("keytrail", folder.c_str(), "tmpfs", MS_REMOUNT, "size=1m,mode=0700"), 0);
  WaitTold("can be used again");
  WaitProblem(false);
  PutBatches(3);
  Take(3, false);
  queue_.Close();
  source_->Stop();
  EXPECT_EQ(source_->stats().records_left, 30u);
  EXPECT_EQ(source_->stats().disk_failures, 1u);
  source_.reset();
  umount2(folder.c_str(), MNT_DETACH);
}

TEST_F(SourceTest, AFullDiskIsToldOnceAndWrittenAgainWhenThereIsRoom) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to mount a small tmpfs";
  const std::string folder = dir_ / "spool";
  mkdir(folder.c_str(), 0700);
  if (mount("keytrail", folder.c_str(), "tmpfs", 0, "size=256k,mode=0700") != 0) {
    GTEST_SKIP() << "no mounts here: " << std::strerror(errno);
  }
  std::ofstream(folder + "/ballast") << std::string(200 << 10, 'x');
  Start(folder, 7);
  // Nobody takes anything: the disk fills, then memory.
  for (int i = 0; i < 200; ++i) PutBatches(1);
  WaitTold("No space left on device");
  EXPECT_THAT(source_->problem(), HasSubstr("No space left on device"));
  Take(50);
  std::filesystem::remove(folder + "/ballast");
  mount("keytrail", folder.c_str(), "tmpfs", MS_REMOUNT, "size=4m,mode=0700");
  WaitTold("is written again");
  EXPECT_EQ(told().size(), 2u);
  Take(100);
  queue_.Close();
  source_->Stop();
  EXPECT_EQ(source_->stats().records_left, 500u);
  EXPECT_EQ(source_->stats().records_lost, 0u);
  source_.reset();
  // The next start reads what went over the trouble, without a hole.
  {
    SpoolOptions options;
    options.folder = folder;
    const std::unique_ptr<Spool> spool = Opened(options, 8);
    NumberedBatch batch;
    for (uint64_t n = 151; n <= 200; ++n) {
      ASSERT_TRUE(spool->Read(7, 150, batch));
      ASSERT_EQ(batch.sequence, n);
    }
    EXPECT_FALSE(spool->Read(7, 150, batch));
    EXPECT_TRUE(spool->TakeLosses().empty());
  }
  umount2(folder.c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace keytrail
