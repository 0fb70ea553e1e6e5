// Bytes of connections through the HTTP/2 room: what its two targets share.
//
// Input: 1 byte (bits 0-6: how bytes are cut into pieces, bit 7: the SYN was seen); then records of a byte
// `what`:
//   bit 0    direction; 0 is the client where the connection is seen from its start
//   bits 1-2 0, 1: bytes as they stand (2 bytes length, bytes)
//            2: a frame whose header is right (type, flags, stream: 1 byte each; 2 bytes length; payload)
//            3: a gap (2 bytes length), or with a length of 0 the end of the connection; the next one takes
//               its slot
//   bits 3-5 milliseconds since the record before
//
// The same bytes go through the room twice, as the records have them and cut into pieces: the events must be
// the same, as far as nothing had to be searched for.
#pragma once

#include <cstddef>
#include <cstdint>

namespace keytrail::fuzz {

// `from_start`: the SYN was seen and the client's preface comes first, by itself.
void RunHttp2(const uint8_t* data, size_t size, bool from_start);

}  // namespace keytrail::fuzz
