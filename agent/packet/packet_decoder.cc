#include "agent/packet/packet_decoder.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "agent/packet/protocol_numbers.h"
#include "common/limits.h"

namespace keytrail {

namespace {

// What a layer says of the one inside it: an EtherType, or nothing if the packet ends here.
struct Inner {
  uint16_t ether_type = 0;
  Bytes bytes;
  uint32_t wire_length = 0;  // bytes on the wire from bytes.data() on
};

// Offset and length of an IP fragment together.
constexpr uint32_t kMaxDatagram = 65535;

class PacketReader {
 public:
  PacketReader(TimeNs time, Counters& counters, FragmentTable& fragments, SegmentSink& sink)
      : time_(time), counters_(counters), fragments_(fragments), sink_(sink) {}

  void ReadLink(const RawPacket& packet) {
    Inner at{0, packet.bytes, std::max<uint32_t>(packet.wire_length, packet.bytes.size())};
    switch (packet.link_type) {
      case kLinkEthernet:
        ReadEthernet(at);
        return;
      case kLinkNull:
      case kLinkLoop:
        ReadLoopback(at);
        return;
      case kLinkRawA:
      case kLinkRawB:
      case kLinkRaw:
      case kLinkIpv4:
      case kLinkIpv6:
        ReadIp(at);
        return;
      case kLinkCooked:
        ReadCooked(at, 16, 14);
        return;
      case kLinkCooked2:
        ReadCooked(at, 20, 0);
        return;
      default:
        counters_.Add(Counter::kPacketsUnknownLink);
    }
  }

 private:
  bool Has(const Inner& at, size_t n) {
    if (at.bytes.size() >= n) return true;
    counters_.Add(at.wire_length > at.bytes.size() ? Counter::kPacketsCut : Counter::kPacketsMalformed);
    return false;
  }

  static Inner Skip(const Inner& at, size_t n) {
    return {at.ether_type, at.bytes.subspan(n), at.wire_length - static_cast<uint32_t>(n)};
  }

  bool Enter() {
    if (++depth_ <= limits::kMaxEncapsulations) return true;
    counters_.Add(Counter::kCapEncapsulations);
    return false;
  }

  void ReadEthernet(Inner at) {
    if (!Has(at, 14)) return;
    at.ether_type = LoadBe16(at.bytes.data() + 12);
    ReadEtherType(Skip(at, 14));
  }

  void ReadCooked(Inner at, size_t header_bytes, size_t type_offset) {
    if (!Has(at, header_bytes)) return;
    at.ether_type = LoadBe16(at.bytes.data() + type_offset);
    ReadEtherType(Skip(at, header_bytes));
  }

  // The family number stands in the byte order of the capturing machine and differs by system for IPv6; the
  // version nibble behind it says the same and is the same everywhere.
  void ReadLoopback(const Inner& at) {
    if (!Has(at, 5)) return;
    ReadIp(Skip(at, 4));
  }

  void ReadEtherType(Inner at) {
    while (at.ether_type == kEtherVlan || at.ether_type == kEtherServiceVlan ||
           at.ether_type == kEtherOldServiceVlan) {
      if (!Enter() || !Has(at, 4)) return;
      at.ether_type = LoadBe16(at.bytes.data() + 2);
      at = Skip(at, 4);
    }
    switch (at.ether_type) {
      case kEtherIpv4:
      case kEtherIpv6:
        ReadIp(at);
        return;
      case kEtherTransparent:
        if (Enter()) ReadEthernet(at);
        return;
      default:
        counters_.Add(Counter::kPacketsNotTcp);
    }
  }

  // What is in line and what is not is said by hand here: GCC 12 otherwise passes Inner by value through a
  // function of its own for IPv4, which costs each packet ten nanoseconds (packet_tcp_bench).
  [[gnu::noinline]] void ReadIp(const Inner& at) {
    if (!Has(at, 1)) return;
    switch (at.bytes[0] >> 4) {
      case 4:
        ReadIpv4(at);
        return;
      case 6:
        ReadIpv6(at);
        return;
      default:
        counters_.Add(Counter::kPacketsMalformed);
    }
  }

