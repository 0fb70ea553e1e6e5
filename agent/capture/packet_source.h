// Raw packets out of a live device or a capture file. This room is the only includer of pcap.h.
//
// A PacketSource is used by one thread; Interrupt() alone may be called from another thread or a signal
// handler. The bytes of a RawPacket live until the next call of Next().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/counters.h"
#include "common/flow_key.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/port_range.h"
#include "common/record_codec.h"
#include "common/result.h"
#include "common/time.h"

namespace keytrail {

struct RawPacket {
  TimeNs time;
  Bytes bytes;               // captured bytes
  uint32_t wire_length = 0;  // bytes on the wire; more than bytes.size() if the snapshot length cut it
  int link_type = 0;         // DLT_* of libpcap (pcap-linktype(7)), host independent
  // The filter leaves it out: it came because it looks like HTTP/2 (FilterRefinement::find_http2), to be
  // noticed.
  bool outside_filter = false;
};

// What the kernel shall capture besides and less than it was told at the start. Made anew each time: the last
// one holds.
struct FilterRefinement {
  // gRPC was seen here: never left out.
  std::vector<uint16_t> wanted_ports;
  // Packets of these ports come only if they look like the beginning of HTTP/2, or like a frame of it.
  std::vector<uint16_t> excluded_ports;
  // Of these connections nothing comes but SYN, FIN and RST.
  std::vector<FlowKey> excluded;
  // Packets that look like HTTP/2 come whatever the filter says.
  bool find_http2 = false;
  // So do those of the wanted ports: the filter is one of ports.
  bool pass_wanted = false;

  friend bool operator==(const FilterRefinement&, const FilterRefinement&) = default;
};

class PacketSource {
 public:
  virtual ~PacketSource() = default;

  enum class Next { kPacket, kTimeout, kEnd };
  // kTimeout: a live device had nothing for its poll interval (about 100 ms), call again. kEnd: the file
  // has ended or Interrupt() was called. An Error names the path and the offset; packets before it were
  // delivered.
  virtual Result<Next> Read(RawPacket& packet) = 0;

  // Makes Read() return kEnd soon. Async-signal-safe.
  virtual void Interrupt() = 0;

  // Adds what was lost since the last call: kernel and interface drops of live devices and how often they
  // went down, interfaces of a file that were too many.
  virtual void ReadDrops(Counters& counters) = 0;

  // Live devices only; a file does nothing. No packet is lost meanwhile. Error: it stays as it was, and why.
  virtual Status Refine(const FilterRefinement&) { return Done{}; }
};

struct FileSourceOptions {
  std::string path;    // pcap, pcapng, either zstd-compressed; "-" is standard input
  std::string filter;  // BPF text, empty for all
};
Result<std::unique_ptr<PacketSource>> OpenFile(const FileSourceOptions& options);

struct LiveSourceOptions {
  std::vector<std::string> devices;            // or "any" alone
  std::string filter;                          // BPF text, empty for all
  std::vector<PortRange> ports;                // not empty: these, instead of a filter
  int ring_bytes = limits::kDefaultRingBytes;  // of each device
  bool promiscuous = false;
  // What a person should know: what was opened (debug), devices that go down and come back. On the thread of
  // Read() and ReadDrops(); may be null, like the next one.
  std::function<void(LogLevel, const std::string&)> say;
  // "interface_down": with a count of one when a device goes down or is removed; with none, and from when to
  // when, once it is back.
  std::function<void(const LossRecord&)> tell_loss;
};
// A packet of several devices comes in the order of their stamps, unless the kernel hands one over more than
// 40 ms late. A device that goes down is waited for; one that is removed and made again is captured again.
Result<std::unique_ptr<PacketSource>> OpenDevices(const LiveSourceOptions& options);

// Writes packets to a pcap file with nanosecond stamps (`-w`). The link type is that of the first packet;
// packets of another one are refused with an Error (a pcap file has one link type).
class PacketWriter {
 public:
  virtual ~PacketWriter() = default;
  virtual Status Write(const RawPacket& packet) = 0;
  virtual Status Close() = 0;
};
Result<std::unique_ptr<PacketWriter>> CreateCaptureFile(const std::string& path);

}  // namespace keytrail
