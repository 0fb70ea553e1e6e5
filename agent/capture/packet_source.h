// Raw packets out of a live device or a capture file. This room is the only includer of pcap.h.
//
// A PacketSource is used by one thread; Interrupt() alone may be called from another thread or a signal
// handler. The bytes of a RawPacket live until the next call of Next().
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/bytes.h"
#include "common/counters.h"
#include "common/result.h"
#include "common/time.h"

namespace keytrail {

struct RawPacket {
  TimeNs time;
  Bytes bytes;               // captured bytes
  uint32_t wire_length = 0;  // bytes on the wire; more than bytes.size() if the snapshot length cut it
  int link_type = 0;         // DLT_* of libpcap (pcap-linktype(7)), host independent
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

  // Adds what was lost since the last call: kernel and interface drops of a live device, interfaces of a file
  // that were too many.
  virtual void ReadDrops(Counters& counters) = 0;
};

struct FileSourceOptions {
  std::string path;    // pcap, pcapng, either zstd-compressed; "-" is standard input
  std::string filter;  // BPF text, empty for all
};
Result<std::unique_ptr<PacketSource>> OpenFile(const FileSourceOptions& options);

struct LiveSourceOptions {
  std::string device;  // "any" too
  std::string filter;
  int buffer_bytes = 64 << 20;
};
Result<std::unique_ptr<PacketSource>> OpenDevice(const LiveSourceOptions& options);

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