  [[gnu::always_inline]] inline void ReadIpv4(const Inner& at) {
    if (!Has(at, 20)) return;
    const uint8_t* p = at.bytes.data();
    const size_t header_bytes = size_t{p[0] & 15u} * 4;
    uint32_t total = LoadBe16(p + 2);
    // Segmentation offload writes 0 where the length does not fit in 16 bits.
    if (total == 0) total = at.wire_length;
    if (header_bytes < 20 || total < header_bytes) {
      counters_.Add(Counter::kPacketsMalformed);
      return;
    }
    if (!Has(at, header_bytes)) return;
    source_.family = destination_.family = 4;
    SetAddress(source_, p + 12, 4);
    SetAddress(destination_, p + 16, 4);
    const uint8_t protocol = p[9];
    const uint16_t fragment = LoadBe16(p + 6);
    const Inner inside = Skip(Trim(at, total), header_bytes);
    if ((fragment & 0x3FFF) == 0) {
      ReadTransport(protocol, inside);
    } else {  // more fragments, or an offset
      ReadFragment({source_, destination_, LoadBe16(p + 4), protocol}, (fragment & 0x1FFFu) * 8,
                   (fragment & 0x2000) != 0, protocol, inside);
    }
  }

  // Cuts what follows the datagram in its frame (Ethernet padding). A shorter frame than the datagram was
  // cut by the snapshot length.
  static Inner Trim(Inner at, uint32_t length) {
    if (at.bytes.size() > length) at.bytes = at.bytes.first(length);
    at.wire_length = length;
    return at;
  }

  void ReadIpv6(Inner at) {
    if (!Has(at, 40)) return;
    const uint8_t* p = at.bytes.data();
    const uint32_t payload = LoadBe16(p + 4);
    source_.family = destination_.family = 6;
    SetAddress(source_, p + 8, 16);
    SetAddress(destination_, p + 24, 16);
    const uint8_t next = p[6];
    // 0: a jumbogram or segmentation offload; the frame tells the length then.
    ReadIpv6Payload(next, Skip(payload == 0 ? at : Trim(at, payload + 40), 40));
  }

  // Extension headers, up to the transport protocol.
  [[gnu::noinline]] void ReadIpv6Payload(uint8_t next, Inner at) {
    for (;;) {
      size_t header_bytes = 0;
      switch (next) {
        case 0:    // hop-by-hop
        case 43:   // routing
        case 60:   // destination options
        case 135:  // mobility
          if (!Has(at, 8)) return;
          header_bytes = (size_t{at.bytes[1]} + 1) * 8;
          break;
        case 51:  // authentication header
          if (!Has(at, 8)) return;
          header_bytes = (size_t{at.bytes[1]} + 2) * 4;
          break;
        case 44:  // fragment
          if (!Has(at, 8)) return;
          if (const uint16_t fragment = LoadBe16(at.bytes.data() + 2); (fragment & 0xFFF9) != 0) {
            ReadFragment({source_, destination_, LoadBe32(at.bytes.data() + 4)}, fragment & 0xFFF8u,
                         (fragment & 1) != 0, at.bytes[0], Skip(at, 8));
            return;
          }
          header_bytes = 8;
          break;
        default:
          ReadTransport(next, at);
          return;
      }
      if (!Enter() || !Has(at, header_bytes)) return;
      if (header_bytes > at.wire_length) {
        counters_.Add(Counter::kPacketsMalformed);
        return;
      }
      next = at.bytes[0];
      at = Skip(at, header_bytes);
    }
  }

  // `at` is what stands behind the headers of the fragment.
  [[gnu::noinline, gnu::cold]] void ReadFragment(const FragmentKey& key, uint32_t offset, bool more,
                                                 uint8_t protocol, const Inner& at) {
    counters_.Add(Counter::kIpFragments);
    if (!MayHoldTcp(protocol)) {
      counters_.Add(Counter::kPacketsNotTcp);
      return;
    }
    // All but the last end at a multiple of 8, and no datagram is longer than its length can say.
    if (at.wire_length == 0 || (more && at.wire_length % 8 != 0) || at.wire_length > kMaxDatagram ||
        offset + at.wire_length > kMaxDatagram) {
      counters_.Add(Counter::kPacketsMalformed);
      return;
    }
    // The rest of a fragment that was cut comes never.
    if (!Has(at, at.wire_length)) return;
    const std::optional<FragmentTable::Datagram> whole =
        fragments_.Add(time_, key, {offset, more, protocol, at.bytes});
    if (!whole || !Enter()) return;
    const Inner inside{0, whole->bytes, static_cast<uint32_t>(whole->bytes.size())};
    if (source_.family == 6) {
      ReadIpv6Payload(whole->protocol, inside);
    } else {
      ReadTransport(whole->protocol, inside);
    }
  }

  static bool MayHoldTcp(uint8_t protocol) {
    switch (protocol) {
      case kProtocolTcp:
      case kProtocolUdp:
      case kProtocolGre:
      case kProtocolIpv4:
      case kProtocolIpv6:
      case 0:  // IPv6 extension headers
      case 43:
      case 44:
      case 51:
      case 60:
      case 135:
        return true;
      default:
        return false;
    }
  }

