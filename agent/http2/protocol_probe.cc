#include "agent/http2/protocol_probe.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "agent/http2/frame.h"

namespace keytrail {
namespace {

// An HTTP/1 head longer than this is not waited for.
constexpr size_t kMaxHeadBytes = 8192;
constexpr std::string_view kMethods[] = {"GET ",     "POST ",  "PUT ",     "HEAD ", "DELETE ",
                                         "OPTIONS ", "PATCH ", "CONNECT ", "TRACE "};

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// `text` is no longer than `whole` and its beginning.
bool IsBeginningOf(std::string_view text, std::string_view whole) {
  return text.size() < whole.size() && StartsWith(whole, text);
}

char Lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

bool EqualIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return Lower(x) == Lower(y); });
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// The value of a header of an HTTP/1 head; empty if it is not there.
std::string_view HeaderValue(std::string_view head, std::string_view name) {
  size_t at = head.find("\r\n");
  while (at != std::string_view::npos && at + 2 < head.size()) {
    const size_t next = head.find("\r\n", at + 2);
    const std::string_view line = head.substr(at + 2, next == std::string_view::npos ? next : next - at - 2);
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos && EqualIgnoringCase(line.substr(0, colon), name)) {
      return Trim(line.substr(colon + 1));
    }
    at = next;
  }
  return {};
}

bool ListHolds(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    if (EqualIgnoringCase(Trim(list.substr(0, comma)), token)) return true;
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
  }
  return false;
}

Probe ProbeRequestHead(std::string_view text) {
  const size_t end = text.find("\r\n\r\n");
  if (end == std::string_view::npos) {
    return {text.size() < kMaxHeadBytes ? Opening::kNeedMore : Opening::kHttp1, 0};
  }
  const std::string_view head = text.substr(0, end);
  if (!ListHolds(HeaderValue(head, "upgrade"), "h2c")) return {Opening::kHttp1, 0};
  size_t body = 0;
  const std::string_view length = HeaderValue(head, "content-length");
  std::from_chars(length.data(), length.data() + length.size(), body);
  if (body > kMaxHeadBytes) return {Opening::kHttp1, 0};
  return {Opening::kUpgrade, end + 4 + body};
}

}  // namespace

bool BeginsTlsRecord(Bytes b) {
  return b.size() >= 5 && b[0] >= 0x14 && b[0] <= 0x17 && b[1] == 3 && b[2] <= 4 &&
         LoadBe16(b.data() + 3) <= 16384 + 256 && LoadBe16(b.data() + 3) > 0;
}

bool BeginsHttp1(Bytes bytes) {
  const std::string_view text = AsText(bytes).substr(0, kMaxHeadBytes);
  if (text.size() >= 13 && (StartsWith(text, "HTTP/1.1 ") || StartsWith(text, "HTTP/1.0 "))) {
    return text[9] >= '1' && text[9] <= '5' && text[12] == ' ';
  }
  for (const std::string_view method : kMethods) {
    if (!StartsWith(text, method)) continue;
    const std::string_view line = text.substr(0, text.find("\r\n"));
    return line.size() < text.size() && line.size() > 9 &&
           StartsWith(line.substr(line.size() - 9), " HTTP/1.");
  }
  return false;
}

Probe ProbeClient(Bytes bytes) {
  const std::string_view text = AsText(bytes);
  if (StartsWith(text, kClientPreface)) return {Opening::kPreface, kClientPreface.size()};
  if (IsBeginningOf(text, kClientPreface)) return {};
  for (const std::string_view method : kMethods) {
    if (IsBeginningOf(text, method)) return {};
    if (StartsWith(text, method)) return ProbeRequestHead(text);
  }
  if (bytes[0] == 0x16 && bytes.size() < 5) return {};
  if (bytes[0] == 0x16 && BeginsTlsRecord(bytes)) return {Opening::kTls, 0};
  return {Opening::kOther, 0};
}

Probe ProbeUpgradeAnswer(Bytes bytes) {
  constexpr std::string_view kSwitching = "HTTP/1.1 101";
  const std::string_view text = AsText(bytes);
  if (IsBeginningOf(text, kSwitching)) return {};
  if (!StartsWith(text, kSwitching)) return {Opening::kHttp1, 0};
  const size_t end = text.find("\r\n\r\n");
  if (end != std::string_view::npos) return {Opening::kUpgrade, end + 4};
  return {text.size() < kMaxHeadBytes ? Opening::kNeedMore : Opening::kHttp1, 0};
}

}  // namespace keytrail
