// Makes and checks pairs of transport keys, with libzmq. Functions without state.
#pragma once

#include <string>

#include "common/curve_key.h"
#include "common/result.h"

namespace keytrail {

// Error: this libzmq was built without CURVE.
Result<SecretKey> NewKeyPair(const std::string& name);

// Error if the secret does not belong to the public key. `path` is for the message.
Status CheckKeyPair(const SecretKey& key, const std::string& path);

}  // namespace keytrail
