// Which of a host's packets are worth decoding: live captures look at the ports of TiDB, PD and TiKV, and
// leave out what turned out to be something else.
//
// A SegmentSink before the tracker, and the one that says how the kernel's filter should be
// (FilterRefinement). Pure: time comes in with the calls. One thread. `next` and `counters` must outlive it.
//
// Two promises. What is left out is no gRPC as far as anybody could see: a connection whose protocol was
// recognised, a port where many connections were of other protocols and none of HTTP/2. And where that turns
// out to be wrong, or where gRPC is spoken on a port that nobody named, it is noticed by the packets that
// look like HTTP/2 (they always come), captured from then on, and told as a loss: what was said before is not
// known.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "agent/capture/packet_source.h"
#include "agent/packet/segment.h"
#include "common/counters.h"
#include "common/flow_key.h"
#include "common/port_range.h"

namespace keytrail {

struct FocusOptions {
  std::vector<PortRange> ports;  // empty: all
  bool filtered = false;         // all that a user's own filter lets through
  bool excludes = true;          // false: only finds ports
  std::vector<uint16_t> not_ours =
      {};  // ports whose gRPC is no part of a cluster: found nowhere but where named
};

// A connection that is known to be of another protocol, and what still came of it since the last look.
struct ForeignConnection {
  FlowKey key;
  uint16_t server_port = 0;  // 0: nobody knows which end it is
  uint64_t segments = 0;
};

// gRPC on a port that was not captured.
struct FoundPort {
  uint16_t port = 0;
  bool captured = true;        // from now on; false: a user's filter leaves it out
  int64_t missed_from_ns = 0;  // when it was left out
  int64_t found_ns = 0;
};

class Focus final : public SegmentSink {
 public:
  Focus(const FocusOptions& options, SegmentSink& next, Counters& counters, int64_t now_ns);

  void OnSegment(const Segment& segment) override {
    if (!LeftOut(segment)) return next_.OnSegment(segment);
    OnLeftOut(segment);
  }

  // A segment that a user's own filter leaves out: where gRPC is spoken is noticed, nothing else.
  void Notice(const Segment& segment);

  // The protocol of a connection is known. server_port 0: nobody knows which end it is.
  void OnHttp2(uint16_t server_port);
  void OnForeign(uint16_t server_port);

  // Now and then, with all connections of other protocols that are open. What the kernel's filter shall be
  // from now on, if it shall change. steady_ns: of a clock that nobody sets.
  std::optional<FilterRefinement> Look(int64_t steady_ns, int64_t now_ns,
                                       const std::vector<ForeignConnection>& foreign);

  // Since the last call.
  std::vector<FoundPort> TakeFound();
  // For people: what Look() has decided since the last call, one sentence each.
  std::vector<std::string> TakeWords();

 private:
  struct Port {
    uint32_t foreign = 0;  // connections
    bool http2 = false;
  };

  bool LeftOut(const Segment& s) const {
    const uint16_t a = s.source.port;
    const uint16_t b = s.destination.port;
    if (wanted_[a] || wanted_[b]) return false;
    return excluded_[a] || excluded_[b] || !(named_[a] || named_[b]);
  }
  void OnLeftOut(const Segment& segment);
  // The port at which this shows gRPC, if it does and somebody may want it.
  std::optional<uint16_t> Shows(const Segment& segment);
  void Want(uint16_t port, bool found, int64_t now_ns);
  void ChooseConnections(const std::vector<ForeignConnection>& foreign);
  void ChoosePorts(const std::vector<ForeignConnection>& foreign, int64_t now_ns);

  const FocusOptions options_;
  SegmentSink& next_;
  Counters& counters_;
  const int64_t started_ns_;

  std::bitset<65536> named_;     // by the user
  std::bitset<65536> wanted_;    // HTTP/2 was seen there
  std::bitset<65536> excluded_;  // only other protocols were
  std::bitset<65536> noticed_;   // outside of the user's filter
  std::bitset<65536> not_ours_;
  std::unordered_map<uint16_t, Port> ports_;
  std::unordered_map<uint16_t, uint8_t> suspected_;
  std::unordered_map<uint16_t, int64_t> excluded_since_ns_;
  FilterRefinement now_;
  bool changed_ = false;
  bool urgent_ = false;
  int64_t next_change_ns_ = 0;
  std::vector<FoundPort> found_;
  std::vector<std::string> words_;
};

}  // namespace keytrail
