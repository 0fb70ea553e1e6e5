#include "agent/capture/pcapng_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "agent/capture/filter.h"
#include "common/limits.h"

namespace keytrail {

namespace {

constexpr uint32_t kInterfaceDescription = 1;
constexpr uint32_t kOldPacket = 2;
constexpr uint32_t kSimplePacket = 3;
constexpr uint32_t kEnhancedPacket = 6;
constexpr uint32_t kByteOrder = 0x1A2B3C4D;

constexpr uint16_t kOptionEnd = 0;
constexpr uint16_t kOptionTimeResolution = 9;
constexpr uint16_t kOptionTimeOffset = 14;

// Numbers in files and libpcap's on this platform differ for raw IP alone, as far as we read them.
constexpr int kFileRawIp = 101;

constexpr int64_t kMaxSeconds = 9'200'000'000;  // the year 2261: nanoseconds still fit 64 bits

}  // namespace

PcapngReader::~PcapngReader() {
  for (Program& program : programs_) pcap_freecode(&program.code);
  std::fclose(stream_);
}

uint16_t PcapngReader::U16(size_t at) const {
  uint16_t v;
  std::memcpy(&v, body_.data() + at, sizeof v);
  return swapped_ ? __builtin_bswap16(v) : v;
}
uint32_t PcapngReader::U32(size_t at) const {
  uint32_t v;
  std::memcpy(&v, body_.data() + at, sizeof v);
  return swapped_ ? __builtin_bswap32(v) : v;
}
uint64_t PcapngReader::U64(size_t at) const {
  uint64_t v;
  std::memcpy(&v, body_.data() + at, sizeof v);
  return swapped_ ? __builtin_bswap64(v) : v;
}

Result<bool> PcapngReader::ReadBlock() {
  uint32_t head[3];  // type, length, and the byte order mark of a section header
  const size_t got = std::fread(head, 1, 8, stream_);
  if (got == 0) return false;
  if (got < 8) return Error{"truncated pcapng file: " + std::to_string(got) + " bytes of a block"};
  size_t have = 8;
  if (head[0] == kMagic) {
    if (std::fread(head + 2, 1, 4, stream_) != 4) return Error{"truncated pcapng file: a section header"};
    if (head[2] != kByteOrder && head[2] != __builtin_bswap32(kByteOrder)) {
      return Error{"damaged pcapng file: a section header without a byte order"};
    }
    swapped_ = head[2] != kByteOrder;
    have = 12;
  } else if (!in_section_) {
    return Error{"damaged pcapng file: no section header"};
  }
  type_ = swapped_ ? __builtin_bswap32(head[0]) : head[0];
  const uint32_t length = swapped_ ? __builtin_bswap32(head[1]) : head[1];
  if (length < have + 4 || length % 4 != 0 || length > limits::kMaxCaptureBlockBytes) {
    return Error{"damaged pcapng file: a block of " + std::to_string(length) + " bytes"};
  }
  body_.resize(length - 8);  // with the second length, which is cut off below
  if (have == 12) std::memcpy(body_.data(), &head[2], 4);
  const size_t wanted = length - have;
  const size_t read = std::fread(body_.data() + (have - 8), 1, wanted, stream_);
  if (read != wanted) {
    return Error{"truncated pcapng file: a block of " + std::to_string(length) + " bytes, " +
                 std::to_string(have + read) + " of them there"};
  }
  if (U32(body_.size() - 4) != length) {
    return Error{"damaged pcapng file: a block says two lengths, " + std::to_string(length) + " and " +
                 std::to_string(U32(body_.size() - 4))};
  }
  body_.resize(body_.size() - 4);
  return true;
}

Status PcapngReader::ReadSectionHeader() {
  if (body_.size() < 16) return Error{"damaged pcapng file: a section header too short"};
  if (U16(4) != 1) return Error{"pcapng version " + std::to_string(U16(4)) + " is not known"};
  in_section_ = true;
  interfaces_.clear();
  section_over_cap_ = 0;
  return Done{};
}

Status PcapngReader::ReadInterface() {
  if (body_.size() < 8) return Error{"damaged pcapng file: an interface description too short"};
  Interface interface;
  interface.link_type = U16(0) == kFileRawIp ? DLT_RAW : U16(0);
  interface.snap_length = U32(4);
  for (size_t at = 8; at + 4 <= body_.size();) {
    const uint16_t code = U16(at);
    const uint16_t length = U16(at + 2);
    if (code == kOptionEnd) break;
    if (length > body_.size() - at - 4) return Error{"damaged pcapng file: an option beyond its block"};
    const Status read = ReadInterfaceOption(interface, code, Bytes(body_).subspan(at + 4, length));
    if (!read.ok()) return read;
    at += 4 + (size_t{length} + 3) / 4 * 4;
  }
  if (interfaces_.size() == limits::kMaxCaptureInterfaces) {
    ++section_over_cap_;
    ++interfaces_over_cap_;
    return Done{};
  }
  interfaces_.push_back(interface);
  return CompileFilter(interface.link_type);
}

Status PcapngReader::ReadInterfaceOption(Interface& interface, uint16_t code, Bytes value) {
  if (code == kOptionTimeResolution && value.size() == 1) {
    const unsigned power = value[0] & 0x7F;
    if ((value[0] & 0x80) != 0) {
      if (power > 63) return Error{"pcapng time resolution 2^-" + std::to_string(power) + " is too fine"};
      interface.units_per_second = uint64_t{1} << power;
    } else {
      if (power > 19) return Error{"pcapng time resolution 10^-" + std::to_string(power) + " is too fine"};
      interface.units_per_second = 1;
      for (unsigned i = 0; i < power; ++i) interface.units_per_second *= 10;
    }
  } else if (code == kOptionTimeOffset && value.size() == 8) {
    const auto at = static_cast<size_t>(value.data() - body_.data());
    interface.offset_seconds = std::clamp(static_cast<int64_t>(U64(at)), -kMaxSeconds, kMaxSeconds);
  }
  return Done{};
}

TimeNs PcapngReader::Time(const Interface& interface, uint64_t units) const {
  __extension__ using Wide = unsigned __int128;
  const uint64_t whole = std::min<uint64_t>(units / interface.units_per_second, kMaxSeconds);
  const int64_t seconds =
      std::clamp<int64_t>(static_cast<int64_t>(whole) + interface.offset_seconds, 0, kMaxSeconds);
  const Wide fraction = Wide{units % interface.units_per_second} * 1'000'000'000 / interface.units_per_second;
  return TimeNs{seconds * 1'000'000'000 + static_cast<int64_t>(fraction)};
}

Result<bool> PcapngReader::ReadPacket(RawPacket& packet) {
  const bool simple = type_ == kSimplePacket;
  const size_t header = simple ? 4 : 20;
  if (body_.size() < header) return Error{"damaged pcapng file: a packet block too short"};
  const size_t index = simple ? 0 : type_ == kOldPacket ? U16(0) : U32(0);
  Interface interface;
  interface.link_type = -1;
  if (index < interfaces_.size()) {
    interface = interfaces_[index];
  } else if (index >= interfaces_.size() + section_over_cap_) {
    return Error{"damaged pcapng file: a packet of interface " + std::to_string(index) +
                 ", which is not described"};
  }
  packet.wire_length = U32(simple ? 0 : 16);
  uint32_t captured = simple ? packet.wire_length : U32(12);
  if (simple && interface.snap_length != 0) captured = std::min(captured, interface.snap_length);
  if (captured > body_.size() - header) {
    return Error{"damaged pcapng file: a packet of " + std::to_string(captured) + " bytes in a block for " +
                 std::to_string(body_.size() - header)};
  }
  packet.bytes = Bytes(body_).subspan(header, captured);
  packet.link_type = interface.link_type;
  // A simple packet block has no time.
  packet.time = simple ? TimeNs{0} : Time(interface, uint64_t{U32(4)} << 32 | U32(8));
  return Wanted(packet);
}

Status PcapngReader::CompileFilter(int link_type) {
  if (filter_text_.empty()) return Done{};
  for (const Program& program : programs_) {
    if (program.link_type == link_type) return Done{};
  }
  pcap_t* const form = pcap_open_dead(link_type, limits::kSnapLen);
  if (form == nullptr) return Error{"out of memory"};
  Program program{link_type, {}};
  Status status = CompileFilterText(form, filter_text_, program.code);
  pcap_close(form);
  if (status.ok()) programs_.push_back(program);
  return status;
}

bool PcapngReader::Wanted(const RawPacket& packet) const {
  for (const Program& program : programs_) {
    if (program.link_type != packet.link_type) continue;
    pcap_pkthdr header{};
    header.caplen = static_cast<bpf_u_int32>(packet.bytes.size());
    header.len = packet.wire_length;
    return pcap_offline_filter(&program.code, &header, packet.bytes.data()) != 0;
  }
  return filter_text_.empty();
}

Status PcapngReader::Open() {
  while (interfaces_.empty()) {
    const Result<bool> got = ReadBlock();
    if (!got) return Error{got.error()};
    if (!*got)
      return CompileFilter(DLT_EN10MB);  // a file without packets; the filter must be one all the same
    Status read = Done{};
    if (type_ == kMagic) read = ReadSectionHeader();
    if (type_ == kInterfaceDescription) read = ReadInterface();
    if (type_ == kSimplePacket || type_ == kEnhancedPacket || type_ == kOldPacket) {
      read = Error{"damaged pcapng file: a packet before any interface"};
    }
    if (!read.ok()) return read;
  }
  return Done{};
}

Result<bool> PcapngReader::Read(RawPacket& packet) {
  for (;;) {
    const Result<bool> got = ReadBlock();
    if (!got || !*got) return got;
    Status read = Done{};
    switch (type_) {
      case kMagic:
        read = ReadSectionHeader();
        break;
      case kInterfaceDescription:
        read = ReadInterface();
        break;
      case kOldPacket:
      case kSimplePacket:
      case kEnhancedPacket: {
        const Result<bool> wanted = ReadPacket(packet);
        if (!wanted || *wanted) return wanted;
        break;
      }
      default:  // names, statistics, comments
        break;
    }
    if (!read.ok()) return Error{read.error()};
  }
}

uint64_t PcapngReader::TakeInterfacesOverCap() {
  return std::exchange(interfaces_over_cap_, 0);
}

}  // namespace keytrail
