// One device: its ring of packets in the kernel, its state, and what it lost.
//
// Inside this room only; one thread, but for Stop(). Packets are taken out of the ring a batch at a time and
// copied: libpcap gives a block back to the kernel together with its last packet, and in a full ring that is
// the block which the kernel is waiting to fill.
#pragma once

#include <pcap/pcap.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/capture/kernel_filter.h"
#include "agent/capture/link_watch.h"
#include "agent/capture/packet_source.h"
#include "common/counters.h"
#include "common/result.h"

namespace keytrail {

class LiveDevice {
 public:
  enum class State : uint8_t { kUp, kDown, kGone };

  // timeout_ms: how long the kernel may keep packets back to hand over many at once.
  static Result<std::unique_ptr<LiveDevice>> Open(const std::string& name, const LiveSourceOptions& options,
                                                  int timeout_ms);
  ~LiveDevice();
  LiveDevice(const LiveDevice&) = delete;
  LiveDevice& operator=(const LiveDevice&) = delete;

  const std::string& name() const { return name_; }
  // What libpcap and the kernel gave, for people.
  std::string Description() const;

  // The oldest packet that was taken and not popped.
  bool empty() const { return at_ == packets_.size(); }
  const RawPacket& front() const { return packets_[at_]; }
  void Pop() { ++at_; }
  // Takes the next batch, when the last one is empty: there may be none. The bytes of the last one are gone
  // then. Error: the device cannot be read any more, though it is there.
  Status Fill();
  // Fill() gives up. Any thread, signal handlers too.
  void Stop() { pcap_breakloop(pcap_); }

  // To be polled for reading; -1 while the device is gone.
  int fd() const { return state_ == State::kGone ? -1 : fd_; }

  State state() const { return state_; }
  int index() const { return index_; }
  void set_state(State state) { state_ = state; }
  // The socket is still there: it listens at the device that has this number now. Needs no rights. Error: it
  // cannot, and why.
  Status ListenAgain(int index);

  void ReadDrops(Counters& counters);
  Status Refine(const FilterRefinement& refinement);

 private:
  explicit LiveDevice(std::string name) : name_(std::move(name)) {}
  Status Activate(const LiveSourceOptions& options, int timeout_ms);
  Status SetBaseFilter(const LiveSourceOptions& options);
  void Learn();
  void LeaveOutWhatLoopbackSends();
  bool OutsideFilter(const pcap_pkthdr& header, const u_char* bytes);
  static void OnPacket(u_char* self, const pcap_pkthdr* header, const u_char* bytes);

  const std::string name_;
  pcap_t* pcap_ = nullptr;
  int fd_ = -1;
  int link_type_ = 0;
  bool nanoseconds_ = false;
  bool promiscuous_ = false;
  State state_ = State::kUp;
  int index_ = 0;                  // 0: any
  uint16_t hardware_ = 0;          // ARPHRD_*
  int ring_version_ = -1;          // TPACKET_V*, -1: not known
  uint64_t ring_bytes_ = 0;        // 0: not known
  std::vector<sock_filter> base_;  // as libpcap gave it to the kernel
  bool user_filter_ = false;
  std::optional<bpf_program> own_;  // a user's filter, to be run here
  std::string not_refined_;         // why the kernel's filter cannot be changed; empty: it can
  pcap_stat told_{};

  std::vector<RawPacket> packets_;
  std::vector<size_t> places_;  // of their bytes
  std::vector<uint8_t> bytes_;
  std::vector<uint8_t> untagged_;
  size_t at_ = 0;
};

}  // namespace keytrail
