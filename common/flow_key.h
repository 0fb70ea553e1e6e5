// Addresses of a TCP connection. Values, no ownership, thread-safe by having no state.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#include "common/result.h"

namespace keytrail {

// An IPv4 or IPv6 address. IPv4 stands in the first four bytes, the rest is zero.
struct IpAddress {
  std::array<uint8_t, 16> bytes{};
  uint8_t family = 0;  // 4, 6, or 0 for "none"

  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;
  bool is_loopback() const;
};

struct Endpoint {
  IpAddress address;
  uint16_t port = 0;

  friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

// "10.77.0.11", "fe80::1" (RFC 5952).
std::string FormatAddress(const IpAddress& address);
// "10.77.0.11:20160", "[fe80::1]:20160".
std::string FormatEndpoint(const Endpoint& endpoint);
// The inverse of FormatAddress; an Error names the text.
Result<IpAddress> ParseAddress(const std::string& text);
// The inverse of FormatEndpoint.
Result<Endpoint> ParseEndpoint(const std::string& text);

// Both ends of a connection in a canonical order (a <= b), so that both directions meet one key.
struct FlowKey {
  Endpoint a;
  Endpoint b;

  friend bool operator==(const FlowKey&, const FlowKey&) = default;
};

struct FlowKeyHash {
  // A full 64-bit mix of all 36 bytes: chosen so that nobody meets two flows by a short hash alone; the
  // table compares whole keys anyway.
  size_t operator()(const FlowKey& key) const;
};

}  // namespace keytrail
