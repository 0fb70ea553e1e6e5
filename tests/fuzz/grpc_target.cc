// HTTP/2 events through the gRPC room, as agent/http2/stream_events.h allows them.
//
// Input: 1 byte: bit 0 joined late, bits 1-2 the client's direction (0, 1, or not known), bit 3
// GrpcOptions::all, bit 4 keep_messages, bit 5 wants_messages. Then events of a byte `what` (bits 0-2 kind,
// bit 3 direction, bit 4 end of the stream, bits 5-7 time since the one before) and a byte for the stream,
// stream id = 2n + 1:
//   0 request headers   1 byte number of the schema's method, 1 byte (bits 0-2 slot, bit 3 the method's
//   number
//                       has 256 more, bits 4-7 how :path is told, see MakeRequest), 1 byte forms of the
//                       others
//   1 answer's headers  1 byte forms, 1 byte status
//   2 data              1 byte cut, 2 bytes length, bytes as they stand
//   3 a message         1 byte cut (bit 7: compressed), 2 bytes length, body
//   4 BatchCommands     1 byte cut, 1 byte count, for each: 1 byte id, 1 byte number, 1 byte length, message
//   5 the same message  1 byte cut, 1 byte how often (modulo 16), 1 byte length, body
//   6 loss              2 bytes length; with bit 4: within a frame of the stream
//   7 other             1 byte: reset, goaway, client known, end of the connection; the next one takes its
//   slot
// Cut: the frame's data comes in pieces of this many bytes, 0 in one; bit 6: the frame stays open, so that
// the next data of the stream belongs to it.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/grpc/grpc_decoder.h"
#include "tests/fuzz/call_checks.h"
#include "tests/fuzz/input.h"

