#include "common/curve_pair.h"

#include <zmq.h>

namespace keytrail {

Result<SecretKey> NewKeyPair(const std::string& name) {
  char public_key[41];
  char secret[41];
  if (zmq_curve_keypair(public_key, secret) != 0) {
    return Error{std::string("no key can be made: libzmq was built without CURVE (") +
                 zmq_strerror(zmq_errno()) + ")"};
  }
  return SecretKey{{name, public_key}, secret};
}

Status CheckKeyPair(const SecretKey& key, const std::string& path) {
  char public_key[41];
  if (zmq_curve_public(public_key, key.secret.c_str()) != 0) {
    return Error{"'" + path + "': " + zmq_strerror(zmq_errno())};
  }
  if (key.public_key.key == public_key) return Done{};
  return Error{"'" + path + "': the secret does not belong to the public key; the file is damaged"};
}

}  // namespace keytrail
