// Drives an Http2Decoder with bytes of one connection and writes down what it tells, one line an event, with
// adjacent data of a frame joined: two ways of cutting the same bytes must give the same lines.
#pragma once

#include <string>
#include <vector>

#include "agent/http2/http2_decoder.h"
#include "common/bytes.h"

namespace keytrail::testing {

inline std::string Printable(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text.substr(0, 60)) {
    const auto b = static_cast<uint8_t>(c);
    if (b >= 0x20 && b < 0x7F && b != '\\') {
      out += c;
    } else {
      out += "\\x";
      out += kHex[b >> 4];
      out += kHex[b & 15];
    }
  }
  if (text.size() > 60) {
    out += "...(" + std::to_string(text.size()) + ":" + std::to_string(std::hash<std::string_view>{}(text)) +
           ")";
  }
  return out;
}

// All lines, one after the other.
inline std::string Joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

class EventLog final : public Http2Sink {
 public:
  std::vector<std::string> lines;
  // What the tests count.
  int http2 = 0;
  uint64_t lost_bytes = 0;
  bool log_times = false;
  bool log_fields = true;

  void OnHttp2(const ConnectionRef&, Protocol protocol, int client, TimeNs) override {
    ++http2;
    lines.push_back(std::string("http2 ") + (protocol == Protocol::kHttp2Start ? "start" : "late") +
                    " client " + std::to_string(client));
  }
  void OnClientKnown(const ConnectionRef&, int client) override {
    lines.push_back("client " + std::to_string(client));
  }
  void OnHeaders(const ConnectionRef&, int direction, uint32_t stream, TimeNs first, TimeNs last,
                 const HeaderBlock& block, bool end_stream) override {
    std::string line = Begin(direction, stream, "headers");
    if (log_times) line += " @" + std::to_string(first.ns) + "-" + std::to_string(last.ns);
    if (block.undecodable) line += " undecodable";
    for (const HeaderField& field : block.fields) {
      if (!log_fields) break;
      line += " [" + (field.name.empty() ? "?" : std::string(field.name)) + ": " +
              (field.unknown_value ? "?" : Printable(field.value)) + "]";
      if (field.slot != 0) line += "#" + std::to_string(field.slot);
    }
    if (end_stream) line += " END";
    lines.push_back(line);
  }
  void OnData(const ConnectionRef&, int direction, uint32_t stream, TimeNs first, TimeNs last, Bytes data,
              bool frame_end, bool end_stream) override {
    data_[direction] += ToString(data);
    if (!frame_end) return;
    std::string line = Begin(direction, stream, "data");
    if (log_times) line += " @" + std::to_string(first.ns) + "-" + std::to_string(last.ns);
    lines.push_back(line + " " + Printable(data_[direction]) + (end_stream ? " END" : ""));
    data_[direction].clear();
  }
  void OnReset(const ConnectionRef&, int direction, uint32_t stream, TimeNs, uint32_t error) override {
    lines.push_back(Begin(direction, stream, "reset") + " " + std::to_string(error));
  }
  void OnGoaway(const ConnectionRef&, int direction, TimeNs, uint32_t last, uint32_t error) override {
    lines.push_back(Begin(direction, 0, "goaway") + " " + std::to_string(last) + " " + std::to_string(error));
  }
  void OnLoss(const ConnectionRef&, int direction, TimeNs, uint64_t lost, uint32_t stream) override {
    lost_bytes += lost;
    if (stream == 0 && !data_[direction].empty()) {
      lines.push_back(Begin(direction, 0, "cut") + " " + Printable(data_[direction]));
      data_[direction].clear();
    }
    lines.push_back(Begin(direction, stream, "loss") + " " + std::to_string(lost));
  }
  void OnEnd(const ConnectionRef&, TimeNs, CloseReason) override { lines.push_back("end"); }

 private:
  static std::string Begin(int direction, uint32_t stream, const char* what) {
    return std::string(direction == 0 ? ">" : "<") + std::to_string(stream) + " " + what;
  }

  std::string data_[2];
};

// One connection through a decoder of its own.
class Session {
 public:
  explicit Session(int opened_by = 0) : decoder_(log, counters) {
    ref_.opened_by = static_cast<int8_t>(opened_by);
    ref_.key = &key_;
    decoder_.OnOpen(ref_, TimeNs{now_ns});
  }

  EventLog log;
  Counters counters;
  int64_t now_ns = 0;

  void Send(int direction, Bytes bytes) {
    decoder_.OnBytes(ref_, direction, TimeNs{++now_ns}, offsets_[direction], bytes);
    offsets_[direction] += bytes.size();
  }
  void Send(int direction, std::string_view text) { Send(direction, AsBytes(text)); }
  void Gap(int direction, uint64_t length) {
    decoder_.OnGap(ref_, direction, TimeNs{++now_ns}, offsets_[direction], length);
    offsets_[direction] += length;
  }
  const std::vector<std::string>& Close() {
    decoder_.OnClose(ref_, TimeNs{++now_ns}, CloseReason::kFin);
    return log.lines;
  }
  uint64_t Count(Counter counter) const { return counters.Get(counter); }

 private:
  FlowKey key_;
  ConnectionRef ref_;
  uint64_t offsets_[2] = {};
  Http2Decoder decoder_;
};

}  // namespace keytrail::testing
