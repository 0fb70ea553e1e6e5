#include "tests/fuzz/http2_target.h"

#include <map>
#include <string>
#include <vector>

#include "agent/http2/http2_decoder.h"
#include "tests/fuzz/input.h"

namespace keytrail::fuzz {
namespace {

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct Record {
  enum class What : uint8_t { kBytes, kGap, kEnd };
  What what = What::kBytes;
  int direction = 0;
  TimeNs time;
  std::string bytes;
  uint64_t gap = 0;
};

std::vector<Record> ReadRecords(Input& input) {
  std::vector<Record> records;
  int64_t now = 1'700'000'000'000'000'000;
  while (!input.empty()) {
    const uint8_t what = input.Byte();
    now += (what >> 3 & 7) * 1'000'000;
    Record r;
    r.direction = what & 1;
    r.time = TimeNs{now};
    switch (what >> 1 & 3) {
      case 0:
      case 1:
        r.bytes = ToString(input.Take(input.Two()));
        break;
      case 2: {
        const uint8_t type = input.Byte();
        const uint8_t flags = input.Byte();
        const uint8_t stream = input.Byte();
        const Bytes payload = input.Take(input.Two());
        const size_t n = payload.size();
        r.bytes = {'\0',
                   static_cast<char>(n >> 8),
                   static_cast<char>(n),
                   static_cast<char>(type),
                   static_cast<char>(flags),
                   0,
                   0,
                   0,
                   static_cast<char>(stream)};
        r.bytes += AsText(payload);
        break;
      }
      default:
        r.gap = input.Two();
        r.what = r.gap == 0 ? Record::What::kEnd : Record::What::kGap;
    }
    records.push_back(std::move(r));
  }
  return records;
}

// Checks what stream_events.h promises and writes the events down.
class Checks final : public Http2Sink {
 public:
  std::string log;
  uint64_t fed = 0;  // bytes of the connection under way
  size_t told = 0;   // events of data

  // Every connection that was told has ended.
  bool idle() const { return !open_; }