  void ReadTransport(uint8_t protocol, const Inner& at) {
    switch (protocol) {
      case kProtocolTcp:
        ReadTcp(at);
        return;
      case kProtocolUdp:
        ReadUdp(at);
        return;
      case kProtocolGre:
        ReadGre(at);
        return;
      case kProtocolIpv4:
      case kProtocolIpv6:
        if (Enter()) ReadIp(at);
        return;
      default:
        counters_.Add(Counter::kPacketsNotTcp);
    }
  }

  void ReadUdp(const Inner& at) {
    if (!Has(at, 8)) return;
    const uint16_t port = LoadBe16(at.bytes.data() + 2);
    Inner inner = Skip(at, 8);
    const bool vxlan = port == kPortVxlan || port == kPortVxlanLinux;
    if ((vxlan || port == kPortGeneve) && inner.bytes.size() < 8 && inner.wire_length >= 8) {
      counters_.Add(Counter::kPacketsCut);
      return;
    }
    if (vxlan) {
      // Flag I and a zero reserved byte (RFC 7348 section 5), with a group policy (flag G) or without.
      if (inner.bytes.size() < 8 || (inner.bytes[0] & 0x7F) != 0x08 || inner.bytes[7] != 0) {
        counters_.Add(Counter::kPacketsNotTcp);
        return;
      }
      if (Enter()) ReadEthernet(Skip(inner, 8));
    } else if (port == kPortGeneve) {
      if (inner.bytes.size() < 8 || (inner.bytes[0] >> 6) != 0) {
        counters_.Add(Counter::kPacketsNotTcp);
        return;
      }
      const size_t header_bytes = 8 + size_t{inner.bytes[0] & 0x3Fu} * 4;
      inner.ether_type = LoadBe16(inner.bytes.data() + 2);
      if (!Has(inner, header_bytes)) return;
      if (Enter()) ReadEtherType(Skip(inner, header_bytes));
    } else {
      counters_.Add(Counter::kPacketsNotTcp);
    }
  }

  // RFC 2784, 2890. A version other than 0 (PPTP) carries no Ethernet, and nobody has used the source routes
  // of RFC 1701 for long.
  void ReadGre(const Inner& at) {
    if (!Has(at, 4)) return;
    const uint16_t flags = LoadBe16(at.bytes.data());
    if ((flags & 0x4007) != 0) {
      counters_.Add(Counter::kPacketsNotTcp);
      return;
    }
    const size_t header_bytes =
        4 + ((flags & 0x8000) ? 4 : 0) + ((flags & 0x2000) ? 4 : 0) + ((flags & 0x1000) ? 4 : 0);
    if (!Has(at, header_bytes)) return;
    Inner inner = Skip(at, header_bytes);
    inner.ether_type = LoadBe16(at.bytes.data() + 2);
    if (Enter()) ReadEtherType(inner);
  }

  void ReadTcp(const Inner& at) {
    if (!Has(at, 20)) return;
    const uint8_t* p = at.bytes.data();
    const size_t header_bytes = size_t{p[12]} >> 4 << 2;
    if (header_bytes < 20 || header_bytes > at.wire_length) {
      counters_.Add(Counter::kPacketsMalformed);
      return;
    }
    Segment segment;
    segment.time = time_;
    segment.source.address = source_;
    segment.destination.address = destination_;
    segment.source.port = LoadBe16(p);
    segment.destination.port = LoadBe16(p + 2);
    segment.sequence = LoadBe32(p + 4);
    segment.acknowledgement = LoadBe32(p + 8);
    segment.flags = p[13];
    segment.payload_length = at.wire_length - static_cast<uint32_t>(header_bytes);
    // The options themselves may have been cut.
    if (at.bytes.size() > header_bytes) segment.payload = at.bytes.subspan(header_bytes);
    if (segment.payload.size() < segment.payload_length) counters_.Add(Counter::kPacketsCut);
    sink_.OnSegment(segment);
  }

  static void SetAddress(IpAddress& address, const uint8_t* from, size_t n) {
    std::memcpy(address.bytes.data(), from, n);
    // An outer header may have been IPv6.
    if (n == 4) std::memset(address.bytes.data() + 4, 0, 12);
  }

  TimeNs time_;
  Counters& counters_;
  FragmentTable& fragments_;
  SegmentSink& sink_;
  IpAddress source_;
  IpAddress destination_;
  int depth_ = 0;
};

}  // namespace

void PacketDecoder::Feed(const RawPacket& packet, SegmentSink& sink) {
  PacketReader(packet.time, counters_, fragments_, sink).ReadLink(packet);
}

}  // namespace keytrail
