#include "common/flow_key.h"

#include <arpa/inet.h>

#include <charconv>

#include "common/bytes.h"

namespace keytrail {

bool IpAddress::is_loopback() const {
  if (family == 4) return bytes[0] == 127;
  if (family != 6) return false;
  for (int i = 0; i < 15; ++i) {
    if (bytes[i] != 0) return false;
  }
  return bytes[15] == 1;
}

std::string FormatAddress(const IpAddress& address) {
  if (address.family != 4 && address.family != 6) return "?";
  char text[INET6_ADDRSTRLEN];
  inet_ntop(address.family == 4 ? AF_INET : AF_INET6, address.bytes.data(), text, sizeof text);
  return text;
}

std::string FormatEndpoint(const Endpoint& endpoint) {
  const std::string address = FormatAddress(endpoint.address);
  const std::string port = std::to_string(endpoint.port);
  return endpoint.address.family == 6 ? "[" + address + "]:" + port : address + ":" + port;
}

Result<IpAddress> ParseAddress(const std::string& text) {
  IpAddress address;
  if (inet_pton(AF_INET, text.c_str(), address.bytes.data()) == 1) {
    address.family = 4;
    return address;
  }
  if (inet_pton(AF_INET6, text.c_str(), address.bytes.data()) == 1) {
    address.family = 6;
    return address;
  }
  return Error{"'" + text + "' is neither an IPv4 nor an IPv6 address"};
}

Result<Endpoint> ParseEndpoint(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return Error{"'" + text + "' has no port; write address:port"};
  std::string host = text.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  Result<IpAddress> address = ParseAddress(host);
  if (!address) return Error{address.error()};
  uint16_t port = 0;
  const char* end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data() + colon + 1, end, port);
  if (problem != std::errc() || stop != end) return Error{"'" + text + "' has no valid port (0 to 65535)"};
  return Endpoint{*address, port};
}

namespace {

uint64_t Mix(uint64_t h, uint64_t v) {
  h ^= v;
  h *= 0x9E3779B97F4A7C15u;
  return h ^ (h >> 32);
}

uint64_t Load64(const uint8_t* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

}  // namespace

size_t FlowKeyHash::operator()(const FlowKey& key) const {
  uint64_t h = 0x243F6A8885A308D3u;
  h = Mix(h, uint64_t{key.a.port} << 32 | uint64_t{key.b.port} << 16 | uint64_t{key.a.address.family});
  h = Mix(h, Load64(key.a.address.bytes.data()));
  h = Mix(h, Load64(key.b.address.bytes.data()));
  if (key.a.address.family == 6) {
    h = Mix(h, Load64(key.a.address.bytes.data() + 8));
    h = Mix(h, Load64(key.b.address.bytes.data() + 8));
  }
  return h;
}

}  // namespace keytrail