  void OnHttp2(const ConnectionRef& connection, Protocol protocol, int client_direction, TimeNs) override {
    KEYTRAIL_REQUIRE(!open_);
    KEYTRAIL_REQUIRE(protocol == Protocol::kHttp2Start || protocol == Protocol::kHttp2Late);
    KEYTRAIL_REQUIRE(client_direction >= -1 && client_direction <= 1);
    open_ = true;
    serial_ = connection.serial;
    client_ = client_direction;
    Line("http2", protocol == Protocol::kHttp2Start, client_direction);
  }
  void OnClientKnown(const ConnectionRef& connection, int client_direction) override {
    CheckOpen(connection, 0);
    KEYTRAIL_REQUIRE(client_ == -1 && (client_direction == 0 || client_direction == 1));
    client_ = client_direction;
    Line("client", client_direction);
  }
  void OnHeaders(const ConnectionRef& connection, int direction, uint32_t stream, TimeNs first, TimeNs last,
                 const HeaderBlock& block, bool end_stream) override {
    CheckOpen(connection, direction);
    KEYTRAIL_REQUIRE(stream != 0 && !in_frame_[direction]);
    CheckTimes(first, last);
    std::string fields;
    bool unknown = false;
    for (const HeaderField& field : block.fields) {
      unknown = unknown || field.name.empty() || field.unknown_value;
      KEYTRAIL_REQUIRE(!field.name.empty() || field.unknown_value || field.slot == 0 || block.has_unknown);
      fields += std::string(field.name) + '\0' + (field.unknown_value ? "?" : std::string(field.value)) +
                '\0' + std::to_string(field.slot) + '\0';
    }
    if (block.undecodable) KEYTRAIL_REQUIRE(block.path.empty() && block.method.empty());
    KEYTRAIL_REQUIRE(block.grpc_status >= -1 && block.http_status >= -1);
    for (const std::string_view text : {block.method, block.path, block.authority, block.content_type,
                                        block.grpc_encoding, block.grpc_message}) {
      fields += std::string(text) + '\0';
    }
    fields += std::to_string(block.http_status) + ' ' + std::to_string(block.grpc_status);
    if (block.identity != 0) {
      const auto [known, added] = by_identity_[direction].emplace(block.identity, fields);
      KEYTRAIL_REQUIRE(known->second == fields);
    }
    Line("headers", direction, stream, first.ns, last.ns, block.undecodable, block.has_unknown, end_stream);
    log += fields + '\n';
  }
  void OnData(const ConnectionRef& connection, int direction, uint32_t stream, TimeNs first, TimeNs last,
              Bytes data, bool frame_end, bool end_stream) override {
    CheckOpen(connection, direction);
    KEYTRAIL_REQUIRE(stream != 0);
    KEYTRAIL_REQUIRE(frame_end || !end_stream);
    KEYTRAIL_REQUIRE(!in_frame_[direction] || stream == frame_stream_[direction]);
    CheckTimes(first, last);
    told_bytes_ += data.size();
    KEYTRAIL_REQUIRE(told_bytes_ <= fed);
    ++told;
    frame_data_[direction] += AsText(data);
    in_frame_[direction] = !frame_end;
    frame_stream_[direction] = stream;
    if (!frame_end) return;
    Line("data", direction, stream, first.ns, last.ns, end_stream);
    FlushData(direction);
  }
  void OnReset(const ConnectionRef& connection, int direction, uint32_t stream, TimeNs time,
               uint32_t error_code) override {
    CheckOpen(connection, direction);
    KEYTRAIL_REQUIRE(stream != 0 && !in_frame_[direction]);
    Line("reset", direction, stream, time.ns, error_code);
  }
  void OnGoaway(const ConnectionRef& connection, int direction, TimeNs time, uint32_t last_stream,
                uint32_t error_code) override {
    CheckOpen(connection, direction);
    KEYTRAIL_REQUIRE(!in_frame_[direction]);
    Line("goaway", direction, last_stream, time.ns, error_code);
  }
  void OnLoss(const ConnectionRef& connection, int direction, TimeNs time, uint64_t lost_bytes,
              uint32_t affected_stream) override {
    CheckOpen(connection, direction);
    if (affected_stream == 0) {
      FlushData(direction);
      in_frame_[direction] = false;
    } else {
      KEYTRAIL_REQUIRE(lost_bytes != 0);
      KEYTRAIL_REQUIRE(!in_frame_[direction] || affected_stream == frame_stream_[direction]);
    }
    Line("loss", direction, time.ns, lost_bytes, affected_stream);
  }
  void OnEnd(const ConnectionRef& connection, TimeNs, CloseReason) override {
    CheckOpen(connection, 0);
    open_ = false;
    for (int d = 0; d < 2; ++d) {
      FlushData(d);
      in_frame_[d] = false;
      by_identity_[d].clear();
    }
    told_bytes_ = 0;
    log += "end\n";
  }

 private:
  template <typename... Numbers>
  void Line(const char* what, Numbers... numbers) {
    log += what;
    ((log += ' ', log += std::to_string(numbers)), ...);
    log += '\n';
  }
  void FlushData(int direction) {
    if (!frame_data_[direction].empty()) log += frame_data_[direction] + '\n';
    frame_data_[direction].clear();
  }
  void CheckOpen(const ConnectionRef& connection, int direction) {
    KEYTRAIL_REQUIRE(open_ && connection.serial == serial_);
    KEYTRAIL_REQUIRE(direction == 0 || direction == 1);
  }
  static void CheckTimes(TimeNs first, TimeNs last) {
    KEYTRAIL_REQUIRE(first.known() && last.known() && first <= last);
  }

  bool open_ = false;
  uint64_t serial_ = 0;
  int client_ = -1;
  uint64_t told_bytes_ = 0;
  bool in_frame_[2] = {};
  uint32_t frame_stream_[2] = {};
  std::string frame_data_[2];
  std::map<uint64_t, std::string> by_identity_[2];
};

// Pieces of the length that a small generator gives: `cut` 0 leaves the bytes whole, 1 gives single bytes.
class Cutter {
 public:
  explicit Cutter(uint8_t cut) : cut_(cut), state_(cut) {}
  size_t Next(size_t rest) {
    if (cut_ == 0) return rest;
    if (cut_ == 1) return 1;
    state_ = state_ * 1'103'515'245 + 12'345;
    return std::min<size_t>(rest, 1 + (state_ >> 16) % cut_);
  }

