#include "agent/ship/collector_probe.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "agent/ship/ship_session.h"
#include "agent/ship/zmq_dealer.h"
#include "common/clock.h"
#include "common/descriptor.h"
#include "proto/keytrail/record.pb.h"

namespace keytrail {

namespace {

using Outcome = CollectorProbe::Outcome;

constexpr int kConnectMs = 3000;
constexpr int kGreetingMs = 3000;
constexpr int64_t kHandshakeNs = 6'000'000'000;
constexpr int64_t kAnswerNs = 3'000'000'000;

// RFC 23: signature, version, mechanism, as-server, filler.
constexpr size_t kGreetingBytes = 64;
constexpr size_t kSignatureBytes = 10;
constexpr size_t kMechanismAt = 12;
constexpr size_t kMechanismBytes = 20;

// Signature and version: enough for the other end to send its whole greeting. One that saw a mechanism which
// it does not have would hang up before it tells its own.
std::string HalfGreeting() {
  std::string greeting(kMechanismAt, '\0');
  greeting[0] = '\xff';
  greeting[kSignatureBytes - 1] = '\x7f';
  greeting[kSignatureBytes] = 3;
  return greeting;
}

int LeftMs(int64_t until_ns) {
  return static_cast<int>(std::max<int64_t>(0, (until_ns - SteadyNs() + 999'999) / 1'000'000));
}

// 0, or the error.
int ConnectIn(int fd, const sockaddr* to, socklen_t size, int64_t until_ns) {
  if (connect(fd, to, size) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd waiting{fd, POLLOUT, 0};
  int ready = 0;
  do {
    ready = poll(&waiting, 1, LeftMs(until_ns));
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

struct Connection {
  std::unique_ptr<Descriptor> socket;
  int error = 0;
  std::string resolving;  // not empty: the name is not known, and why
};

Connection ConnectUnix(const std::string& path) {
  Connection made;
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  if (path.size() >= sizeof to.sun_path) {
    made.error = ENAMETOOLONG;
    return made;
  }
  std::memcpy(to.sun_path, path.data(), path.size());
  made.socket = std::make_unique<Descriptor>(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  made.error = ConnectIn(made.socket->get(), reinterpret_cast<const sockaddr*>(&to), sizeof to,
                         SteadyNs() + int64_t{kConnectMs} * 1'000'000);
  return made;
}

Connection ConnectTcp(const std::string& rest) {
  Connection made;
  const size_t colon = rest.rfind(':');
  std::string host = rest.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.c_str(), rest.substr(colon + 1).c_str(), &hints, &found);
  if (failed != 0) {
    made.resolving = gai_strerror(failed);
    return made;
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> all(found, freeaddrinfo);
  const int64_t until = SteadyNs() + int64_t{kConnectMs} * 1'000'000;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    made.socket = std::make_unique<Descriptor>(
        socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, at->ai_protocol));
    made.error =
        made.socket->get() < 0 ? errno : ConnectIn(made.socket->get(), at->ai_addr, at->ai_addrlen, until);
    if (made.error == 0) break;
  }
  return made;
}

// What the other end says first, up to a greeting.
std::string ReadGreeting(int fd) {
  const std::string own = HalfGreeting();
  if (send(fd, own.data(), own.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(own.size())) return {};
  std::string heard;
  const int64_t until = SteadyNs() + int64_t{kGreetingMs} * 1'000'000;
  while (heard.size() < kGreetingBytes) {
    pollfd waiting{fd, POLLIN, 0};
    const int ready = poll(&waiting, 1, LeftMs(until));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) break;
    std::array<char, kGreetingBytes> bytes{};
    const ssize_t got = recv(fd, bytes.data(), kGreetingBytes - heard.size(), 0);
    if (got <= 0) break;
    heard.append(bytes.data(), static_cast<size_t>(got));
  }
  return heard;
}

// The agent's own way in, then a heartbeat.
CollectorProbe Speak(const std::string& address, const std::optional<AgentKeys>& keys) {
  CollectorProbe probe;
  const Result<std::unique_ptr<ZmqDealer>> made = ZmqDealer::Connect(address, nullptr, keys);
  if (!made) {
    probe.outcome = keys ? Outcome::kNoAddress : Outcome::kNeedsKeys;
    probe.detail = made.error();
    return probe;
  }
  ZmqDealer& dealer = **made;
  int64_t until = SteadyNs() + kHandshakeNs;
  using Link = ZmqDealer::Link;
  while (dealer.link() == Link::kNothingYet && SteadyNs() < until) dealer.Wait(100, false);
  if (dealer.link() != Link::kUp) {
    probe.detail = dealer.trouble();
    probe.outcome = dealer.link() == Link::kNotAdmitted ? Outcome::kNotAdmitted
                    : dealer.link() == Link::kHandshakeEnded
                        ? (keys ? Outcome::kOtherKey : Outcome::kNoCollector)
                    : dealer.link() == Link::kAway ? Outcome::kRefused
                                                   : Outcome::kSilent;
    return probe;
  }
  protocol::Envelope heartbeat;
  heartbeat.mutable_heartbeat();
  const std::string message = heartbeat.SerializeAsString();
  bool sent = false;
  probe.outcome = Outcome::kNoCollector;
  probe.detail = "it takes the connection and does not answer";
  for (until = SteadyNs() + kAnswerNs; SteadyNs() < until; dealer.Wait(100, !sent)) {
    sent = sent || dealer.Send(message);
    Bytes answer;
    if (!dealer.Receive(answer)) continue;
    protocol::Envelope envelope;
    if (!envelope.ParseFromArray(answer.data(), static_cast<int>(answer.size())) ||
        envelope.body_case() == protocol::Envelope::BODY_NOT_SET) {
      probe.detail = "what it answers is no message of keytrail's";
      return probe;
    }
    const uint32_t theirs = envelope.refusal().protocol_version();
    probe.outcome = theirs != 0 && theirs != kProtocolVersion ? Outcome::kVersion : Outcome::kAnswers;
    probe.detail = "protocol " + std::to_string(theirs) + ", ours is " + std::to_string(kProtocolVersion);
    return probe;
  }
  return probe;
}

}  // namespace

CollectorProbe ProbeCollector(const std::string& address, const std::optional<AgentKeys>& keys) {
  CollectorProbe probe;
  const Result<std::string> full = ZmqAddress(address);
  if (!full) {
    probe.detail = full.error();
    return probe;
  }
  const bool is_unix = full->starts_with("ipc://");
  const int64_t began = SteadyNs();
  const Connection connection = is_unix ? ConnectUnix(full->substr(6)) : ConnectTcp(full->substr(6));
  probe.connect_ns = SteadyNs() - began;
  if (!connection.resolving.empty()) {
    probe.detail = connection.resolving;
    return probe;
  }
  // Before the state of the network: without keys this one will not be spoken to anyhow.
  if (!keys) {
    const Result<std::unique_ptr<ZmqDealer>> allowed = ZmqDealer::Connect(address, nullptr, keys);
    if (!allowed) {
      probe.outcome = Outcome::kNeedsKeys;
      probe.detail = allowed.error();
      return probe;
    }
  }
  if (connection.error != 0) {
    const bool refused = connection.error == ECONNREFUSED || connection.error == ENOENT;
    probe.outcome = refused ? Outcome::kRefused : Outcome::kNoWay;
    probe.detail = std::strerror(connection.error);
    return probe;
  }
  const std::string heard = ReadGreeting(connection.socket->get());
  const bool zmtp = heard.size() >= kSignatureBytes && heard[0] == '\xff' && heard[9] == '\x7f';
  if (!zmtp || heard.size() < kGreetingBytes) {
    probe.outcome = heard.empty() ? Outcome::kSilent : Outcome::kOtherProtocol;
    return probe;
  }
  const std::string mechanism(heard.c_str() + kMechanismAt,
                              strnlen(heard.c_str() + kMechanismAt, kMechanismBytes));
  if (mechanism == "CURVE" && !keys) probe.outcome = Outcome::kWantsKeys;
  if (mechanism != "CURVE" && keys) probe.outcome = Outcome::kHasNoKeys;
  if (probe.outcome != Outcome::kNoAddress) return probe;
  const int64_t took = probe.connect_ns;
  probe = Speak(address, keys);
  probe.connect_ns = took;
  return probe;
}

}  // namespace keytrail
