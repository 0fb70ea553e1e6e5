// The files that an agent reads before it gives up its rights: keys, the secret of tokens, the schema.

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "agent/doctor/checks.h"
#include "agent/ship/collector_probe.h"
#include "common/curve_pair.h"
#include "common/key_token.h"
#include "common/shell_word.h"

namespace keytrail {

namespace {

enum class Half { kNone, kSecret, kPublic };

Half HalfOf(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line == "keytrail-secret-key-1"   ? Half::kSecret
         : line == "keytrail-public-key-1" ? Half::kPublic
                                           : Half::kNone;
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
}

// "tikv1" of "/etc/keytrail/tikv1.key".
std::string NameOf(const std::string& path) {
  const std::string file = path.substr(path.rfind('/') + 1);
  const size_t dot = file.rfind('.');
  const std::string name = dot == std::string::npos ? file : file.substr(0, dot);
  return IsKeyName(name) ? name : "NAME";
}

// The same key's other file, if it is there.
std::string Sibling(const std::string& path, const std::string& ending) {
  const std::string other = FolderOf(path) + "/" + NameOf(path) + ending;
  return access(other.c_str(), F_OK) == 0 ? other : "";
}

// What is wrong with the file itself and how to mend it; nothing: it can be read and trusted, or is told
// elsewhere.
bool FileIsWrong(const char* option, const std::string& path, mode_t forbidden, const char* mode,
                 const Check& if_missing, CheckList& list) {
  Check check{if_missing.name, CheckLevel::kFault, std::string(option) + " '" + path + "'", {}, {}};
  struct stat about {};
  if (stat(path.c_str(), &about) != 0) {
    check.found += std::string(": ") + std::strerror(errno);
    check.command = errno == ENOENT ? if_missing.command : "";
    check.fix =
        errno == ENOENT ? if_missing.fix : "let the user that starts the agent into the folders above it";
  } else if (!S_ISREG(about.st_mode)) {
    check.found += " is no file";
    check.fix = if_missing.fix;
  } else if (about.st_uid != geteuid() && about.st_uid != 0) {
    check.found += " belongs to user " + std::to_string(about.st_uid) + ", neither to root nor to user " +
                   std::to_string(geteuid()) + " that starts the agent";
    check.command = "chown " + std::to_string(geteuid()) + " " + ShellWord(path);
    check.fix = "if it may be trusted";
  } else if ((about.st_mode & forbidden) != 0) {
    const bool written = (about.st_mode & forbidden & 022) != 0;
    check.found += std::string(" can be ") + (written ? "changed" : "read") + " by other users";
    check.command = std::string("chmod ") + mode + " " + ShellWord(path);
    check.fix =
        written ? "" : "who has read it can speak as this host: a new key is safer where others log in";
  } else if (access(path.c_str(), R_OK) != 0) {
    check.found +=
        std::string(" cannot be read by user ") + std::to_string(geteuid()) + ", which starts the agent";
    check.command = "chown " + std::to_string(geteuid()) + " " + ShellWord(path);
  } else {
    return false;
  }
  list.Add(check);
  return true;
}

// The halves stand where they should. False: told.
bool HalvesAreRight(const DoctorOptions& options, CheckList& list) {
  const Half own = HalfOf(options.key_file);
  const Half server = HalfOf(options.server_key_file);
  Check check{"keys", CheckLevel::kFault, {}, {}, {}};
  if (own == Half::kPublic && server == Half::kSecret) {
    check.found = "--key names a public key and --server-key a secret one: they are swapped";
    check.fix = "start it with --key " + ShellWord(options.server_key_file) + " --server-key " +
                ShellWord(options.key_file) + ", if '" + options.server_key_file +
                "' is this agent's own; a collector's secret key has no business on this host";
  } else if (own == Half::kPublic) {
    const std::string other = Sibling(options.key_file, ".key");
    check.found = "--key '" + options.key_file + "' is a public key; this agent's secret one is wanted";
    check.fix = other.empty() ? "give the .key file that keytrail keys new made"
                              : "start it with --key " + ShellWord(other);
  } else if (server == Half::kSecret) {
    const std::string other = Sibling(options.server_key_file, ".pub");
    check.found = "--server-key '" + options.server_key_file +
                  "' is a secret key; the collector's public one is wanted";
    check.fix =
        other.empty() ? "give the collector's .pub file" : "start it with --server-key " + ShellWord(other);
  } else {
    return true;
  }
  list.Add(check);
  return false;
}

void ReadKeys(const DoctorOptions& options, KeysLook& look, CheckList& list) {
  const Check no_key{
      "keys",
      CheckLevel::kFault,
      {},
      "keytrail keys new " + NameOf(options.key_file) + " --dir " + ShellWord(FolderOf(options.key_file)),
      "then keytrail keys admit on the collector's host, with the .pub file that this makes"};
  const Check no_server{"keys",
                        CheckLevel::kFault,
                        {},
                        {},
                        "copy the collector's .pub file to '" + options.server_key_file + "'"};
  // Before the modes: a public key that everybody may read is told as what it is.
  if (!HalvesAreRight(options, list)) return;
  const bool own_wrong = FileIsWrong("--key", options.key_file, 077, "600", no_key, list);
  const bool server_wrong = FileIsWrong("--server-key", options.server_key_file, 022, "644", no_server, list);
  if (own_wrong || server_wrong) return;
  const Result<SecretKey> own = ReadSecretKeyFile(options.key_file);
  const Result<PublicKey> server = ReadPublicKeyFile(options.server_key_file);
  Check damaged{"keys", CheckLevel::kFault, {}, {}, {}};
  if (!own) {
    damaged.found = "--key: " + own.error();
    damaged.fix = "copy it here again, or make another with keytrail keys new, and have that admitted";
    list.Add(damaged);
  }
  if (!server) {
    damaged.found = "--server-key: " + server.error();
    damaged.fix = no_server.fix;
    list.Add(damaged);
  }
  if (!own || !server) return;
  const Status pair = CheckKeyPair(*own, options.key_file);
  if (!pair.ok()) {
    damaged.found = "--key: " + pair.error();
    damaged.fix = "copy it here again, or make another with keytrail keys new, and have that admitted";
    return list.Add(damaged);
  }
  if (own->public_key.key == server->key) {
    damaged.found = "--server-key '" + options.server_key_file + "' is this agent's own public key";
    damaged.fix = "give the collector's .pub file";
    return list.Add(damaged);
  }
  look.keys = AgentKeys{*own, *server};
  list.Ok("keys", "the agent is '" + own->public_key.name + "' (" + own->public_key.key +
                      "), its collector '" + server->name + "'");
}

}  // namespace

KeysLook CheckKeys(const DoctorOptions& options, CheckList& list) {
  KeysLook look;
  look.redaction.mode = options.redact ? Redaction::Mode::kOn : Redaction::Mode::kOff;
  if (!options.key_file.empty()) {
    ReadKeys(options, look, list);
    look.good = look.keys.has_value();
  }
  if (!options.redact) return look;
  const Check missing{
      "redaction",
      CheckLevel::kFault,
      {},
      {},
      "copy it from a host that has it: all hosts need the same secret; keytrail keys secret makes the "
      "first one"};
  if (FileIsWrong("--redact-secret", options.redact_secret, 077, "600", missing, list)) return look;
  const Result<RedactSecret> secret = ReadRedactSecretFile(options.redact_secret);
  if (!secret) {
    list.Add({"redaction", CheckLevel::kFault, "--redact-secret: " + secret.error(), {}, missing.fix});
    return look;
  }
  look.redaction.secret = KeyTokens(*secret).Fingerprint();
  list.Ok("redaction", "the secret can be read; its fingerprint is " + look.redaction.secret +
                           ", and must be that of all hosts");
  return look;
}

void CheckSchema(const DoctorOptions& options, CheckList& list) {
  const Status loaded = options.load_schema();
  if (loaded.ok()) return list.Ok("schema", "the .proto files are understood");
  list.Add({"schema",
            CheckLevel::kFault,
            loaded.error(),
            {},
            "give the kvproto of the cluster's release with --proto, or leave it out: a schema is built in"});
}

}  // namespace keytrail
