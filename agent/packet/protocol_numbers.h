// Link types, EtherTypes, IP protocols and ports that packets are known by. Inside agent/packet only.
#pragma once

#include <cstdint>

namespace keytrail {

// Link types (pcap-linktype(7)); raw IP has three numbers, by platform.
inline constexpr int kLinkNull = 0;
inline constexpr int kLinkEthernet = 1;
inline constexpr int kLinkRawA = 12;
inline constexpr int kLinkRawB = 14;
inline constexpr int kLinkRaw = 101;
inline constexpr int kLinkLoop = 108;
inline constexpr int kLinkCooked = 113;
inline constexpr int kLinkIpv4 = 228;
inline constexpr int kLinkIpv6 = 229;
inline constexpr int kLinkCooked2 = 276;

inline constexpr uint16_t kEtherIpv4 = 0x0800;
inline constexpr uint16_t kEtherIpv6 = 0x86DD;
inline constexpr uint16_t kEtherVlan = 0x8100;
inline constexpr uint16_t kEtherServiceVlan = 0x88A8;
inline constexpr uint16_t kEtherOldServiceVlan = 0x9100;
inline constexpr uint16_t kEtherTransparent = 0x6558;

inline constexpr uint8_t kProtocolTcp = 6;
inline constexpr uint8_t kProtocolIpv4 = 4;
inline constexpr uint8_t kProtocolUdp = 17;
inline constexpr uint8_t kProtocolIpv6 = 41;
inline constexpr uint8_t kProtocolGre = 47;

inline constexpr uint16_t kPortVxlan = 4789;       // RFC 7348
inline constexpr uint16_t kPortVxlanLinux = 8472;  // Linux before 4789 was assigned; flannel still
inline constexpr uint16_t kPortGeneve = 6081;      // RFC 8926

}  // namespace keytrail
