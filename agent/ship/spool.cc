#include "agent/ship/spool.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace keytrail {

namespace {

bool MayRecover(int error) {
  for (const int e : {EROFS, EACCES, EPERM, ENOSPC, EDQUOT, EIO, EMFILE, ENFILE, ENOMEM, ESTALE}) {
    if (error == e) return true;
  }
  return false;
}

// All of it, or the error.
int WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return 0;
}

uint64_t DefaultSegmentBytes(uint64_t max_bytes) {
  return std::clamp<uint64_t>(max_bytes / 256, 1u << 20, 16u << 20);
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------
// Opening

Spool::~Spool() {
  CloseSegment();
  // An empty file says that the owner has ended by itself.
  if (lock_fd_ >= 0) (void)!ftruncate(lock_fd_, 0);
  if (lock_fd_ >= 0) close(lock_fd_);
  if (folder_fd_ >= 0) close(folder_fd_);
}

Result<std::unique_ptr<Spool>> Spool::Open(const SpoolOptions& options, const ShipIdentity& identity,
                                           bool& may_recover) {
  may_recover = false;
  std::unique_ptr<Spool> spool(new Spool(options));
  SpoolOptions& o = spool->options_;
  while (o.folder.size() > 1 && o.folder.back() == '/') o.folder.pop_back();
  if (o.segment_bytes == 0) o.segment_bytes = DefaultSegmentBytes(o.max_bytes);
  const Status opened = spool->OpenFolder(may_recover);
  if (!opened.ok()) return Error{opened.error()};
  const Status locked = spool->Lock(may_recover);
  if (!locked.ok()) return Error{locked.error()};
  const Status found = spool->FindSegments();
  if (!found.ok()) {
    may_recover = true;
    return Error{found.error()};
  }
  auto current = std::make_unique<Epoch>();
  current->start = spool->epochs_.empty() ? 1 : spool->epochs_.back()->start + 1;
  current->identity = identity;
  for (const std::unique_ptr<Epoch>& epoch : spool->epochs_) {
    const Redaction& before = epoch->identity.redaction;
    if (!o.one_redaction || before.mode == Redaction::Mode::kUnknown || before == identity.redaction)
      continue;
    return Error{"spool '" + o.folder + "' has records of an agent with --redact " + RedactionText(before) +
                 ", this one has --redact " + RedactionText(identity.redaction) +
                 ": a collector cannot compare them; ship them first with --drain, or give another folder"};
  }
  for (const std::unique_ptr<Epoch>& epoch : spool->epochs_) {
    // Only if all headers of that start are unreadable.
    if (!epoch->identity.agent_key.empty()) continue;
    const uint64_t number = epoch->identity.epoch;
    epoch->identity = identity;
    epoch->identity.epoch = number;
    epoch->identity.redaction = {};
  }
  spool->epochs_.push_back(std::move(current));
  return spool;
}

Status Spool::OpenFolder(bool& may_recover) {
  const auto failed = [&](const std::string& what) {
    may_recover = MayRecover(errno);
    return Error{"spool '" + options_.folder + "': " + what + std::strerror(errno)};
  };
  if (mkdir(options_.folder.c_str(), 0700) != 0 && errno != EEXIST) {
    // A folder that is there may stand on a disk that is read-only.
    const int error = errno;
    if (access(options_.folder.c_str(), F_OK) != 0) {
      errno = error;
      return failed("cannot make it: ");
    }
  }
  folder_fd_ = open(options_.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_fd_ < 0) return failed("");
  struct stat about {};
  if (fstat(folder_fd_, &about) != 0) return failed("");
  if (about.st_uid != geteuid()) {
    return Error{"spool '" + options_.folder + "' belongs to another user (uid " +
                 std::to_string(about.st_uid) + "); give a folder of the user that runs the agent"};
  }
  if ((about.st_mode & 077) != 0) {
    return Error{"spool '" + options_.folder +
                 "' is open to other users; chmod 700 it, or give a new folder"};
  }
  return Done{};
}

Status Spool::Lock(bool& may_recover) {
  const std::string path = Path(kSpoolLockName);
  lock_fd_ = openat(folder_fd_, kSpoolLockName, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock_fd_ < 0) {
    may_recover = MayRecover(errno);
    return Error{"'" + path + "': " + std::strerror(errno)};
  }
  std::array<char, 32> text{};
  const ssize_t size = pread(lock_fd_, text.data(), text.size() - 1, 0);
  std::string owner(text.data(), size > 0 ? static_cast<size_t>(size) : 0);
  while (!owner.empty() && owner.back() == '\n') owner.pop_back();
  if (owner.find_first_not_of("0123456789") != std::string::npos) owner.clear();
  if (flock(lock_fd_, LOCK_EX | LOCK_NB) != 0) {
    const bool held = errno == EWOULDBLOCK;
    may_recover = !held;
    const std::string why = held ? "is used by another agent" +
                                       (owner.empty() ? "" : " (process " + owner + ")") +
                                       "; give each agent a spool of its own"
                                 : std::string("cannot be locked: ") + std::strerror(errno);
    close(lock_fd_);
    lock_fd_ = -1;  // it is not ours to empty
    return Error{"spool '" + options_.folder + "' " + why};
  }
  // The lock ended with its owner, whatever the file says.
  if (!owner.empty()) Notice("process " + owner + ", which used it before, did not end by itself");
  const std::string pid = std::to_string(getpid()) + "\n";
  // Without it only the words for others are poorer.
  if (ftruncate(lock_fd_, 0) == 0) (void)!pwrite(lock_fd_, pid.data(), pid.size(), 0);
  return Done{};
}

Status Spool::FindSegments() {
  const int fd = openat(folder_fd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* folder = fd < 0 ? nullptr : fdopendir(fd);
  if (folder == nullptr) {
    const Error error{"spool '" + options_.folder + "': " + std::strerror(errno)};
    if (fd >= 0) close(fd);
    return error;
  }
  std::vector<std::string> names;
  while (const dirent* entry = readdir(folder)) {
    uint64_t start = 0;
    uint64_t epoch = 0;
    uint64_t sequence = 0;
    if (ParseSpoolSegmentName(entry->d_name, start, epoch, sequence)) names.emplace_back(entry->d_name);
  }
  closedir(folder);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) AddFile(name);
  for (const std::unique_ptr<Epoch>& epoch : epochs_) SettleSegments(*epoch);
  std::erase_if(epochs_, [](const auto& epoch) { return epoch->segments.empty() && !epoch->torn; });
  return Done{};
}

Result<std::string> Spool::Load(const Segment& segment, uint64_t from) const {
  const auto failed = [&](int error) {
    return Error{"'" + Path(segment.name) + "': " + std::strerror(error)};
  };
  const int fd = openat(folder_fd_, segment.name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return failed(errno);
  std::string data(segment.bytes > from ? segment.bytes - from : 0, '\0');
  size_t got = 0;
  int error = 0;
  while (got < data.size()) {
    const ssize_t n = pread(fd, data.data() + got, data.size() - got, static_cast<off_t>(from + got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) error = errno;
    if (n <= 0) break;
    got += static_cast<size_t>(n);
  }
  close(fd);
  if (error != 0) return failed(error);
  data.resize(got);
  return data;
}

void Spool::AddFile(const std::string& name) {
  uint64_t start = 0;
  uint64_t number = 0;
  Segment segment;
  segment.name = name;
  ParseSpoolSegmentName(name, start, number, segment.first_sequence);
  struct stat about {};
  if (fstatat(folder_fd_, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(about.st_mode)) return;
  // Nothing that this program writes is longer: the rest would be garbage.
  segment.bytes = std::min<uint64_t>(static_cast<uint64_t>(about.st_size),
                                     options_.segment_bytes + 2 * limits::kMaxWireMessageBytes);
  Segment beginning = segment;
  beginning.bytes = std::min<uint64_t>(segment.bytes, kMaxSpoolHeaderBytes);
  const Result<std::string> bytes = Load(beginning, 0);
  if (!bytes) return Notice(bytes.error() + "; left as it is");
  bool newer = false;
  const Result<SpoolHeader> header = ParseSpoolHeader(AsBytes(*bytes), newer);
  const bool usable = header.ok() && header->identity.epoch == number && header->start == start;
  if (newer) return Notice("'" + name + "' is of " + header.error() + "; left as it is");
  if (epochs_.empty() || epochs_.back()->start != start || epochs_.back()->identity.epoch != number) {
    epochs_.push_back(std::make_unique<Epoch>());
    epochs_.back()->start = start;
    epochs_.back()->identity.epoch = number;
  }
  Epoch& epoch = *epochs_.back();
  if (usable) {
    segment.header_bytes = header->bytes;
    segment.records_before = header->records_before;
    epoch.identity = header->identity;
  } else {
    // The entries may be good: the epoch of the name is enough to read them.
    const Result<std::string> all = Load(segment, 0);
    SpoolEntry first;
    SpoolScanner scanner(number, all ? AsBytes(*all) : Bytes());
    if (!all || scanner.Next(first) == SpoolScanner::Found::kEnd) {
      // A segment that was begun, with nothing in it yet.
      unlinkat(folder_fd_, name.c_str(), 0);
      if (segment.bytes > kMaxSpoolHeaderBytes) {
        Notice("'" + name + "' cannot be read at all: deleted");
        Damaged({"spool_damaged", 1, 0, 0});
      }
      return;
    }
    segment.records_before = first.records_before;
    Notice("'" + name + "' has a damaged header; its batches are used");
  }
  bytes_ += segment.bytes;
  ++segments_;
  epoch.segments.push_back(segment);
}

// What the next segment's header says about the one before; the last one is read.
void Spool::SettleSegments(Epoch& epoch) {
  for (size_t i = 0; i + 1 < epoch.segments.size(); ++i) {
    Segment& segment = epoch.segments[i];
    const Segment& next = epoch.segments[i + 1];
    segment.last_sequence = next.first_sequence - 1;
    segment.records = std::max(next.records_before, segment.records_before) - segment.records_before;
  }
  if (!epoch.segments.empty()) RepairTail(epoch, epoch.segments.back());
}

void Spool::RepairTail(Epoch& epoch, Segment& segment) {
  const Result<std::string> data = Load(segment, segment.header_bytes);
  if (!data) return Notice(data.error());
  SpoolScanner scanner(epoch.identity.epoch, AsBytes(*data));
  SpoolEntry entry;
  segment.last_sequence = segment.first_sequence - 1;
  uint64_t records_end = segment.records_before;
  for (SpoolScanner::Found found; (found = scanner.Next(entry)) != SpoolScanner::Found::kEnd;) {
    segment.last_sequence = std::max(segment.last_sequence, entry.sequence);
    records_end = std::max(records_end, entry.records_before + entry.records);
  }
  segment.records = records_end - segment.records_before;
  if (scanner.torn()) {
    ++stats_.torn_tails;
    const uint64_t cut = data->size() - scanner.offset();
    LossRecord torn{"spool_torn", 1, 0, 0};
    epoch.torn_sequence = segment.last_sequence + 1;
    if (const std::optional<SpoolEntry>& begun = scanner.torn_entry()) {
      torn = {"spool_torn", begun->records, begun->first_ns, begun->last_ns};
      epoch.torn_sequence = begun->sequence;
    }
    epoch.torn = torn;
    bytes_ -= cut;
    segment.bytes -= cut;
    Notice("'" + segment.name + "' ends in the middle of a batch: cut off after " +
           std::to_string(segment.bytes) + " bytes");
    const int fd = openat(folder_fd_, segment.name.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    // Not if the disk is read-only; then it is passed over.
    if (fd >= 0) {
      (void)!ftruncate(fd, static_cast<off_t>(segment.bytes));
      close(fd);
    }
  }
  if (segment.records == 0 && segment.last_sequence < segment.first_sequence) {
    unlinkat(folder_fd_, segment.name.c_str(), 0);
    bytes_ -= segment.bytes;
    --segments_;
    epoch.segments.pop_back();
  }
}

// ---------------------------------------------------------------------------------------------------------
// Writing

Spool::Epoch* Spool::Find(uint64_t epoch) {
  for (const auto& e : epochs_) {
    if (e->identity.epoch == epoch) return e.get();
  }
  return nullptr;
}

const Spool::Epoch* Spool::Find(uint64_t epoch) const {
  return const_cast<Spool*>(this)->Find(epoch);
}

std::vector<ShipIdentity> Spool::OldEpochs() const {
  std::vector<ShipIdentity> all;
  for (size_t i = 0; i + 1 < epochs_.size(); ++i) all.push_back(epochs_[i]->identity);
  return all;
}

void Spool::CloseSegment() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

Status Spool::OpenSegment(uint64_t sequence) {
  Epoch& epoch = current();
  SpoolHeader header;
  header.start = epoch.start;
  header.identity = epoch.identity;
  header.first_sequence = sequence;
  header.records_before = records_written_;
  const std::string bytes = EncodeSpoolHeader(header);
  Segment segment;
  segment.name = SpoolSegmentName(epoch.start, epoch.identity.epoch, sequence);
  segment.first_sequence = sequence;
  segment.last_sequence = sequence - 1;
  segment.records_before = records_written_;
  segment.bytes = segment.header_bytes = bytes.size();
  fd_ = openat(folder_fd_, segment.name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  const int error = fd_ < 0 ? errno : WriteAll(fd_, bytes);
  if (error != 0) {
    if (fd_ >= 0) unlinkat(folder_fd_, segment.name.c_str(), 0);
    CloseSegment();
    return Error{"'" + Path(segment.name) + "': " + std::strerror(error)};
  }
  bytes_ += segment.bytes;
  ++segments_;
  new_name_ = true;
  epoch.segments.push_back(segment);
  return Done{};
}

Status Spool::Append(const NumberedBatch& batch, bool given) {
  Epoch& epoch = current();
  if (fd_ >= 0 && epoch.segments.back().bytes >= options_.segment_bytes) {
    // Its data must not wait for the next interval behind a closed descriptor.
    const bool synced = fdatasync(fd_) == 0;
    const int error = errno;
    CloseSegment();
    if (!synced) return Error{"'" + Path(epoch.segments.back().name) + "': " + std::strerror(error)};
  }
  std::string framed;
  framed.reserve(kSpoolEntryHeaderBytes + batch.message.size());
  AppendSpoolEntry(epoch.identity.epoch,
                   {batch.sequence, records_written_, batch.records, batch.first_ns, batch.last_ns,
                    AsBytes(batch.message)},
                   framed);
  const Status room = MakeRoom(framed.size() + kMaxSpoolHeaderBytes);
  if (!room.ok()) return room;
  if (fd_ < 0) {
    const Status opened = OpenSegment(batch.sequence);
    if (!opened.ok()) return opened;
  }
  Segment& segment = epoch.segments.back();
  const int error = WriteAll(fd_, framed);
  if (error != 0) {
    const std::string path = Path(segment.name);
    // Half an entry is passed over when it is read, if it cannot be taken back.
    const bool back = ftruncate(fd_, static_cast<off_t>(segment.bytes)) == 0;
    CloseSegment();
    if (back && segment.records == 0 && segment.last_sequence < segment.first_sequence) {
      unlinkat(folder_fd_, segment.name.c_str(), 0);
      bytes_ -= segment.bytes;
      --segments_;
      epoch.segments.pop_back();
      if (epoch.read_segment > epoch.segments.size()) epoch.read_segment = epoch.segments.size();
      if (epoch.read_segment == epoch.segments.size()) {
        epoch.read_offset = 0;
        epoch.loaded.reset();
      }
    }
    return Error{"'" + path + "': " + std::strerror(error)};
  }
  segment.bytes += framed.size();
  segment.last_sequence = batch.sequence;
  segment.records += batch.records;
  bytes_ += framed.size();
  records_written_ += batch.records;
  unsynced_ = true;
  ++stats_.batches_written;
  if (given) {
    epoch.read_segment = epoch.segments.size() - 1;
    epoch.read_offset = segment.bytes;
    epoch.read_sequence = batch.sequence;
    epoch.read_records = records_written_;
    epoch.read_any = true;
    epoch.loaded.reset();
  }
  return Done{};
}

Status Spool::Sync(int64_t now_ns, bool now) {
  if (!unsynced_ && !new_name_) return Done{};
  if (!now && now_ns - synced_ns_ < options_.sync_interval_ns) return Done{};
  synced_ns_ = now_ns;
  const bool synced = (fd_ < 0 || fdatasync(fd_) == 0) && (!new_name_ || fsync(folder_fd_) == 0);
  unsynced_ = new_name_ = false;
  if (synced) return Done{};
  const Error error{"spool '" + options_.folder + "': cannot be synced: " + std::strerror(errno)};
  CloseSegment();
  return error;
}

Status Spool::MakeRoom(uint64_t bytes) {
  while (bytes_ + bytes > options_.max_bytes || segments_ >= limits::kMaxSpoolSegments) {
    if (!options_.shed_when_full) {
      return Error{"spool '" + options_.folder + "' is full (" + std::to_string(bytes_) + " bytes)"};
    }
    const auto oldest =
        std::find_if(epochs_.begin(), epochs_.end(), [](const auto& e) { return !e->segments.empty(); });
    if (oldest == epochs_.end()) {
      return Error{"spool '" + options_.folder + "': a batch of " + std::to_string(bytes) +
                   " bytes is too large"};
    }
    ShedOldest(**oldest);
  }
  return Done{};
}

void Spool::ShedOldest(Epoch& epoch) {
  const Segment& segment = epoch.segments.front();
  if (&epoch == &current() && epoch.segments.size() == 1) CloseSegment();
  // What the reader has is in memory, and what is acknowledged is not lost.
  if (epoch.read_segment == 0) {
    const uint64_t from = std::max(epoch.acknowledged, epoch.read_sequence);
    LossRecord shed{"shed", 0, 0, 0};
    const Result<std::string> data = Load(segment, segment.header_bytes);
    SpoolScanner scanner(epoch.identity.epoch, data ? AsBytes(*data) : Bytes());
    SpoolEntry entry;
    while (scanner.Next(entry) != SpoolScanner::Found::kEnd) {
      if (entry.sequence <= from) continue;
      shed.count += entry.records;
      if (entry.first_ns != 0 && (shed.first_ns == 0 || entry.first_ns < shed.first_ns)) {
        shed.first_ns = entry.first_ns;
      }
      shed.last_ns = std::max(shed.last_ns, entry.last_ns);
    }
    if (!data) shed.count = segment.records;
    if (shed.count != 0) {
      if (stats_.records_shed == 0) {
        Notice("is full (" + std::to_string(options_.max_bytes) +
               " bytes), and the collector does not take enough: the oldest records go");
      }
      losses_.push_back(shed);
      stats_.records_shed += shed.count;
      stats_.records_lost += shed.count;
    }
    NextSegment(epoch);
  }
  DeleteFront(epoch);
}

void Spool::DeleteFront(Epoch& epoch) {
  const Segment& segment = epoch.segments.front();
  unlinkat(folder_fd_, segment.name.c_str(), 0);
  bytes_ -= segment.bytes;
  --segments_;
  epoch.segments.pop_front();
  if (epoch.read_segment > 0) {
    --epoch.read_segment;
  } else {
    epoch.read_offset = 0;
    epoch.loaded.reset();
  }
}

// ---------------------------------------------------------------------------------------------------------
// Reading

void Spool::Damaged(const LossRecord& loss) {
  if (loss.count == 0) return;
  ++stats_.damaged_batches;
  stats_.records_lost += loss.count;
  losses_.push_back(loss);
  if (stats_.damaged_batches == 1) Notice("a batch is damaged on disk: passed over");
}

// Leaves the segment that is read.
void Spool::NextSegment(Epoch& epoch) {
  const Segment& segment = epoch.segments[epoch.read_segment];
  epoch.read_records = std::max(epoch.read_records, segment.records_before + segment.records);
  epoch.read_any = true;
  ++epoch.read_segment;
  epoch.read_offset = 0;
  epoch.loaded.reset();
}

bool Spool::HasUnread(uint64_t number) const {
  const Epoch* epoch = Find(number);
  if (epoch == nullptr || epoch->read_segment >= epoch->segments.size()) return false;
  return epoch->read_segment + 1 < epoch->segments.size() ||
         epoch->read_offset < epoch->segments[epoch->read_segment].bytes;
}

bool Spool::Read(uint64_t number, uint64_t after, NumberedBatch& batch) {
  Epoch* epoch = Find(number);
  if (epoch == nullptr) return false;
  Epoch& e = *epoch;
  while (e.read_segment < e.segments.size()) {
    const Segment& segment = e.segments[e.read_segment];
    const bool last = e.read_segment + 1 == e.segments.size();
    if (e.read_offset == 0) {
      // Begun. What the one before lacks was damaged at its end.
      const uint64_t before = e.read_any ? e.read_records : segment.records_before;
      if (segment.records_before > before && segment.first_sequence > after + 1) {
        Damaged({"spool_damaged", segment.records_before - before, 0, 0});
      }
      e.read_records = segment.records_before;
      e.read_offset = segment.header_bytes;
      e.read_any = true;
      e.loaded.reset();
    }
    if (segment.last_sequence <= after && !last) {
      NextSegment(e);
      continue;
    }
    if (e.loaded == nullptr) {
      if (e.read_offset >= segment.bytes && last) return false;
      Result<std::string> data = Load(segment, e.read_offset);
      if (!data) {
        Notice(data.error());
        Damaged({"spool_damaged", segment.records_before + segment.records - e.read_records, 0, 0});
        if (last && fd_ >= 0 && epoch == &current()) CloseSegment();
        NextSegment(e);
        continue;
      }
      e.loaded = std::make_unique<Loaded>(number, std::move(*data));
    }
    SpoolEntry entry;
    const uint64_t base = e.loaded->scanner.offset();
    const SpoolScanner::Found found = e.loaded->scanner.Next(entry);
    e.read_offset += e.loaded->scanner.offset() - base;
    if (found == SpoolScanner::Found::kEnd) {
      const std::optional<SpoolEntry> torn = e.loaded->scanner.torn_entry();
      const bool written_since = !e.loaded->scanner.torn() && !e.loaded->data.empty();
      e.loaded.reset();
      if (written_since && e.read_offset < segment.bytes) continue;
      if (last && epoch == &current()) {
        // More may come, but not into what was torn by a failure.
        if (e.read_offset < segment.bytes) {
          Damaged({"spool_damaged", segment.records_before + segment.records - e.read_records, 0, 0});
          CloseSegment();
          NextSegment(e);
        }
        return false;
      }
      // Unless it was written again after a failure, as the next segment says.
      const uint64_t torn_end = torn ? torn->records_before + torn->records : 0;
      if (torn && torn->sequence > after && !last &&
          torn_end <= e.segments[e.read_segment + 1].records_before) {
        Damaged({"spool_damaged", torn->records, torn->first_ns, torn->last_ns});
        e.read_records = torn_end;
      }
      // Not NextSegment(): what is missing at the end shall be noticed.
      ++e.read_segment;
      e.read_offset = 0;
      continue;
    }
    // Damage that left no header to read.
    if (entry.records_before > e.read_records && entry.sequence > after) {
      Damaged({"spool_damaged", entry.records_before - e.read_records, 0, 0});
    }
    e.read_records = entry.records_before + entry.records;
    const bool repeated = entry.sequence <= e.read_sequence;
    e.read_sequence = std::max(e.read_sequence, entry.sequence);
    if (entry.sequence <= after || repeated) continue;
    if (found == SpoolScanner::Found::kDamaged) {
      Damaged({"spool_damaged", entry.records, entry.first_ns, entry.last_ns});
      continue;
    }
    batch.sequence = entry.sequence;
    batch.records = entry.records;
    batch.first_ns = entry.first_ns;
    batch.last_ns = entry.last_ns;
    batch.payload_bytes = 0;
    batch.message = ToString(entry.message);
    ++stats_.batches_read;
    return true;
  }
  return false;
}

void Spool::Acknowledge(uint64_t number, uint64_t sequence) {
  Epoch* epoch = Find(number);
  if (epoch == nullptr) return;
  epoch->acknowledged = std::max(epoch->acknowledged, sequence);
  const bool is_current = epoch == &current();
  while (!epoch->segments.empty() && epoch->segments.front().last_sequence <= epoch->acknowledged) {
    // The one that is written stays; the last one of an old start as well, for what is torn behind it.
    if (epoch->segments.size() == 1 && (!is_current || fd_ >= 0)) break;
    if (epoch->read_segment == 0) NextSegment(*epoch);
    DeleteFront(*epoch);
  }
}

void Spool::Complete(uint64_t number) {
  Epoch* epoch = Find(number);
  if (epoch == nullptr) return;
  if (epoch->torn && epoch->torn_sequence > epoch->acknowledged) {
    stats_.records_lost += epoch->torn->count;
    losses_.push_back(*epoch->torn);
  }
  epoch->torn.reset();
  if (epoch == &current()) CloseSegment();
  while (!epoch->segments.empty()) {
    if (epoch->read_segment == 0) NextSegment(*epoch);
    DeleteFront(*epoch);
  }
  if (epoch != &current()) {
    std::erase_if(epochs_, [&](const auto& e) { return e.get() == epoch; });
  }
}

uint64_t Spool::RecordsLeft() {
  uint64_t left = 0;
  for (const std::unique_ptr<Epoch>& epoch : epochs_) {
    for (const Segment& segment : epoch->segments) {
      if (segment.last_sequence <= epoch->acknowledged) continue;
      if (segment.first_sequence > epoch->acknowledged) {
        left += segment.records;
        continue;
      }
      const Result<std::string> data = Load(segment, segment.header_bytes);
      SpoolScanner scanner(epoch->identity.epoch, data ? AsBytes(*data) : Bytes());
      SpoolEntry entry;
      for (SpoolScanner::Found found; (found = scanner.Next(entry)) != SpoolScanner::Found::kEnd;) {
        if (found == SpoolScanner::Found::kEntry && entry.sequence > epoch->acknowledged)
          left += entry.records;
      }
    }
  }
  return left;
}

std::vector<LossRecord> Spool::TakeLosses() {
  return std::exchange(losses_, {});
}

std::vector<std::string> Spool::TakeNotices() {
  return std::exchange(notices_, {});
}

SpoolStats Spool::stats() const {
  SpoolStats stats = stats_;
  stats.bytes = bytes_;
  stats.segments = segments_;
  return stats;
}

}  // namespace keytrail