namespace keytrail::fuzz {
namespace {

constexpr int64_t kSteps[] = {0, 1'000, 1'000'000, 50'000'000, 1'000'000'000, 11'000'000'000, 0, 0};

void PutVarint(std::string& out, uint64_t v) {
  for (; v >= 0x80; v >>= 7) out += static_cast<char>(v | 0x80);
  out += static_cast<char>(v);
}
void PutText(std::string& out, uint32_t number, std::string_view text) {
  PutVarint(out, uint64_t{number} << 3 | 2);
  PutVarint(out, text.size());
  out += text;
}
std::string Framed(std::string_view body, bool compressed) {
  const auto n = static_cast<uint32_t>(body.size());
  std::string out{static_cast<char>(compressed), static_cast<char>(n >> 24), static_cast<char>(n >> 16),
                  static_cast<char>(n >> 8), static_cast<char>(n)};
  return out + std::string(body);
}

// The fields of one block with what HeaderBlock picks out of them.
class Block {
 public:
  void Add(std::string_view name, std::string_view value) {
    HeaderField f;
    f.name = name;
    f.value = value;
    fields_.push_back(f);
    if (name == ":method") block_.method = value;
    if (name == ":path") block_.path = value;
    if (name == ":authority") block_.authority = value;
    if (name == "content-type") block_.content_type = value;
    if (name == "grpc-encoding") block_.grpc_encoding = value;
    if (name == "grpc-message") block_.grpc_message = value;
  }
  void AddUnknown(std::string_view name, uint32_t slot) {
    HeaderField f;
    f.name = name;
    f.unknown_value = true;
    f.slot = slot;
    fields_.push_back(f);
    block_.has_unknown = true;
  }
  HeaderBlock& get() {
    block_.fields = fields_;
    return block_;
  }
  // 0: the client's, 1: the server's, -1: nobody knows.
  int sender() const {
    if (block_.http_status >= 0) return 1;
    return block_.method.empty() && block_.path.empty() ? -1 : 0;
  }
  // Equal for equal fields.
  std::string Text() const {
    std::string text;
    for (const HeaderField& f : fields_) {
      text += std::string(f.name) + '\0' + std::string(f.value) + '\0' + std::to_string(f.slot) + '\0';
    }
    return text + std::to_string(block_.grpc_status) + ' ' + std::to_string(block_.http_status) +
           (block_.undecodable ? "!" : "");
  }

 private:
  std::vector<HeaderField> fields_;
  HeaderBlock block_;
};

class Run {
 public:
  explicit Run(Input& input)
      : input_(input),
        setup_(input.Byte()),
        options_{(setup_ & 8) != 0, (setup_ & 16) != 0, (setup_ & 32) != 0},
        calls_(options_),
        decoder_(TheSchema(), options_, calls_, counters_) {
    key_.a.port = 40000;
    key_.b.port = 20160;
    ref_.key = &key_;
    ref_.slot = 1;
  }

  void Go() {
    while (!input_.empty()) Step();
    End(CloseReason::kInputEnd);
    (void)decoder_.counts_from_start();
    (void)decoder_.counts_late();
    (void)decoder_.sub_counts_from_start();
    calls_.Finish();
  }

 private:
  void Step() {
    const uint8_t what = input_.Byte();
    now_ += kSteps[what >> 5];
    Begin();
    const int d = what >> 3 & 1;
    const bool end_stream = (what & 16) != 0;
    const uint32_t stream = (input_.Byte() & 31u) * 2 + 1;
    switch (what & 7) {
      case 0:
        MakeRequest(d, stream, end_stream);
        return;
      case 1:
        MakeAnswer(d, stream, end_stream);
        return;
      case 2: {
        const uint8_t cut = input_.Byte();
        Data(d, stream, AsText(input_.Take(input_.Two())), cut, end_stream);
        return;
      }
      case 3: {
        const uint8_t cut = input_.Byte();
        Data(d, stream, Framed(AsText(input_.Take(input_.Two())), (cut & 0x80) != 0), cut, end_stream);
        return;
      }
      case 4: {
        const uint8_t cut = input_.Byte();
        std::string commands;
        std::string ids;
        for (int n = input_.Byte() % 8; n > 0; --n) {
          PutVarint(ids, input_.Byte());
          const uint32_t number = input_.Byte();
          std::string command;
          PutText(command, number == 0 ? 255 : number, AsText(input_.Take(input_.Byte())));
          PutText(commands, 1, command);
        }
        if (!ids.empty()) PutText(commands, 2, ids);
        Data(d, stream, Framed(commands, false), cut, end_stream);
        return;
      }
      case 5: {
        const uint8_t cut = input_.Byte();
        const int times = input_.Byte() % 16;
        const std::string message = Framed(AsText(input_.Take(input_.Byte())), false);
        for (int i = 0; i < times; ++i) Data(d, stream, message, cut, end_stream && i + 1 == times);
        return;
      }
      case 6: {
        const uint32_t length = input_.Two();
        // Only the frame under way can have lost bytes of its own.
        const bool within = end_stream && length != 0 && (frame_[d] == 0 || frame_[d] == stream);
        if (within) frame_[d] = stream;
        if (!within) frame_[d] = 0;
        decoder_.OnLoss(ref_, d, TimeNs{now_}, length, within ? stream : 0);
        return;
      }
      default:
        MakeOther(d, stream);
    }
  }

  void MakeRequest(int d, uint32_t stream, bool end_stream) {
    const uint8_t number = input_.Byte();
    const uint8_t what = input_.Byte();
    const uint8_t forms = input_.Byte();
    const uint32_t slot = 1 + (what & 7u);
    const int kind = what >> 4;
    const Schema& schema = TheSchema();
    Block block;
    if (kind != 14) block.Add(":method", "POST");
    if (kind < 6) {
      block.Add(":path", schema.method((number + (what & 8u) * 32) % schema.method_count()).path);
    } else if (kind == 6) {
      block.Add(":path", number & 1 ? "/foreign.Service/One" : "/foreign.Service/Two");
    } else if (kind == 7) {
      block.get().undecodable = true;
    } else if (kind < 12) {
      block.AddUnknown(kind & 1 ? ":path" : "", slot);
    } else if (kind == 12) {
      block.AddUnknown("", 0);
    }
    const bool hidden = block.get().has_unknown || block.get().undecodable;
    static constexpr const char* kTypes[] = {"application/grpc", "application/grpc+json", "text/html"};
    if ((forms & 3) < 3) {
      block.Add("content-type", kTypes[forms & 3]);
    } else if (hidden) {
      block.AddUnknown("content-type", slot + 8);
    }
    static constexpr const char* kEncodings[] = {"gzip", "identity", "deflate", "snappy"};
    if (forms & 4) block.Add("grpc-encoding", kEncodings[forms >> 3 & 3]);
    if (forms & 32) block.Add("tikv-forwarded-host", "10.0.0.9:20160");
    if (forms & 64) block.Add("pd-allow-follower-handle", "");
    Headers(d, stream, block, (forms & 128) != 0, end_stream);
  }

  void MakeAnswer(int d, uint32_t stream, bool end_stream) {
    const uint8_t forms = input_.Byte();
    const uint8_t status = input_.Byte();
    Block block;
    if (forms & 1) block.get().http_status = forms & 2 ? 200 : status * 4;
    if (forms & 4) block.Add("content-type", forms & 2 ? "application/grpc" : "text/html");
    if (forms & 8) block.get().grpc_status = status & 31;
    if (forms & 16) block.Add("grpc-message", forms & 2 ? "50%25%zz%4" : "lost");
    if (forms & 32) block.Add("grpc-encoding", forms & 2 ? "gzip" : "identity");
    if (forms & 64) block.AddUnknown(forms & 2 ? "grpc-status" : "", status & 7);
    if (forms == 255) block.get().undecodable = true;
    Headers(d, stream, block, (forms & 128) != 0, end_stream);
  }

  void MakeOther(int d, uint32_t stream) {
    switch (input_.Byte() & 3) {
      case 0:
        CloseFrame(d);
        decoder_.OnReset(ref_, d, stream, TimeNs{now_}, 8);
        return;
      case 1:
        CloseFrame(d);
        decoder_.OnGoaway(ref_, d, TimeNs{now_}, stream, 0);
        return;
      case 2:
        if (client_ >= 0) return;
        client_ = d;
        decoder_.OnClientKnown(ref_, d);
        return;
      default:
        End(d == 0 ? CloseReason::kFin : CloseReason::kReset);
    }
  }

  void Headers(int d, uint32_t stream, Block& block, bool with_identity, bool end_stream) {
    CloseFrame(d);
    // Who the client is is told before the block that says so.
    if (client_ < 0 && block.sender() >= 0) {
      client_ = block.sender() == 0 ? d : 1 - d;
      decoder_.OnClientKnown(ref_, client_);
    }
    HeaderBlock& told = block.get();
    if (with_identity && !told.undecodable) {
      told.identity = identities_[d].emplace(block.Text(), identities_[d].size() + 1).first->second;
    }
    decoder_.OnHeaders(ref_, d, stream, TimeNs{now_}, TimeNs{now_}, told, end_stream);
  }

  void Data(int d, uint32_t stream, std::string_view bytes, uint8_t cut, bool end_stream) {
    if (frame_[d] != stream) CloseFrame(d);
    const bool stays_open = (cut & 0x40) != 0;
    const size_t piece = cut & 0x3F;
    const TimeNs first{now_};
    do {
      const size_t n = piece == 0 ? bytes.size() : std::min(piece, bytes.size());
      // Exactly as large as the piece, for AddressSanitizer.
      const std::vector<uint8_t> exact(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
      bytes.remove_prefix(n);
      const bool frame_end = bytes.empty() && !stays_open;
      decoder_.OnData(ref_, d, stream, first, TimeNs{now_}, exact, frame_end, frame_end && end_stream);
    } while (!bytes.empty());
    frame_[d] = stays_open ? stream : 0;
  }

  void CloseFrame(int d) {
    if (frame_[d] == 0) return;
    decoder_.OnData(ref_, d, frame_[d], TimeNs{now_}, TimeNs{now_}, {}, true, false);
    frame_[d] = 0;
  }

  void Begin() {
    if (open_) return;
    open_ = true;
    static constexpr int kClients[] = {0, 1, -1, -1};
    client_ = kClients[setup_ >> 1 & 3];
    const bool late = (setup_ & 1) != 0;
    // Who sent the preface is the client.
    if (!late && client_ < 0) client_ = 0;
    decoder_.OnHttp2(ref_, late ? Protocol::kHttp2Late : Protocol::kHttp2Start, client_, TimeNs{now_});
  }

  void End(CloseReason reason) {
    if (!open_) return;
    open_ = false;
    decoder_.OnEnd(ref_, TimeNs{now_}, reason);
    ++ref_.serial;
    for (int d = 0; d < 2; ++d) {
      frame_[d] = 0;
      identities_[d].clear();
    }
  }

  Input& input_;
  const uint8_t setup_;
  const GrpcOptions options_;
  Counters counters_;
  CallChecks calls_;
  GrpcDecoder decoder_;
  FlowKey key_;
  ConnectionRef ref_;
  bool open_ = false;
  int client_ = -1;
  int64_t now_ = 1'700'000'000'000'000'000;
  uint32_t frame_[2] = {};  // the stream whose DATA frame is under way, or 0
  std::map<std::string, uint64_t> identities_[2];
};

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  keytrail::fuzz::Input input(data, size);
  keytrail::fuzz::Run(input).Go();
  return 0;
}
