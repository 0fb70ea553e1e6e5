// What is read from files and options that somebody else wrote: key files, addresses, statements in a script.
//
// Input: 1 byte that says which, then its bytes.
#include <sys/stat.h>

#include <fstream>
#include <string>

#include "collector/receive/admitted_keys.h"
#include "collector/receive/receiver.h"
#include "common/curve_key.h"
#include "common/flow_key.h"
#include "tests/fuzz/input.h"
#include "tests/support/scratch_dir.h"

namespace keytrail::fuzz {
namespace {

void Write(const std::string& path, Bytes bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.close();
  KEYTRAIL_REQUIRE(::chmod(path.c_str(), 0600) == 0);
}

void SecretKeys(const std::string& path, Bytes bytes) {
  Write(path, bytes);
  const Result<SecretKey> key = ReadSecretKeyFile(path);
  if (!key.ok()) {
    KEYTRAIL_REQUIRE(key.error().find(path) != std::string::npos);
    return;
  }
  KEYTRAIL_REQUIRE(IsKeyName(key->public_key.name) && IsZ85Key(key->public_key.key) && IsZ85Key(key->secret));
  const std::string text = SecretKeyText(*key);
  Write(path, AsBytes(text));
  const Result<SecretKey> again = ReadSecretKeyFile(path);
  KEYTRAIL_REQUIRE(again.ok() && again->secret == key->secret &&
                   again->public_key.key == key->public_key.key);
}

void PublicKeys(const std::string& path, Bytes bytes) {
  Write(path, bytes);
  const Result<PublicKey> key = ReadPublicKeyFile(path);
  if (!key.ok()) {
    KEYTRAIL_REQUIRE(key.error().find(path) != std::string::npos);
    return;
  }
  KEYTRAIL_REQUIRE(IsKeyName(key->name) && IsZ85Key(key->key));
  KEYTRAIL_REQUIRE(PublicKeyText(*key).find(key->key) != std::string::npos);
}

void Addresses(const std::string& text) {
  if (const Result<IpAddress> address = ParseAddress(text); address.ok()) {
    const Result<IpAddress> again = ParseAddress(FormatAddress(*address));
    KEYTRAIL_REQUIRE(again.ok() && *again == *address);
  }
  if (const Result<Endpoint> endpoint = ParseEndpoint(text); endpoint.ok()) {
    const Result<Endpoint> again = ParseEndpoint(FormatEndpoint(*endpoint));
    KEYTRAIL_REQUIRE(again.ok() && *again == *endpoint);
  }
  const Status open = CheckListenAddress(text, true);
  // What may be listened to without keys may be with them.
  KEYTRAIL_REQUIRE(open.ok() || !CheckListenAddress(text, false).ok());
}

// A folder of admitted keys with one file in it.
void Folder(const std::string& folder, Bytes bytes) {
  ::mkdir(folder.c_str(), 0700);
  Write(folder + "/one.pub", bytes);
  const Result<KeyFolder> keys = ReadKeyFolder(folder);
  if (!keys.ok()) KEYTRAIL_REQUIRE(!keys.error().empty());
}

}  // namespace
}  // namespace keytrail::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keytrail;
  using namespace keytrail::fuzz;
  static auto* dir = new ScratchDir;
  Input input(data, size);
  switch (input.Byte() % 4) {
    case 0:
      SecretKeys(*dir / "some.key", input.Rest());
      break;
    case 1:
      PublicKeys(*dir / "some.pub", input.Rest());
      break;
    case 2:
      Addresses(ToString(input.Rest()));
      break;
    default:
      Folder(*dir / "admitted", input.Rest());
      break;
  }
  return 0;
}
