// Live devices through libpcap: one ring each, read in the order of their stamps.

#include <poll.h>

#include <algorithm>
#include <atomic>

#include "agent/capture/link_watch.h"
#include "agent/capture/live_device.h"
#include "agent/capture/packet_source.h"
#include "common/clock.h"

namespace keytrail {

namespace {

constexpr int kPollMs = 100;
// With several devices packets wait for those of the others, so the kernel may keep none back for long.
constexpr int kPollSeveralMs = 20;
// A device that is silent may still have a packet that is this old: the kernel's wait, twice.
constexpr int64_t kMergeNs = 2 * int64_t{kPollSeveralMs} * 1'000'000;
// How often a silent one is asked while another one has packets.
constexpr int64_t kAskAgainNs = 1'000'000;
// A stamp further from the clock than this tells of a clock that was set: nobody waits for it.
constexpr int64_t kClockWasSetNs = 1'000'000'000;
// Without news from the kernel devices are looked at so often.
constexpr int64_t kLookNs = 1'000'000'000;

class LiveSource final : public PacketSource {
 public:
  Status Open(const LiveSourceOptions& options) {
    options_ = options;
    const int timeout_ms = options.devices.size() == 1 ? kPollMs : kPollSeveralMs;
    for (const std::string& name : options.devices) {
      Result<std::unique_ptr<LiveDevice>> opened = LiveDevice::Open(name, options, timeout_ms);
      if (!opened.ok()) return Error{opened.error()};
      Place& place = places_.emplace_back();
      place.device = std::move(*opened);
      Say(LogLevel::kDebug, place.device->Description());
      if (place.device->index() != 0 && !LookAtLink(name).up) WentDown(place, LiveDevice::State::kDown);
    }
    const Status watched = watch_.Open();
    if (!watched.ok()) {
      Say(LogLevel::kWarn, "devices that go down are seen within a second only: " + watched.error());
    }
    return Done{};
  }

  Result<Next> Read(RawPacket& packet) override {
    const int64_t patience = SteadyNs() + int64_t{kPollMs} * 1'000'000;
    for (;;) {
      if (interrupted_.load(std::memory_order_relaxed)) return Next::kEnd;
      const Result<LiveDevice*> next = Earliest();
      if (!next.ok()) return Error{next.error()};
      if (*next != nullptr) {
        packet = (*next)->front();
        (*next)->Pop();
        return Next::kPacket;
      }
      const int64_t left = patience - SteadyNs();
      if (left <= 0) return Next::kTimeout;
      Wait(std::min(left, wait_ns_));
    }
  }

  void Interrupt() override {
    interrupted_.store(true, std::memory_order_relaxed);
    for (const Place& place : places_) place.device->Stop();
  }

  void ReadDrops(Counters& counters) override {
    for (const Place& place : places_) place.device->ReadDrops(counters);
    counters.Add(Counter::kInterfaceDowns, downs_);
    downs_ = 0;
    LookAtDevices(false);
  }

  Status Refine(const FilterRefinement& refinement) override {
    Status status = Done{};
    for (const Place& place : places_) {
      const Status refined = place.device->Refine(refinement);
      if (!refined.ok()) status = Error{refined.error()};
    }
    return status;
  }

 private:
  struct Place {
    std::unique_ptr<LiveDevice> device;
    int64_t asked_ns = 0;  // when it was last found empty, by the wall clock
    int64_t down_ns = 0;   // since when it is not up
  };

  // The device whose next packet is the oldest; null: there is none, or it has to wait (wait_ns_) until no
  // silent device can have an older one. One device has nobody to wait for.
  Result<LiveDevice*> Earliest() {
    if (places_.size() == 1) {
      LiveDevice& only = *places_[0].device;
      wait_ns_ = int64_t{kPollMs} * 1'000'000;
      if (only.empty()) {
        const Status filled = only.Fill();
        if (!filled.ok()) return Error{filled.error()};
      }
      return only.empty() ? nullptr : &only;
    }
    LiveDevice* best = nullptr;
    int64_t now = 0;
    int64_t silent_until = INT64_MAX;  // no silent device has a packet of before
    for (Place& place : places_) {
      LiveDevice& device = *place.device;
      if (device.state() == LiveDevice::State::kGone && device.empty()) continue;
      if (device.empty()) {
        if (now == 0) now = WallClockNs();
        if (now - place.asked_ns >= kAskAgainNs || now < place.asked_ns) {
          const Status filled = device.Fill();
          if (!filled.ok()) return Error{filled.error()};
          if (device.empty()) place.asked_ns = now;
        }
      }
      if (device.empty()) {
        silent_until = std::min(silent_until, place.asked_ns - kMergeNs);
      } else if (best == nullptr || device.front().time < best->front().time) {
        best = &device;
      }
    }
    wait_ns_ = int64_t{kPollMs} * 1'000'000;
    if (best == nullptr || best->front().time.ns <= silent_until) return best;
    const int64_t age = now - best->front().time.ns;
    if (age > kClockWasSetNs || age < -kClockWasSetNs) return best;
    wait_ns_ = std::max<int64_t>(kMergeNs - age, kAskAgainNs);
    return nullptr;
  }

