// `keytrail keys`: makes the keys of agents and collectors, and says which agents a collector admits.

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <memory>

#include <nlohmann/json.hpp>

#include "collector/cli/commands.h"
#include "collector/cli/terminal.h"
#include "collector/receive/admitted_keys.h"
#include "common/curve_key.h"
#include "common/curve_pair.h"
#include "common/key_codec.h"
#include "common/key_token.h"
#include "common/redact_marks.h"
#include "common/whole_file.h"

namespace keytrail {

namespace {

struct KeysArguments {
  std::string name;
  std::string folder = ".";
  std::string admitted;
  std::string secret_file;
  std::string key;
  std::string input = "-";
  bool unmark = false;
  std::vector<std::string> files;
  std::vector<std::string> names;
  bool json = false;
};

std::string FormatUtcSeconds(int64_t ns) {
  const std::time_t seconds = ns / 1'000'000'000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32] = {};
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

int FailKeys(const std::string& message) {
  return Fail("keys: " + message);
}

// NAME.key and NAME.pub. What is there already stays: a second run mends what the first could not finish.
int RunNew(const KeysArguments& arguments) {
  if (!IsKeyName(arguments.name)) {
    return FailKeys(
        "'" + arguments.name +
        "' is no name for a key: letters, digits, '.', '_' and '-' (at most 64), the first a letter or"
        " digit");
  }
  const std::filesystem::path folder(arguments.folder);
  const std::string secret_path = (folder / (arguments.name + ".key")).string();
  const std::string public_path = (folder / (arguments.name + ".pub")).string();
  std::error_code missing;
  const bool there = std::filesystem::exists(std::filesystem::symlink_status(secret_path, missing));
  Result<SecretKey> key = there ? ReadSecretKeyFile(secret_path) : NewKeyPair(arguments.name);
  if (!key) return FailKeys(key.error());
  if (there) {
    const Status pair = CheckKeyPair(*key, secret_path);
    if (!pair.ok()) return FailKeys(pair.error());
  }
  const bool public_there = std::filesystem::exists(std::filesystem::symlink_status(public_path, missing));
  if (public_there) {
    const Result<PublicKey> other = ReadPublicKeyFile(public_path);
    if (!other) return FailKeys(other.error());
    if (other->key != key->public_key.key) {
      return FailKeys("'" + public_path +
                      "' is the public key of another pair, and it stays; take another name, or"
                      " remove it first");
    }
  }
  if (!there) {
    const Status written = WriteWholeFile(secret_path, SecretKeyText(*key), 0600, IfThere::kFail);
    if (!written.ok()) return FailKeys(written.error());
  }
  if (!public_there) {
    const Status written = WriteWholeFile(public_path, PublicKeyText(key->public_key), 0644, IfThere::kFail);
    if (!written.ok()) return FailKeys(written.error());
  }
  const std::string text = (there ? "'" + secret_path + "' is there already" : "made '" + secret_path + "'") +
                           " (secret, stays on its host) and '" + public_path + "'\npublic key " +
                           key->public_key.key + "\n";
  return WriteOut(text) ? kExitDone : FailKeys("standard output: cannot write");
}

int TellChange(const Result<KeyChange>& change, const std::string& subject) {
  if (!change) return FailKeys(subject + change.error());
  return WriteOut(change->text + "\n") ? kExitDone : FailKeys("standard output: cannot write");
}

int RunAdmit(const KeysArguments& arguments) {
  int status = kExitDone;
  for (const std::string& file : arguments.files) {
    const Result<PublicKey> key = ReadPublicKeyFile(file);
    const int one =
        key ? TellChange(AdmitKey(arguments.admitted, *key), "'" + file + "': ") : FailKeys(key.error());
    if (one != kExitDone) status = one;
  }
  return status;
}

int RunRevoke(const KeysArguments& arguments) {
  int status = kExitDone;
  for (const std::string& name : arguments.names) {
    const int one = TellChange(RevokeKey(arguments.admitted, name), "");
    if (one != kExitDone) status = one;
  }
  return status;
}

int RunList(const KeysArguments& arguments) {
  const Result<KeyFolder> folder = ReadKeyFolder(arguments.admitted);
  if (!folder) return FailKeys(folder.error());
  nlohmann::ordered_json json;
  json["keys"] = nlohmann::json::array();
  std::string text;
  size_t widest = 4;
  for (const AdmittedKey& key : folder->keys) widest = std::max(widest, key.name.size());
  const auto padded = [](std::string word, size_t width) {
    word.resize(std::max(width, word.size()), ' ');
    return word + "  ";
  };
  text = padded("name", widest) + padded("state", 8) + padded("public key", 40) + "since (UTC)\n";
  for (const AdmittedKey& key : folder->keys) {
    const std::string state = key.revoked ? "revoked" : "admitted";
    const std::string since = FormatUtcSeconds(key.changed_ns);
    text += padded(key.name, widest) + padded(state, 8) + padded(key.public_key, 40) + since + "\n";
    json["keys"].push_back(
        {{"name", key.name}, {"state", state}, {"public_key", key.public_key}, {"since", since}});
  }
  json["problems"] = folder->problems;
  if (!WriteOut(arguments.json ? json.dump() + "\n" : text)) return FailKeys("standard output: cannot write");
  for (const std::string& problem : folder->problems) FailKeys(problem);
  return folder->problems.empty() ? kExitDone : kExitIncomplete;
}

int RunSecret(const KeysArguments& arguments) {
  const Result<RedactSecret> secret = NewRedactSecret();
  if (!secret) return FailKeys(secret.error());
  const Status written =
      WriteWholeFile(arguments.secret_file, RedactSecretText(*secret), 0600, IfThere::kFail);
  if (!written.ok()) return FailKeys(written.error());
  return WriteOut("made '" + arguments.secret_file +
                  "' (secret; the same file on all hosts of an investigation)\n")
             ? kExitDone
             : FailKeys("standard output: cannot write");
}

int RunToken(const KeysArguments& arguments) {
  const Result<RedactSecret> secret = ReadRedactSecretFile(arguments.secret_file);
  if (!secret) return FailKeys(secret.error());
  const std::optional<std::string> key = FromHex(arguments.key);
  if (!key) return FailKeys("'" + arguments.key + "' is no key: hex of its encoded form");
  KeyTokens tokens(*secret);
  const Bytes token = tokens.Token(AsBytes(*key));
  return WriteOut(HexLower(token) + "\n") ? kExitDone : FailKeys("standard output: cannot write");
}

int RunReveal(const KeysArguments& arguments) {
  const Result<RedactSecret> secret = ReadRedactSecretFile(arguments.secret_file);
  if (!secret) return FailKeys(secret.error());
  const std::optional<std::string> token = FromHex(arguments.key);
  const std::optional<std::string> key = token ? KeyTokens(*secret).Reveal(AsBytes(*token)) : std::nullopt;
  if (!key) return FailKeys("'" + arguments.key + "' is no token of this secret");
  return WriteOut(HexLower(AsBytes(*key)) + "  " + EncodedKeyText(AsBytes(*key)) + "\n")
             ? kExitDone
             : FailKeys("standard output: cannot write");
}

int RunStrip(const KeysArguments& arguments) {
  const bool from_stdin = arguments.input == "-";
  const auto close_input = [&](std::FILE* file) {
    if (!from_stdin) (void)std::fclose(file);
  };
  const std::string where = from_stdin ? "standard input" : "'" + arguments.input + "'";
  std::FILE* const input = from_stdin ? stdin : std::fopen(arguments.input.c_str(), "rb");
  if (input == nullptr) return FailKeys(where + ": " + std::strerror(errno));
  MarkStripper stripper(arguments.unmark ? MarkStripper::Leave::kText : MarkStripper::Leave::kPlaceholder);
  std::string piece(size_t{1} << 16, '\0');
  std::string out;
  for (size_t got; (got = std::fread(piece.data(), 1, piece.size(), input)) != 0; out.clear()) {
    stripper.Feed(std::string_view(piece).substr(0, got), out);
    if (!WriteOut(out)) {
      close_input(input);
      return FailKeys("standard output: cannot write");
    }
  }
  const int problem = std::ferror(input) != 0 ? errno : 0;
  close_input(input);
  const bool whole = stripper.Finish(out);
  if (!WriteOut(out)) return FailKeys("standard output: cannot write");
  if (problem != 0) return FailKeys(where + ": " + std::strerror(problem));
  if (whole) return kExitDone;
  (void)FailKeys(
      where +
      " ends inside a marked text (it was cut off?); everything behind its mark was taken for that text");
  return kExitIncomplete;
}

}  // namespace

void AddKeysCommand(CLI::App& app, int& exit_status) {
  auto arguments = std::make_shared<KeysArguments>();
  CLI::App* keys =
      app.add_subcommand("keys", "Make keys for agents and collectors, and admit or revoke them");
  keys->require_subcommand(1);
  keys->footer(
      "Between hosts agents and collector need keys: `keys new` on each host (or in one place), `keys admit` "
      "where the\n"
      "collector is; then keytrail-collector --key FILE --admitted DIR, and keytrail-agent --key FILE "
      "--server-key FILE.\n"
      "A running collector heeds admit and revoke within a second.");
  const auto run = [&](CLI::App* command, int (*function)(const KeysArguments&)) {
    command->callback([arguments, function, &exit_status] { exit_status = function(*arguments); });
  };
  const auto add_admitted = [&](CLI::App* command) {
    command
        ->add_option("--admitted", arguments->admitted,
                     "The folder of keys that the collector has as --admitted")
        ->type_name("DIR")
        ->required();
  };
  CLI::App* make = keys->add_subcommand("new", "Make NAME.key (secret, mode 0600) and NAME.pub");
  make->add_option("NAME", arguments->name, "Of the host, as a rule")->required();
  make->add_option("--dir", arguments->folder, "Write them into this folder")
      ->type_name("DIR")
      ->capture_default_str();
  run(make, RunNew);
  CLI::App* admit = keys->add_subcommand("admit", "Let agents with these public keys send records");
  admit->add_option("FILE", arguments->files, "NAME.pub")->required();
  add_admitted(admit);
  run(admit, RunAdmit);
  CLI::App* list = keys->add_subcommand("list", "Print who is admitted, and who was");
  add_admitted(list);
  list->add_flag("--json", arguments->json, "Print one JSON object");
  list->footer("Exit status 3: files of the folder do not count, and why is told.");
  run(list, RunList);
  CLI::App* secret =
      keys->add_subcommand("secret", "Make the secret of keytrail-agent --redact on (mode 0600)");
  secret->add_option("FILE", arguments->secret_file, "Where to; it must not be there")->required();
  run(secret, RunSecret);
  const auto add_secret = [&](CLI::App* command) {
    command->add_option("--secret", arguments->secret_file, "The secret, as agents have it")
        ->type_name("FILE")
        ->required();
  };
  CLI::App* token = keys->add_subcommand("token", "Print what stands for a key under --redact on");
  token->add_option("KEY", arguments->key, "Hex of the key's encoded form")->required();
  add_secret(token);
  run(token, RunToken);
  CLI::App* reveal = keys->add_subcommand("reveal", "Print the key that a token stands for");
  reveal->add_option("TOKEN", arguments->key, "Hex, as `keytrail verdicts --json` has it")->required();
  add_secret(reveal);
  run(reveal, RunReveal);
  CLI::App* strip = keys->add_subcommand(
      "strip", "Take the marked texts out of what keytrail-agent --redact marker printed; '?' stays");
  strip->add_option("FILE", arguments->input, "What to read; '-' is standard input")->capture_default_str();
  strip->add_flag("--unmark", arguments->unmark, "Take the marks out instead, and leave the texts");
  strip->footer("Exit status 3: the text ends inside a marked one.");
  run(strip, RunStrip);
  CLI::App* revoke = keys->add_subcommand("revoke", "Let them send no more, from the next message on");
  revoke->add_option("NAME", arguments->names, "As admitted, or the public key")->required();
  add_admitted(revoke);
  run(revoke, RunRevoke);
}

}  // namespace keytrail
