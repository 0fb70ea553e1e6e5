// A live device through libpcap.

#include <pcap/pcap.h>
#include <poll.h>

#include <atomic>
#include <cstring>

#include "agent/capture/filter.h"
#include "agent/capture/packet_source.h"
#include "common/limits.h"

namespace keytrail {

namespace {

constexpr int kPollMs = 100;

class LiveSource final : public PacketSource {
 public:
  ~LiveSource() override {
    if (pcap_ != nullptr) pcap_close(pcap_);
  }

  Status Open(const LiveSourceOptions& options) {
    device_ = options.device;
    char problem[PCAP_ERRBUF_SIZE] = {};
    pcap_ = pcap_create(device_.c_str(), problem);
    if (pcap_ == nullptr) return Error{"device " + device_ + ": " + problem};
    pcap_set_snaplen(pcap_, limits::kSnapLen);
    pcap_set_promisc(pcap_, 0);
    pcap_set_timeout(pcap_, kPollMs);
    pcap_set_buffer_size(pcap_, options.buffer_bytes);
    // Not every device has nanoseconds; ask, and look at what it is.
    pcap_set_tstamp_precision(pcap_, PCAP_TSTAMP_PRECISION_NANO);
    const int activated = pcap_activate(pcap_);
    if (activated < 0) return Error{"device " + device_ + ": " + ActivationProblem(activated)};
    nanoseconds_ = pcap_get_tstamp_precision(pcap_) == PCAP_TSTAMP_PRECISION_NANO;
    link_type_ = pcap_datalink(pcap_);
    // With a memory-mapped ring libpcap waits without end for the first packet, whatever its timeout says. So
    // it never waits; Read() does.
    if (pcap_setnonblock(pcap_, 1, problem) != 0) return Error{"device " + device_ + ": " + problem};
    waiting_.fd = pcap_get_selectable_fd(pcap_);
    waiting_.events = POLLIN;
    return SetFilter(pcap_, options.filter);
  }

  Result<Next> Read(RawPacket& packet) override {
    if (interrupted_.load(std::memory_order_relaxed)) return Next::kEnd;
    pcap_pkthdr* header = nullptr;
    const u_char* bytes = nullptr;
    int got = pcap_next_ex(pcap_, &header, &bytes);
    if (got == 0) {
      poll(&waiting_, waiting_.fd >= 0 ? 1 : 0, kPollMs);
      if (interrupted_.load(std::memory_order_relaxed)) return Next::kEnd;
      got = pcap_next_ex(pcap_, &header, &bytes);
    }
    if (got == 0) return Next::kTimeout;
    if (got == PCAP_ERROR_BREAK) return Next::kEnd;
    if (got != 1) return Error{"device " + device_ + ": " + pcap_geterr(pcap_)};
    packet.time =
        TimeNs{int64_t{header->ts.tv_sec} * 1'000'000'000 + header->ts.tv_usec * (nanoseconds_ ? 1 : 1000)};
    packet.bytes = Bytes(bytes, header->caplen);
    packet.wire_length = header->len;
    packet.link_type = link_type_;
    return Next::kPacket;
  }

  void Interrupt() override {
    interrupted_.store(true, std::memory_order_relaxed);
    pcap_breakloop(pcap_);
  }

  void ReadDrops(Counters& counters) override {
    pcap_stat now{};
    if (pcap_stats(pcap_, &now) != 0) return;
    // The kernel's numbers are 32 bits wide and only grow: unsigned differences survive a wrap.
    counters.Add(Counter::kKernelDrops, now.ps_drop - told_.ps_drop);
    counters.Add(Counter::kInterfaceDrops, now.ps_ifdrop - told_.ps_ifdrop);
    told_ = now;
  }

 private:
  std::string ActivationProblem(int status) {
    const char* detail = pcap_geterr(pcap_);
    std::string reason = detail != nullptr && *detail != 0 ? detail : pcap_statustostr(status);
    if (status == PCAP_ERROR_PERM_DENIED) reason += "; capture needs root or CAP_NET_RAW";
    return reason;
  }

  std::string device_;
  pcap_t* pcap_ = nullptr;
  int link_type_ = 0;
  bool nanoseconds_ = false;
  pollfd waiting_{-1, 0, 0};
  pcap_stat told_{};
  std::atomic<bool> interrupted_ = false;
};

}  // namespace

Result<std::unique_ptr<PacketSource>> OpenDevice(const LiveSourceOptions& options) {
  auto source = std::make_unique<LiveSource>();
  const Status opened = source->Open(options);
  if (!opened.ok()) return Error{opened.error()};
  return std::unique_ptr<PacketSource>(std::move(source));
}

}  // namespace keytrail
