#include "deploy/fleet/advice.h"

#include <sstream>
#include <vector>

#include "common/plain_text.h"

namespace keytrail {

namespace {

constexpr char kOurs[] = "keytrail-fleet: ";

std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty()) lines.push_back(PlainText(line));
  }
  return lines;
}

bool Says(const std::string& text, const char* words) {
  return text.find(words) != std::string::npos;
}

std::string Target(const UnitPlan& unit) {
  return (unit.access.ssh_user.empty() ? "" : unit.access.ssh_user + "@") + unit.access.ssh_host;
}

std::string Port(const UnitPlan& unit) {
  return unit.access.ssh_port == 0 ? "" : "-p " + std::to_string(unit.access.ssh_port) + " ";
}

// ssh's own failures have status 255.
Advice OfSsh(const std::string& err, const UnitPlan& unit) {
  const std::string by_hand = "ssh " + Port(unit) + Target(unit);
  if (Says(err, "REMOTE HOST IDENTIFICATION HAS CHANGED")) {
    return {
        "its ssh host key is another one than before",
        "find out why; if that is in order, forget the old one with ssh-keygen -R " + unit.access.ssh_host};
  }
  if (Says(err, "Host key verification failed")) {
    return {"its ssh host key is not known on this machine",
            "connect once by hand and compare it: " + by_hand +
                " (or --ssh-option StrictHostKeyChecking=accept-new, which believes it)"};
  }
  if (Says(err, "Permission denied") || Says(err, "Too many authentication failures") ||
      Says(err, "No more authentication methods")) {
    return {"ssh does not let '" + Target(unit) +
                "' in: key or password are not accepted, and none is asked for here",
            "make this work without a question: " + by_hand +
                " (ssh-copy-id, ssh-agent, or --ssh-option "
                "IdentityFile=FILE)"};
  }
  if (Says(err, "Could not resolve hostname")) {
    return {"its name cannot be resolved on this machine", "check the name in the file, or /etc/hosts"};
  }
  if (Says(err, "Connection refused")) {
    return {"nothing takes ssh connections there (connection refused)",
            "check ssh_port and that sshd runs there"};
  }
  for (const char* words :
       {"timed out", "No route to host", "Network is unreachable", "Host is down", "not responding"}) {
    if (Says(err, words)) {
      return {std::string("it cannot be reached over ssh (") + words + ")",
              "check that the host is up and that no firewall is between; then start again, the others are "
              "left alone"};
    }
  }
  const std::vector<std::string> lines = LinesOf(err);
  return {"ssh failed" + (lines.empty() ? std::string() : ": " + lines.back()), "try by hand: " + by_hand};
}

Advice OfOurs(const std::string& why, int status, const std::vector<std::string>& lines) {
  std::string full = why;
  if (status == 22) {
    for (const std::string& line : lines) {
      if (line.rfind(kOurs, 0) != 0) full += "\n      | " + line;
    }
    if (Says(full, "CAP_NET_RAW") || Says(full, "ermission") || Says(full, "Operation not permitted")) {
      return {full, "the agent needs root or CAP_NET_RAW there: take ssh_user root, or --sudo always"};
    }
    return {full, "what it logged last stands above"};
  }
  if (Says(why, "with other options") || Says(why, "is not the one to be started")) {
    return {why, "keytrail fleet start --replace ends it and starts this one; keytrail fleet stop ends it"};
  }
  if (Says(why, "MiB free")) return {why, "make room there, or: --spool-bytes, --dir"};
  return {full, ""};
}

}  // namespace

Advice AdviceFor(const CommandResult& result, const Command& command, const UnitPlan& unit) {
  if (!result.failure.empty()) return {"cannot run " + result.failure, "is it installed on this machine?"};
  if (result.cancelled) return {"interrupted", "start goes on, stop cleans up"};
  if (result.timed_out) {
    return {"no answer within " + std::to_string(command.timeout_s) + " s",
            "is the host overloaded or the disk stuck? --timeout gives it longer"};
  }
  const std::vector<std::string> lines = LinesOf(result.err);
  std::string ours;
  for (const std::string& line : lines) {
    if (line.rfind(kOurs, 0) == 0) ours = line.substr(sizeof kOurs - 1);
  }
  if (Says(result.err, "No space left on device")) {
    return {"its disk is full (" + unit.folder + ")", "make room there, or take another --dir"};
  }
  if (!ours.empty()) return OfOurs(ours, result.exit_status, lines);
  if (!unit.access.local && result.exit_status == 255) return OfSsh(result.err, unit);
  if (Says(result.err, "sudo: a password is required") || Says(result.err, "sudo: a terminal is required") ||
      Says(result.err, "is not in the sudoers file") || Says(result.err, "may not run sudo")) {
    return {"sudo on the host asks '" + Target(unit) + "' for a password",
            "allow it there without one (NOPASSWD), take ssh_user root, or --sudo never"};
  }
  if (Says(result.err, "sudo: not found") || Says(result.err, "sudo: command not found")) {
    return {"there is no sudo on the host", "take ssh_user root, or --sudo never"};
  }
  if (Says(result.err, "Permission denied")) {
    return {(lines.empty() ? std::string("permission denied") : lines.back()),
            "commands run there as '" + (unit.access.local ? std::string("this user") : Target(unit)) +
                "': --sudo always, or a --dir that this user may write"};
  }
  const std::string last = lines.empty() ? "without a word" : lines.back();
  return {result.exit_status < 0
              ? "its command was ended by a signal"
              : "its command failed with status " + std::to_string(result.exit_status) + ": " + last,
          ""};
}

}  // namespace keytrail
