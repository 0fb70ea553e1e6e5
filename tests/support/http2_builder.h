// Bytes of HTTP/2 for tests: frames and HPACK blocks. The blocks come from nghttp2's deflater, which is not
// our code, or instruction by instruction where a test wants a certain form.
#pragma once

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keytrail::testing {

using FieldList = std::vector<std::pair<std::string, std::string>>;

inline std::string Be16(uint32_t v) {
  return {static_cast<char>(v >> 8), static_cast<char>(v)};
}
inline std::string Be32(uint32_t v) {
  return Be16(v >> 16) + Be16(v & 0xFFFF);
}

inline const std::string kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Frames (RFC 9113 section 6) ------------------------------------------------------------------------------

enum : uint8_t { kEndStream = 1, kAck = 1, kEndHeaders = 4, kPadded = 8, kPriorityFlag = 0x20 };

inline std::string RawFrame(uint32_t type, uint32_t flags, uint32_t stream, std::string_view payload) {
  std::string out;
  out += static_cast<char>(payload.size() >> 16);
  out += Be16(payload.size() & 0xFFFF);
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  out += Be32(stream);
  out += payload;
  return out;
}

inline std::string DataFrame(uint32_t stream, std::string_view data, bool end_stream = false) {
  return RawFrame(0, end_stream ? kEndStream : 0, stream, data);
}

inline std::string PaddedDataFrame(uint32_t stream, std::string_view data, uint8_t padding,
                                   bool end_stream = false) {
  std::string payload(1, static_cast<char>(padding));
  payload += data;
  payload.append(padding, '\0');
  return RawFrame(0, kPadded | (end_stream ? kEndStream : 0), stream, payload);
}

inline std::string HeadersFrame(uint32_t stream, std::string_view block, bool end_stream = false) {
  return RawFrame(1, kEndHeaders | (end_stream ? kEndStream : 0), stream, block);
}

// HEADERS and CONTINUATION frames of at most `piece` bytes of the block each.
inline std::string SplitHeaders(uint32_t stream, std::string_view block, size_t piece,
                                bool end_stream = false) {
  std::string out;
  for (size_t at = 0; at == 0 || at < block.size(); at += piece) {
    const bool last = at + piece >= block.size();
    out += RawFrame(at == 0 ? 1 : 9, (last ? kEndHeaders : 0) | (at == 0 && end_stream ? kEndStream : 0),
                    stream, block.substr(at, piece));
  }
  return out;
}

inline std::string SettingsFrame(const std::vector<std::pair<uint16_t, uint32_t>>& settings) {
  std::string payload;
  for (const auto& [id, value] : settings) payload += Be16(id) + Be32(value);
  return RawFrame(4, 0, 0, payload);
}
inline std::string SettingsAck() {
  return RawFrame(4, kAck, 0, {});
}
inline std::string PingFrame(std::string_view eight_bytes, bool ack = false) {
  return RawFrame(6, ack ? kAck : 0, 0, eight_bytes);
}
inline std::string WindowUpdateFrame(uint32_t stream, uint32_t increment) {
  return RawFrame(8, 0, stream, Be32(increment));
}
inline std::string ResetFrame(uint32_t stream, uint32_t error) {
  return RawFrame(3, 0, stream, Be32(error));
}
inline std::string GoawayFrame(uint32_t last_stream, uint32_t error, std::string_view debug = {}) {
  return RawFrame(7, 0, 0, Be32(last_stream) + Be32(error) + std::string(debug));
}

// A gRPC message: the 5-byte prefix and the payload.
inline std::string GrpcMessage(std::string_view message, bool compressed = false) {
  return std::string(1, compressed ? '\1' : '\0') + Be32(static_cast<uint32_t>(message.size())) +
         std::string(message);
}

// HPACK (RFC 7541) -----------------------------------------------------------------------------------------

// One direction's encoder: nghttp2's.
class HpackEncoder {
 public:
  explicit HpackEncoder(size_t max_table_bytes = 4096) {
    if (nghttp2_hd_deflate_new(&deflater_, max_table_bytes) != 0) throw std::bad_alloc();
  }
  ~HpackEncoder() { nghttp2_hd_deflate_del(deflater_); }
  HpackEncoder(const HpackEncoder&) = delete;
  HpackEncoder& operator=(const HpackEncoder&) = delete;

  // The peer has announced another SETTINGS_HEADER_TABLE_SIZE: the next block says so.
  void ChangeTableSize(size_t bytes) { nghttp2_hd_deflate_change_table_size(deflater_, bytes); }

  // never_indexed: as a client does with secrets; the table stays as it is.
  std::string Encode(const FieldList& fields, bool never_indexed = false) {
    std::vector<nghttp2_nv> nva;
    for (const auto& [name, value] : fields) {
      nghttp2_nv nv{};
      nv.name = reinterpret_cast<uint8_t*>(const_cast<char*>(name.data()));
      nv.namelen = name.size();
      nv.value = reinterpret_cast<uint8_t*>(const_cast<char*>(value.data()));
      nv.valuelen = value.size();
      nv.flags = never_indexed ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
      nva.push_back(nv);
    }
    std::string out(nghttp2_hd_deflate_bound(deflater_, nva.data(), nva.size()), '\0');
    const ssize_t n = nghttp2_hd_deflate_hd(deflater_, reinterpret_cast<uint8_t*>(out.data()), out.size(),
                                            nva.data(), nva.size());
    if (n < 0) throw std::runtime_error(nghttp2_strerror(static_cast<int>(n)));
    out.resize(static_cast<size_t>(n));
    return out;
  }

 private:
  nghttp2_hd_deflater* deflater_ = nullptr;
};

// Single instructions.
inline std::string HpackInteger(uint8_t first_bits, int prefix_bits, uint32_t value) {
  const uint32_t limit = (1u << prefix_bits) - 1;
  if (value < limit) return std::string(1, static_cast<char>(first_bits | value));
  std::string out(1, static_cast<char>(first_bits | limit));
  for (value -= limit; value >= 128; value >>= 7) out += static_cast<char>(0x80 | (value & 0x7F));
  return out + static_cast<char>(value);
}
inline std::string HpackText(std::string_view text) {
  return HpackInteger(0, 7, static_cast<uint32_t>(text.size())) + std::string(text);
}
inline std::string HpackIndexed(uint32_t index) {
  return HpackInteger(0x80, 7, index);
}
inline std::string HpackInsert(uint32_t name_index, std::string_view value) {
  return HpackInteger(0x40, 6, name_index) + HpackText(value);
}
inline std::string HpackInsert(std::string_view name, std::string_view value) {
  return "\x40" + HpackText(name) + HpackText(value);
}
inline std::string HpackLiteral(uint32_t name_index, std::string_view value) {
  return HpackInteger(0x00, 4, name_index) + HpackText(value);
}
inline std::string HpackLiteral(std::string_view name, std::string_view value) {
  return std::string(1, '\0') + HpackText(name) + HpackText(value);
}
inline std::string HpackSizeUpdate(uint32_t bytes) {
  return HpackInteger(0x20, 5, bytes);
}

// An encoder that makes a table entry of every field, as grpc-go does (nghttp2's own never indexes :path),
// without Huffman.
class IndexingEncoder {
 public:
  // static_names: a new value is sent under its name's index in the static table where there is one, as
  // grpc-go does; else under the newest entry of that name.
  explicit IndexingEncoder(bool static_names = false) : static_names_(static_names) {}

  std::string Encode(const FieldList& fields) {
    std::string out;
    for (const auto& field : fields) {
      const uint32_t fixed = StaticIndex(field);
      if (fixed != 0) {
        out += HpackIndexed(fixed);
        continue;
      }
      const auto at = std::find(table_.begin(), table_.end(), field);
      if (at != table_.end()) {
        out += HpackIndexed(62 + static_cast<uint32_t>(at - table_.begin()));
        continue;
      }
      const auto same_name = std::find_if(table_.begin(), table_.end(),
                                          [&](const auto& entry) { return entry.first == field.first; });
      const uint32_t static_name = static_names_ ? StaticName(field.first) : 0;
      out += static_name != 0 ? HpackInsert(static_name, field.second)
             : same_name == table_.end()
                 ? HpackInsert(field.first, field.second)
                 : HpackInsert(62 + static_cast<uint32_t>(same_name - table_.begin()), field.second);
      table_.push_front(field);
      bytes_ += field.first.size() + field.second.size() + 32;
      for (; bytes_ > 4096; table_.pop_back()) {
        bytes_ -= table_.back().first.size() + table_.back().second.size() + 32;
      }
    }
    return out;
  }

 private:
  // The entries of the static table that gRPC meets (RFC 7541 appendix A).
  static uint32_t StaticIndex(const std::pair<std::string, std::string>& field) {
    if (field.first == ":method" && field.second == "POST") return 3;
    if (field.first == ":scheme" && field.second == "http") return 6;
    if (field.first == ":status" && field.second == "200") return 8;
    return 0;
  }

  static uint32_t StaticName(const std::string& name) {
    if (name == ":authority") return 1;
    if (name == ":path") return 4;
    if (name == "content-type") return 31;
    if (name == "user-agent") return 58;
    return 0;
  }

  bool static_names_;
  std::deque<std::pair<std::string, std::string>> table_;
  size_t bytes_ = 0;
};

// What gRPC clients and servers send.
inline FieldList GrpcRequestHeaders(std::string_view path) {
  return {{":method", "POST"},
          {":scheme", "http"},
          {":path", std::string(path)},
          {":authority", "10.0.0.1:20160"},
          {"content-type", "application/grpc"},
          {"user-agent", "grpc-go/1.59.0"},
          {"te", "trailers"}};
}
inline FieldList GrpcResponseHeaders() {
  return {{":status", "200"}, {"content-type", "application/grpc"}};
}
inline FieldList GrpcTrailers(int status = 0, std::string_view message = {}) {
  return {{"grpc-status", std::to_string(status)}, {"grpc-message", std::string(message)}};
}

}  // namespace keytrail::testing
