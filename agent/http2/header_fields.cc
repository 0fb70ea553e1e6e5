#include "agent/http2/header_fields.h"

#include <charconv>

namespace keytrail {
namespace {

// -1 if it is not a plain small number.
int ParseNumber(std::string_view text) {
  int value = -1;
  const char* const end = text.data() + text.size();
  if (text.empty() || text.size() > 6 || text[0] == '-') return -1;
  const auto [at, error] = std::from_chars(text.data(), end, value);
  return error == std::errc{} && at == end ? value : -1;
}

void SetOnce(std::string_view& to, std::string_view value) {
  if (to.data() == nullptr) to = value;
}

void PickField(const HeaderField& field, HeaderBlock& block) {
  const std::string_view name = field.name;
  switch (name.size()) {
    case 5:
      if (name == ":path") SetOnce(block.path, field.value);
      break;
    case 7:
      if (name == ":method") {
        SetOnce(block.method, field.value);
      } else if (name == ":status" && block.http_status < 0) {
        block.http_status = ParseNumber(field.value);
      }
      break;
    case 10:
      if (name == ":authority") SetOnce(block.authority, field.value);
      break;
    case 11:
      if (name == "grpc-status" && block.grpc_status < 0) block.grpc_status = ParseNumber(field.value);
      break;
    case 12:
      if (name == "content-type") {
        SetOnce(block.content_type, field.value);
      } else if (name == "grpc-message") {
        SetOnce(block.grpc_message, field.value);
      }
      break;
    case 13:
      if (name == "grpc-encoding") SetOnce(block.grpc_encoding, field.value);
      break;
    default:
      break;
  }
}

}  // namespace

size_t PickGrpcFields(std::span<const HeaderField> fields, HeaderBlock& block) {
  size_t unknown = 0;
  block.fields = fields;
  for (const HeaderField& field : fields) {
    if (field.name.empty() || field.unknown_value) {
      ++unknown;
    } else {
      PickField(field, block);
    }
  }
  block.has_unknown = unknown != 0;
  return unknown;
}

int SenderOf(const HeaderBlock& block) {
  if (block.http_status >= 0) return 1;
  if (!block.method.empty() || !block.path.empty() || !block.authority.empty()) return 0;
  for (const HeaderField& field : block.fields) {
    if (field.name == ":scheme") return 0;
  }
  return -1;
}

}  // namespace keytrail