  // Until a silent device has something, a device changes, or the time is over.
  void Wait(int64_t ns) {
    waiting_.clear();
    if (watch_.fd() >= 0) waiting_.push_back({watch_.fd(), POLLIN, 0});
    for (const Place& place : places_) {
      if (place.device->empty() && place.device->fd() >= 0) {
        waiting_.push_back({place.device->fd(), POLLIN, 0});
      }
    }
    const int ms = static_cast<int>((ns + 999'999) / 1'000'000);
    poll(waiting_.data(), waiting_.size(), ms);
    LookAtDevices(watch_.fd() >= 0 && waiting_[0].revents != 0);
  }

  // Devices go down while others are read without a pause, too: so this is called with the drops as well.
  void LookAtDevices(bool news) {
    const int64_t now = SteadyNs();
    if (!news && now < next_look_ns_) return;
    next_look_ns_ = now + kLookNs;
    events_.clear();
    const bool all = watch_.fd() >= 0 && watch_.Read(events_);
    for (const LinkEvent& event : events_) {
      for (Place& place : places_) OnLink(place, event);
    }
    if (all) return;
    for (Place& place : places_) {
      if (place.device->index() != 0) OnLink(place, LookAtLink(place.device->name()));
    }
  }

  void OnLink(Place& place, const LinkEvent& event) {
    LiveDevice& device = *place.device;
    if (device.index() == 0) return;  // any: what comes and goes is no loss of it
    const bool same = event.index == device.index();
    if (same && !event.removed) {
      if (event.up) {
        CameBack(place);
      } else {
        WentDown(place, LiveDevice::State::kDown);
      }
      return;
    }
    if (same || (event.name == device.name() && event.removed)) {
      WentDown(place, LiveDevice::State::kGone);
    } else if (event.name == device.name()) {
      // Another one of that name. The removal of the first may be told later.
      WentDown(place, LiveDevice::State::kGone);
      const Status again = device.ListenAgain(event.index);
      if (!again.ok()) {
        Say(LogLevel::kWarn, "device " + device.name() + " is there again, but is not captured: " +
                                 again.error() + "; start the agent anew");
        return;
      }
      device.set_state(LiveDevice::State::kDown);
      if (event.up) CameBack(place);
    }
  }

  void WentDown(Place& place, LiveDevice::State state) {
    LiveDevice& device = *place.device;
    if (device.state() == state || device.state() == LiveDevice::State::kGone) return;
    const bool was_up = device.state() == LiveDevice::State::kUp;
    device.set_state(state);
    if (was_up) {
      ++downs_;
      place.down_ns = WallClockNs();
      // At once, so that nothing is concluded from a silence that this may explain.
      TellLoss({"interface_down", 1, place.down_ns, place.down_ns});
    }
    const bool gone = state == LiveDevice::State::kGone;
    std::string words = "device " + device.name() + (gone ? " is gone" : " is down");
    size_t others = 0;
    for (const Place& other : places_) others += other.device->state() == LiveDevice::State::kUp ? 1 : 0;
    if (others != 0) {
      words +=
          "; the capture goes on with the " + std::to_string(others) + " other" + (others == 1 ? "" : "s");
    } else {
      words += std::string("; nothing is captured until it is ") + (gone ? "made again" : "up again") +
               (gone ? " (-i any captures whatever devices there are)" : "");
    }
    Say(LogLevel::kWarn, words);
  }

  void CameBack(Place& place) {
    LiveDevice& device = *place.device;
    if (device.state() == LiveDevice::State::kUp) return;
    device.set_state(LiveDevice::State::kUp);
    const int64_t now = WallClockNs();
    TellLoss({"interface_down", 0, place.down_ns, std::max(place.down_ns, now)});
    Say(LogLevel::kInfo, "device " + device.name() + " is up again, and is captured");
  }

  void Say(LogLevel level, const std::string& words) const {
    if (options_.say) options_.say(level, words);
  }
  void TellLoss(const LossRecord& loss) const {
    if (options_.tell_loss) options_.tell_loss(loss);
  }

  LiveSourceOptions options_;
  std::vector<Place> places_;
  LinkWatch watch_;
  std::vector<LinkEvent> events_;
  std::vector<pollfd> waiting_;
  int64_t wait_ns_ = 0;
  int64_t next_look_ns_ = 0;
  uint64_t downs_ = 0;
  std::atomic<bool> interrupted_ = false;
};

}  // namespace

Result<std::unique_ptr<PacketSource>> OpenDevices(const LiveSourceOptions& options) {
  auto source = std::make_unique<LiveSource>();
  const Status opened = source->Open(options);
  if (!opened.ok()) return Error{opened.error()};
  return std::unique_ptr<PacketSource>(std::move(source));
}

}  // namespace keytrail
