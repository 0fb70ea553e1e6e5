#include "agent/grpc/request_headers.h"

namespace keytrail::grpc {

namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

bool IsGrpcContentType(std::string_view content_type, bool& foreign_coding) {
  constexpr std::string_view kGrpc = "application/grpc";
  if (!content_type.starts_with(kGrpc)) return false;
  const std::string_view rest = content_type.substr(kGrpc.size());
  if (rest.empty() || rest[0] == ';') return true;
  if (rest[0] != '+') return false;
  foreign_coding = rest.substr(0, rest.find(';')) != "+proto";
  return true;
}

RequestHeaders ReadRequestHeaders(const HeaderBlock& block, MethodDirectory& methods) {
  RequestHeaders result;
  result.identity = block.identity;
  result.unreadable = block.undecodable;
  const bool hidden = block.has_unknown || block.undecodable;
  if (!block.path.empty()) result.entry = methods.Find(block.path, result.path_over_cap);
  result.path_slot = block.path_slot;
  result.former_slot = block.former_slot;
  bool over_cap = false;
  if (!block.former_path.empty()) result.former_entry = methods.Find(block.former_path, over_cap);
  for (const HeaderField& field : block.fields) {
    const std::string_view name = field.name;
    if (name == "tikv-forwarded-host" || name == "pd-forwarded-host") {
      result.forwarded = true;
    } else if (name == "pd-allow-follower-handle") {
      result.follower_allowed = true;
    }
  }
  if (!block.content_type.empty()) {
    result.grpc = IsGrpcContentType(block.content_type, result.foreign_coding) ? Answer::kYes : Answer::kNo;
  } else if (!hidden) {
    result.grpc = Answer::kNo;
  } else if (result.entry != nullptr && result.entry->method != nullptr) {
    result.grpc = Answer::kYes;  // nobody else has these paths
  }
  if (!block.grpc_encoding.empty()) {
    result.encoding = EncodingByName(block.grpc_encoding);
  } else {
    result.encoding = hidden ? Encoding::kUnknown : Encoding::kIdentity;
  }
  return result;
}

void DecodeGrpcMessage(std::string_view text, std::string& out) {
  out.clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      const int high = HexDigit(text[i + 1]);
      const int low = HexDigit(text[i + 2]);
      if (high >= 0 && low >= 0) {
        out += static_cast<char>(high * 16 + low);
        i += 2;
        continue;
      }
    }
    out += text[i];
  }
}

}  // namespace keytrail::grpc
