// What the first bytes of a connection say about its protocol. By content, never by port.
//
// Values without ownership, thread-safe by having no state.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/bytes.h"

namespace keytrail {

enum class Opening : uint8_t {
  kNeedMore,  // too few bytes to say
  kPreface,   // HTTP/2, RFC 9113 section 3.4
  kHttp1,
  kUpgrade,  // an HTTP/1.1 request that offers h2c (RFC 7540 section 3.2)
  kTls,
  kOther,
};

struct Probe {
  Opening opening = Opening::kNeedMore;
  size_t end = 0;  // kPreface: its length; kUpgrade: that of the request with its body
};

// `bytes` are the first ones that a client sends on a new connection.
Probe ProbeClient(Bytes bytes);

// `bytes` are the first ones that a server answers to an upgrade. kUpgrade: it switches protocols, `end` is
// where HTTP/2 begins; kHttp1: it does not.
Probe ProbeUpgradeAnswer(Bytes bytes);

// `bytes` begin with the first line of an HTTP/1 request or answer, to its end or as far as they go.
bool BeginsHttp1(Bytes bytes);

// `bytes` begin with the header of a TLS record of a length that RFC 8446 section 5 allows.
bool BeginsTlsRecord(Bytes bytes);

}  // namespace keytrail
