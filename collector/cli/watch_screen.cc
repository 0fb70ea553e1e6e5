#include "collector/cli/watch_screen.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "collector/cli/agents_json.h"
#include "collector/cli/watch_view.h"
#include "common/clock.h"
#include "common/descriptor.h"

namespace keytrail {

namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
// Events may come in bursts; nobody reads faster than this.
constexpr int64_t kFrameNs = 250'000'000;
constexpr std::chrono::seconds kTryAgain{1};

// What comes, taken by a thread of its own. It asks again when a collector has gone away.
class Feed {
 public:
  Feed(const SourceOptions& options, std::unique_ptr<AnswerSource> source)
      : options_(options), wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), source_(std::move(source)) {
    model_.source = options.database.empty() ? options.collector : options.database;
    model_.Begin(WallClockNs());
    thread_ = std::thread([this] { Run(); });
  }
  ~Feed() {
    {
      const std::lock_guard lock(mutex_);
      stop_.store(true);
      if (source_ != nullptr) source_->Cancel();
      stopped_.notify_all();
    }
    thread_.join();
  }
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  int wake_fd() const { return wake_.get(); }
  void Drain() {
    uint64_t n = 0;
    (void)!read(wake_.get(), &n, sizeof n);
  }
  std::vector<ViewLine> Lines(size_t width, size_t height) const {
    const std::lock_guard lock(mutex_);
    // The collector's clock: what it last said, and what has passed since.
    return WatchLines(model_, WallClockNs() + offset_ns_, width, height);
  }
  void Count(WatchScreenEnd& end) const {
    const std::lock_guard lock(mutex_);
    end.events = events_;
    end.bytes = bytes_;
  }

 private:
  void Run() {
    for (;;) {
      Status watched = Done{};
      // Only this thread replaces it.
      if (source_ != nullptr)
        watched = source_->Watch([this](const WatchEvent& event) { return Take(event); });
      if (stop_.load()) return;
      std::unique_lock lock(mutex_);
      if (model_.away.empty()) {
        model_.away = watched.ok() ? "it has ended the answer" : watched.error();
        model_.changed_ns = WallClockNs() + offset_ns_;
      }
      source_ = nullptr;
      Wake();
      if (stopped_.wait_for(lock, kTryAgain, [this] { return stop_.load(); })) return;
      lock.unlock();
      Result<std::unique_ptr<AnswerSource>> again =
          options_.database.empty() ? ConnectToCollector(options_.collector, options_.tls, &stop_)
                                    : OpenSource(options_);
      lock.lock();
      if (!again) {
        model_.away = again.error();
        Wake();
        continue;
      }
      if (stop_.load()) return;
      source_ = std::move(*again);
      begins_ = true;
    }
  }

  bool Take(const WatchEvent& event) {
    const std::lock_guard lock(mutex_);
    offset_ns_ = event.at_ns - WallClockNs();
    // Not before it says something: what was known is shown as long as nothing new is.
    if (std::exchange(begins_, false)) model_.Begin(event.at_ns);
    model_.Take(event);
    ++events_;
    bytes_ += EventJson(event).size();
    Wake();
    return !stop_.load();
  }

  void Wake() {
    const uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof one);
  }

  const SourceOptions& options_;
  const Descriptor wake_;
  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable stopped_;
  std::atomic<bool> stop_ = false;
  std::unique_ptr<AnswerSource> source_;
  WatchModel model_;
  int64_t offset_ns_ = 0;  // the collector's clock less ours
  uint64_t events_ = 0;
  uint64_t bytes_ = 0;
  bool begins_ = true;
  std::thread thread_;
};

}  // namespace

WatchScreenEnd RunWatchScreen(std::unique_ptr<Screen> screen, const SourceOptions& options,
                              std::unique_ptr<AnswerSource> source, std::optional<int64_t> duration_ns) {
  WatchScreenEnd end;
  Feed feed(options, std::move(source));
  const int64_t began = SteadyNs();
  int64_t shown = 0;
  bool due = true;
  for (;;) {
    const int64_t now = SteadyNs();
    if (duration_ns && now - began >= *duration_ns) break;
    // Ages go on by themselves.
    due = due || now - shown >= kSecondNs;
    if (due && now - shown >= kFrameNs) {
      screen->Show(feed.Lines(screen->width(), screen->height()));
      shown = now;
      due = false;
    }
    int64_t until = shown + (due ? kFrameNs : kSecondNs);
    if (duration_ns) until = std::min(until, began + *duration_ns);
    const int64_t left_ms = std::max<int64_t>(0, (until - SteadyNs() + 999'999) / 1'000'000);
    const Screen::Woken woken = screen->Wait(static_cast<int>(left_ms), due ? -1 : feed.wake_fd());
    if (woken == Screen::Woken::kLeave) break;
    if (woken == Screen::Woken::kRedraw) shown = 0;
    if (woken == Screen::Woken::kEvent || woken == Screen::Woken::kRedraw) due = true;
    feed.Drain();
  }
  end.signal = screen->ended_by();
  screen.reset();
  feed.Count(end);
  return end;
}

}  // namespace keytrail
