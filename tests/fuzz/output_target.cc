// Records as lines for people and for programs: whatever a stranger wrote, a JSON line is one JSON object,
// and a line of text sends nothing to a terminal but text.
//
// Input: 1 byte (bit 0 full, bit 1 raw, bit 2 hex_keys, bits 3-4 kind of the call), 1 byte what was not seen,
// 1 byte flags, 1 byte length and bytes of the method's name, 1 byte number of a command, 1 byte length and
// bytes of the grpc-message, 2 bytes method of the schema whose message types are used, 2 bytes length and
// bytes of the request, the response.
#include <nlohmann/json.hpp>

#include <algorithm>

#include "agent/ship/json_output.h"
#include "agent/ship/text_output.h"
#include "tests/fuzz/call_checks.h"
#include "tests/fuzz/input.h"

namespace keytrail::fuzz {
namespace {

// Nothing is written there: the lines are looked at in the writer's buffer.
std::FILE* Nowhere() {
  static std::FILE* const file = std::fopen("/dev/null", "w");
  KEYTRAIL_REQUIRE(file != nullptr);
  return file;
}

void CheckText(const std::string& lines) {
  const bool fit = std::all_of(lines.begin(), lines.end(), [](char c) {
    return c == '\n' || (static_cast<uint8_t>(c) >= 0x20 && c != 0x7F);
  });
  if (!fit) std::fprintf(stderr, "%s\n", lines.c_str());
  KEYTRAIL_REQUIRE(fit);
  KEYTRAIL_REQUIRE(lines.empty() || lines.back() == '\n');
}

void CheckJson(const std::string& line) {
  KEYTRAIL_REQUIRE(!line.empty() && line.find('\n') == line.size() - 1);
  const nlohmann::json parsed = nlohmann::json::parse(line, nullptr, false);
  KEYTRAIL_REQUIRE(parsed.is_object());
}

struct Walked {
  std::vector<uint8_t> message;
  MessageFacts facts;
  MessageType type = kNoType;

  Walked(Input& input, MessageType message_type) : type(message_type) {
    const Bytes bytes = input.Take(input.Two());
    message.assign(bytes.begin(), bytes.end());
    TheSchema().Walk(type, message, facts);
  }
};

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  const Schema& schema = TheSchema();
  Input input(data, size);
  const uint8_t how = input.Byte();
  const uint8_t unseen = input.Byte();
  const uint8_t flags = input.Byte();
  const auto text = [&] { return AsText(input.Take(input.Byte())); };

  CallRecord call;
  static constexpr CallKind kKinds[] = {CallKind::kUnary, CallKind::kSub, CallKind::kMessage,
                                        CallKind::kStream};
  call.kind = kKinds[how >> 3 & 3];
  call.method = text();
  call.method_from = call.method.empty() ? MethodFrom::kUnknown : MethodFrom::kHeader;
  // The names of commands are the schema's, not a stranger's.
  const uint8_t command = input.Byte();
  if (call.kind == CallKind::kSub) call.command = schema.FindBatchCommand(command, true).name;
  call.grpc_message = text();
  call.incomplete = unseen;
  call.client.address.family = flags & 1 ? 6 : 4;
  call.server = call.client;
  call.client_known = (flags & 2) == 0;
  call.reset = (flags & 4) != 0;
  if (flags & 8) call.request_id = unseen * uint64_t{0x0101010101010101};
  if (flags & 16) call.grpc_status = flags >> 4;
  if (flags & 32) call.http_status = 200 + unseen;
  if ((unseen & kRequestNotSeen) == 0) call.req_first = call.req_last = TimeNs{1'700'000'000'000'000'000};
  if ((unseen & kResponseNotSeen) == 0) call.resp_first = call.resp_last = TimeNs{1'700'000'001'000'000'000};

  const Method& method = schema.method(input.Two() % schema.method_count());
  const Walked request(input, method.request);
  const Walked response(input, method.response);
  if ((unseen & kRequestNotSeen) == 0) {
    call.request = &request.facts;
    call.request_message = request.message;
  }
  if ((unseen & kResponseNotSeen) == 0) {
    call.response = &response.facts;
    call.response_message = response.message;
  }

  LineWriter json_lines(Nowhere());
  JsonOutput json(schema, {(how & 1) != 0, (how & 2) != 0}, json_lines);
  json.OnCall(call, request.type, response.type);
  // A long one has been flushed already.
  if (!json_lines.buffer().empty()) CheckJson(json_lines.buffer());

  LineWriter text_lines(Nowhere());
  TextOutput people(schema, {(how & 1) != 0, (how & 2) != 0, (how & 4) != 0}, text_lines);
  for (const Walked* walked : {&request, &response}) {
    MessageEvent event;
    event.call = &call;
    event.is_response = walked == &response;
    event.facts = &walked->facts;
    event.type = walked->type;
    event.message = walked->message;
    people.OnMessage(event);
    CheckText(text_lines.buffer());
  }
  people.OnCall(call, request.type, response.type);
  CheckText(text_lines.buffer());
  std::fflush(Nowhere());
  return 0;
}