 private:
  uint8_t cut_;
  uint32_t state_;
};

std::string Decode(const std::vector<Record>& records, uint8_t cut, bool from_start, bool syn_seen) {
  Checks checks;
  Counters counters;
  Http2Decoder decoder(checks, counters);
  Cutter cutter(cut);
  FlowKey key;
  key.a.port = 40000;
  key.b.port = 20160;
  ConnectionRef ref;
  ref.key = &key;
  ref.slot = 3;
  ref.opened_by = syn_seen ? 0 : -1;
  uint64_t offsets[2] = {};
  bool open = false;
  TimeNs now{1'700'000'000'000'000'000};
  const auto send = [&](int direction, std::string_view bytes) {
    checks.fed += bytes.size();
    for (size_t at = 0; at < bytes.size();) {
      const size_t n = cutter.Next(bytes.size() - at);
      // Exactly as large as the piece, for AddressSanitizer.
      const std::vector<uint8_t> exact(bytes.begin() + static_cast<ptrdiff_t>(at),
                                       bytes.begin() + static_cast<ptrdiff_t>(at + n));
      decoder.OnBytes(ref, direction, now, offsets[direction], exact);
      offsets[direction] += n;
      at += n;
    }
  };
  const auto begin = [&] {
    if (open) return;
    open = true;
    offsets[0] = offsets[1] = 0;
    checks.fed = 0;
    decoder.OnOpen(ref, now);
    if (from_start) send(0, kPreface);
  };
  const auto end = [&](CloseReason reason) {
    if (!open) return;
    open = false;
    decoder.OnClose(ref, now, reason);
    KEYTRAIL_REQUIRE(checks.idle());
    ++ref.serial;
  };
  for (const Record& r : records) {
    now = r.time;
    switch (r.what) {
      case Record::What::kBytes:
        begin();
        send(r.direction, r.bytes);
        break;
      case Record::What::kGap:
        begin();
        decoder.OnGap(ref, r.direction, now, offsets[r.direction], r.gap);
        offsets[r.direction] += r.gap;
        break;
      case Record::What::kEnd:
        end(r.direction == 0 ? CloseReason::kFin : CloseReason::kReplaced);
        break;
    }
  }
  end(CloseReason::kInputEnd);
  return checks.log;
}

std::string Printable(std::string text) {
  for (char& c : text) {
    if (c != '\n' && (c < ' ' || c > '~')) c = c == '\0' ? '|' : '?';
  }
  return text;
}

// Where frames were searched for: what is found first depends on how many bytes are there, so a run is only
// compared up to there.
size_t EndOfCertainty(const std::string& log) {
  return std::min({log.size(), log.find("loss "), log.find("http2 0 ")});
}

}  // namespace

void RunHttp2(const uint8_t* data, size_t size, bool from_start) {
  Input input(data, size);
  const uint8_t how = input.Byte();
  const uint8_t cut = how & 0x7F;
  const bool syn_seen = from_start || (how & 0x80) != 0;
  const std::vector<Record> records = ReadRecords(input);
  const std::string whole = Decode(records, 0, from_start, syn_seen);
  if (cut == 0) return;
  const std::string cut_up = Decode(records, cut, from_start, syn_seen);
  // Without the SYN other protocols are told by what segments begin with.
  if (!syn_seen) return;
  const size_t certain = std::min(EndOfCertainty(whole), EndOfCertainty(cut_up));
  const bool searched = EndOfCertainty(whole) < whole.size() || EndOfCertainty(cut_up) < cut_up.size();
  const bool same = searched ? whole.compare(0, certain, cut_up, 0, certain) == 0 : whole == cut_up;
  if (!same) {
    const size_t at = static_cast<size_t>(
        std::mismatch(whole.begin(), whole.end(), cut_up.begin(), cut_up.end()).first - whole.begin());
    std::fprintf(stderr, "the same:\n%s\nwhole:\n%s\ncut:\n%s\n", Printable(whole.substr(0, at)).c_str(),
                 Printable(whole.substr(at, 2000)).c_str(), Printable(cut_up.substr(at, 2000)).c_str());
  }
  KEYTRAIL_REQUIRE(same);
}

}  // namespace keytrail::fuzz
