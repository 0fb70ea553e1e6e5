#include "common/curve_key.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "common/limits.h"
#include "common/whole_file.h"

namespace keytrail {

namespace {

constexpr std::string_view kSecretHeader = "keytrail-secret-key-1";
constexpr std::string_view kPublicHeader = "keytrail-public-key-1";
constexpr std::string_view kZ85 =
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
constexpr size_t kZ85KeySize = 40;

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// The fields behind the header, all of them known and there once.
Result<std::map<std::string, std::string>> ReadFields(const std::string& path, const std::string& text,
                                                      std::string_view header,
                                                      const std::vector<std::string>& wanted) {
  const std::vector<std::string> lines = Lines(text);
  const auto wrong = [&](size_t line, const std::string& why) {
    return Error{"'" + path + "', line " + std::to_string(line) + ": " + why};
  };
  const std::string first = lines.empty() ? "" : lines[0];
  if (first != header) {
    const bool wants_secret = header == kSecretHeader;
    if (first == kSecretHeader) {
      return Error{"'" + path +
                   "' is a secret key, and a public one is wanted here (the .pub file beside it)"};
    }
    if (first == kPublicHeader) {
      return Error{"'" + path + "' is a public key, and a secret one is wanted here (the .key file)"};
    }
    if (first.starts_with("keytrail-") && first.find("-key-") != std::string::npos) {
      return wrong(1, "a key file of another version of keytrail");
    }
    return wrong(1, std::string("no ") + (wants_secret ? "secret" : "public") +
                        " key of keytrail; `keytrail keys new NAME` makes one");
  }
  std::map<std::string, std::string> fields;
  for (size_t i = 1; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const size_t space = lines[i].find(' ');
    const std::string field = lines[i].substr(0, space);
    if (space == std::string::npos || std::find(wanted.begin(), wanted.end(), field) == wanted.end()) {
      return wrong(i + 1, "not understood; the file is damaged");
    }
    const std::string value = lines[i].substr(space + 1);
    if (!fields.emplace(field, value).second) return wrong(i + 1, "a second '" + field + "'");
    const bool good = field == "name" ? IsKeyName(value) : IsZ85Key(value);
    if (!good) return wrong(i + 1, "no good '" + field + "'; the file is damaged");
  }
  for (const std::string& field : wanted) {
    if (!fields.contains(field))
      return Error{"'" + path + "': the line '" + field + "' is missing; the file is damaged"};
  }
  return fields;
}

}  // namespace

bool IsZ85Key(std::string_view text) {
  if (text.size() != kZ85KeySize) return false;
  for (size_t group = 0; group < text.size(); group += 5) {
    uint64_t value = 0;
    for (const char c : text.substr(group, 5)) {
      const size_t digit = kZ85.find(c);
      if (digit == std::string_view::npos) return false;
      value = value * 85 + digit;
    }
    if (value > UINT32_MAX) return false;
  }
  return true;
}

bool IsKeyName(std::string_view text) {
  constexpr std::string_view kFirst = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  if (text.empty() || text.size() > limits::kMaxKeyNameBytes ||
      kFirst.find(text[0]) == std::string_view::npos) {
    return false;
  }
  for (const char c : text) {
    if (kFirst.find(c) == std::string_view::npos && c != '.' && c != '_' && c != '-') return false;
  }
  return true;
}

std::string Z85Key(const unsigned char (&bytes)[32]) {
  std::string text;
  for (size_t i = 0; i < sizeof bytes; i += 4) {
    uint32_t value =
        uint32_t{bytes[i]} << 24 | uint32_t{bytes[i + 1]} << 16 | uint32_t{bytes[i + 2]} << 8 | bytes[i + 3];
    char group[5];
    for (size_t digit = sizeof group; digit-- > 0; value /= 85) group[digit] = kZ85[value % 85];
    text.append(group, sizeof group);
  }
  return text;
}

Result<SecretKey> ReadSecretKeyFile(const std::string& path) {
  const Result<std::string> text = ReadWholeFile(path, limits::kMaxKeyFileBytes, FileTrust::kSecret);
  // A public key that is readable by all is told as what it is.
  if (!text) {
    const Result<PublicKey> other = ReadPublicKeyFile(path);
    return Error{other.ok()
                     ? "'" + path + "' is a public key, and a secret one is wanted here (the .key file)"
                     : text.error()};
  }
  const Result<std::map<std::string, std::string>> fields =
      ReadFields(path, *text, kSecretHeader, {"name", "public", "secret"});
  if (!fields) return Error{fields.error()};
  return SecretKey{{fields->at("name"), fields->at("public")}, fields->at("secret")};
}

Result<PublicKey> ReadPublicKeyFile(const std::string& path) {
  const Result<std::string> text = ReadWholeFile(path, limits::kMaxKeyFileBytes, FileTrust::kOnlyOwnerWrites);
  if (!text) return Error{text.error()};
  const Result<std::map<std::string, std::string>> fields =
      ReadFields(path, *text, kPublicHeader, {"name", "public"});
  if (!fields) return Error{fields.error()};
  return PublicKey{fields->at("name"), fields->at("public")};
}

std::string SecretKeyText(const SecretKey& key) {
  return std::string(kSecretHeader) + "\nname " + key.public_key.name + "\npublic " + key.public_key.key +
         "\nsecret " + key.secret + "\n";
}

std::string PublicKeyText(const PublicKey& key) {
  return std::string(kPublicHeader) + "\nname " + key.name + "\npublic " + key.key + "\n";
}

}  // namespace keytrail
