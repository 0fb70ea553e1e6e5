// Key tokens: what leaves a host instead of a key with `--redact on`.
//
// A token stands for a key in the form in which keys are compared (encoded, or as it is for RawKV V1). Tokens
// of one secret keep order, prefixes, equality and so containment; the empty key (unbounded) stays empty.
//
//   token = FF 'k' 't', 5 bytes fingerprint of the secret, 01, then two bytes for each byte of the key
//
// For each prefix p of the key the secret gives a strictly increasing function from a byte to 16 bits, drawn
// by splitting the codomain at random points (SipHash-2-4, libsodium). The order holds by construction,
// whatever the hash gives. The ninth byte is no marker of a memcomparable group: a token never decodes as an
// encoded key. The fingerprint tells tokens of two secrets apart; they cannot be compared.
//
// Told by a token: the length of the key, and its order, equality and common prefixes with other tokens.
//
// KeyTokens is not thread-safe (it remembers the last key); the rest are functions without state.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/key_codec.h"
#include "common/result.h"

namespace keytrail {

struct RedactSecret {
  std::array<uint8_t, 32> bytes{};
};

inline constexpr size_t kKeyTokenPrefixBytes = 9;
inline constexpr size_t kKeyTokenFingerprintBytes = 5;

// The file: "keytrail-redact-secret-1", then "secret " and 64 hex digits, a line each. Error: path, reason;
// others than the owner must not be able to read it.
Result<RedactSecret> ReadRedactSecretFile(const std::string& path);
// Error: the system gives no random bytes.
Result<RedactSecret> NewRedactSecret();
std::string RedactSecretText(const RedactSecret& secret);

// Begins as tokens do.
bool IsKeyToken(Bytes b);
// What tells tokens of different secrets apart, as hex; of a token, or empty if it is none.
std::string KeyTokenFingerprint(Bytes token);

class KeyTokens {
 public:
  explicit KeyTokens(const RedactSecret& secret);

  // Valid until the next call.
  Bytes Token(Bytes key);
  // As KeyTokenFingerprint of its tokens.
  std::string Fingerprint() const { return HexLower(AsBytes(token_).subspan(3, kKeyTokenFingerprintBytes)); }
  // The key, or nothing if it is no token of this secret.
  std::optional<std::string> Reveal(Bytes token) const;

 private:
  uint64_t Next(uint64_t state, uint8_t byte) const;
  uint16_t Map(uint64_t state, uint8_t byte) const;
  std::optional<uint8_t> Unmap(uint64_t state, uint16_t value) const;
  uint64_t Draw(uint64_t state, uint16_t node) const;

  std::array<uint8_t, 16> chain_key_{};
  std::array<uint8_t, 16> split_key_{};
  uint64_t first_state_ = 0;
  // The last key, the state before each of its bytes, and its token: keys come in order, as a rule.
  std::string last_;
  std::vector<uint64_t> states_;
  std::string token_;
};

}  // namespace keytrail
