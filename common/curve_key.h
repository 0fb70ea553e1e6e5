// Keys of the transport between agents and collector (CurveZMQ, https://rfc.zeromq.org/spec/25 and 26), and
// the files in which they are kept.
//
// A key is 32 bytes, written as 40 characters of Z85 (https://rfc.zeromq.org/spec/32). Files are text:
//
//   keytrail-secret-key-1                   keytrail-public-key-1
//   name tikv1                              name tikv1
//   public (40 characters)                  public (40 characters)
//   secret (40 characters)
//
// The first is mode 0600 and stays on its host, the second is for everybody. Functions without state. It is
// not checked here that a secret belongs to its public key (common/curve_pair.h does, for who has
// libzmq).
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"

namespace keytrail {

struct PublicKey {
  std::string name;  // IsKeyName
  std::string key;   // Z85
};

struct SecretKey {
  PublicKey public_key;
  std::string secret;  // Z85
};

// An agent's keys, and the collector's that it will talk to and no other.
struct AgentKeys {
  SecretKey own;
  PublicKey collector;
};

// 40 characters that stand for 32 bytes in Z85.
bool IsZ85Key(std::string_view text);
// Letters, digits, '.', '_' and '-', at most 64, the first a letter or digit: fit for a file's name.
bool IsKeyName(std::string_view text);

// The key of 32 bytes as Z85.
std::string Z85Key(const unsigned char (&bytes)[32]);

// Error: path, reason and how to mend it. Others than the owner must not be able to read a secret key, or to
// change a public one.
Result<SecretKey> ReadSecretKeyFile(const std::string& path);
Result<PublicKey> ReadPublicKeyFile(const std::string& path);

std::string SecretKeyText(const SecretKey& key);
std::string PublicKeyText(const PublicKey& key);

}  // namespace keytrail
