#include "common/key_token.h"

#include <endian.h>
#include <sodium.h>

#include <cstring>

#include "common/key_codec.h"
#include "common/limits.h"
#include "common/whole_file.h"

namespace keytrail {

namespace {

constexpr std::string_view kMagic = "\xFFkt";
constexpr std::string_view kFileHeader = "keytrail-redact-secret-1\nsecret ";
constexpr uint32_t kValues = 1u << 16;
static_assert(crypto_shorthash_BYTES == 8 && crypto_shorthash_KEYBYTES == 16);

uint64_t Sip(const std::array<uint8_t, 16>& key, const uint8_t* bytes, size_t size) {
  uint64_t out;
  uint8_t hash[crypto_shorthash_BYTES];
  crypto_shorthash(hash, bytes, size, key.data());
  std::memcpy(&out, hash, sizeof out);
  return le64toh(out);
}

uint64_t SipText(const std::array<uint8_t, 16>& key, std::string_view text) {
  return Sip(key, reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

// A point of [low, high], both included, by the high bits of `random`.
uint32_t Pick(uint64_t random, uint32_t low, uint32_t high) {
  return low + static_cast<uint32_t>((random >> 32) * (uint64_t{high - low} + 1) >> 32);
}

}  // namespace

Result<RedactSecret> ReadRedactSecretFile(const std::string& path) {
  const Result<std::string> text = ReadWholeFile(path, limits::kMaxKeyFileBytes, FileTrust::kSecret);
  if (!text) return Error{text.error()};
  std::string_view rest = *text;
  if (!rest.starts_with(kFileHeader)) {
    return Error{"'" + path + "' is no secret for redaction; keytrail keys secret makes one"};
  }
  rest.remove_prefix(kFileHeader.size());
  if (!rest.empty() && rest.back() == '\n') rest.remove_suffix(1);
  const std::optional<std::string> bytes = FromHex(rest);
  RedactSecret secret;
  if (!bytes || bytes->size() != secret.bytes.size()) {
    return Error{"'" + path + "': no good 'secret'; the file is damaged"};
  }
  std::memcpy(secret.bytes.data(), bytes->data(), secret.bytes.size());
  return secret;
}

Result<RedactSecret> NewRedactSecret() {
  if (sodium_init() < 0) return Error{"no secret can be made: libsodium cannot be initialised"};
  RedactSecret secret;
  randombytes_buf(secret.bytes.data(), secret.bytes.size());
  return secret;
}

std::string RedactSecretText(const RedactSecret& secret) {
  return std::string(kFileHeader) + HexLower(Bytes(secret.bytes.data(), secret.bytes.size())) + "\n";
}

bool IsKeyToken(Bytes b) {
  return b.size() >= kKeyTokenPrefixBytes && AsText(b.first(kMagic.size())) == kMagic &&
         b[kKeyTokenPrefixBytes - 1] == 1 && (b.size() - kKeyTokenPrefixBytes) % 2 == 0;
}

std::string KeyTokenFingerprint(Bytes token) {
  return IsKeyToken(token) ? HexLower(token.subspan(kMagic.size(), kKeyTokenFingerprintBytes))
                           : std::string();
}

KeyTokens::KeyTokens(const RedactSecret& secret) {
  std::memcpy(chain_key_.data(), secret.bytes.data(), 16);
  std::memcpy(split_key_.data(), secret.bytes.data() + 16, 16);
  first_state_ = SipText(chain_key_, "keytrail key token 1");
  // Longer than what Draw hashes, so no draw is ever shown.
  const uint64_t fingerprint = SipText(split_key_, "keytrail fingerprint 1");
  token_ = kMagic;
  for (size_t i = 0; i < kKeyTokenFingerprintBytes; ++i) token_ += static_cast<char>(fingerprint >> (8 * i));
  token_ += '\1';
  states_.push_back(first_state_);
}

uint64_t KeyTokens::Next(uint64_t state, uint8_t byte) const {
  uint8_t in[9];
  std::memcpy(in, &state, 8);
  in[8] = byte;
  return Sip(chain_key_, in, sizeof in);
}

uint64_t KeyTokens::Draw(uint64_t state, uint16_t node) const {
  uint8_t in[10];
  std::memcpy(in, &state, 8);
  in[8] = static_cast<uint8_t>(node);
  in[9] = static_cast<uint8_t>(node >> 8);
  return Sip(split_key_, in, sizeof in);
}

// Nodes of the tree of splits are numbered as in a heap: 1 is the root, 256 + b the leaf of the byte b. Each
// half keeps at least as many values as it has bytes.
uint16_t KeyTokens::Map(uint64_t state, uint8_t byte) const {
  uint32_t low = 0;
  uint32_t high = kValues;
  uint16_t node = 1;
  for (uint32_t half = 128; half != 0; half /= 2) {
    const uint32_t split = Pick(Draw(state, node), low + half, high - half);
    const bool right = (byte & half) != 0;
    (right ? low : high) = split;
    node = static_cast<uint16_t>(2 * node + (right ? 1 : 0));
  }
  return static_cast<uint16_t>(Pick(Draw(state, node), low, high - 1));
}

std::optional<uint8_t> KeyTokens::Unmap(uint64_t state, uint16_t value) const {
  uint32_t low = 0;
  uint32_t high = kValues;
  uint16_t node = 1;
  for (uint32_t half = 128; half != 0; half /= 2) {
    const uint32_t split = Pick(Draw(state, node), low + half, high - half);
    const bool right = value >= split;
    (right ? low : high) = split;
    node = static_cast<uint16_t>(2 * node + (right ? 1 : 0));
  }
  if (Pick(Draw(state, node), low, high - 1) != value) return std::nullopt;
  return static_cast<uint8_t>(node & 0xFF);
}

Bytes KeyTokens::Token(Bytes key) {
  if (key.empty()) return {};
  size_t same = 0;
  while (same < key.size() && same < last_.size() && key[same] == static_cast<uint8_t>(last_[same])) ++same;
  last_.resize(same);
  states_.resize(same + 1);
  token_.resize(kKeyTokenPrefixBytes + 2 * same);
  for (size_t i = same; i < key.size(); ++i) {
    const uint16_t value = Map(states_[i], key[i]);
    token_ += static_cast<char>(value >> 8);
    token_ += static_cast<char>(value);
    states_.push_back(Next(states_[i], key[i]));
  }
  last_.assign(AsText(key));
  return AsBytes(token_);
}

std::optional<std::string> KeyTokens::Reveal(Bytes token) const {
  std::string key;
  if (token.empty()) return key;
  if (!IsKeyToken(token) ||
      AsText(token.first(kKeyTokenPrefixBytes)) != std::string_view(token_).substr(0, kKeyTokenPrefixBytes)) {
    return std::nullopt;
  }
  uint64_t state = first_state_;
  for (size_t at = kKeyTokenPrefixBytes; at < token.size(); at += 2) {
    const std::optional<uint8_t> byte = Unmap(state, static_cast<uint16_t>(token[at] << 8 | token[at + 1]));
    if (!byte) return std::nullopt;
    key += static_cast<char>(*byte);
    state = Next(state, *byte);
  }
  return key;
}

}  // namespace keytrail
