// `keytrail watch`: verdicts, agents and losses as they come, and how fast records do.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <memory>
#include <mutex>
#include <thread>

#include "collector/cli/agents_json.h"
#include "collector/cli/commands.h"
#include "collector/cli/interrupt.h"
#include "collector/cli/local_export.h"
#include "collector/cli/screen.h"
#include "collector/cli/source_options.h"
#include "collector/cli/terminal.h"
#include "collector/cli/watch_screen.h"
#include "collector/report/layout.h"

namespace keytrail {

namespace {

using report::Tone;

struct WatchArguments {
  SourceOptions source;
  std::string color = "auto";
  std::string duration;
  bool json = false;
  bool lines = false;
};

// Calls `act` after a time, unless it goes before.
class Timer {
 public:
  Timer(std::optional<int64_t> after_ns, std::function<void()> act) {
    if (!after_ns) return;
    thread_ = std::thread([this, after = std::chrono::nanoseconds(*after_ns), act = std::move(act)] {
      std::unique_lock lock(mutex_);
      if (!gone_.wait_for(lock, after, [&] { return is_gone_; })) act();
    });
  }
  ~Timer() {
    {
      const std::lock_guard lock(mutex_);
      is_gone_ = true;
      gone_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable gone_;
  bool is_gone_ = false;
  std::thread thread_;
};

// Events as lines. On a terminal the rates are one line that stays at the bottom; else lines like the others.
class EventLines {
 public:
  EventLines(bool terminal, bool color) : terminal_(terminal), paint_(color) {}

  std::string Of(const WatchEvent& event) {
    const std::string time = report::TimeText(event.at_ns).substr(0, 8) + "  ";
    if (const auto* agents = std::get_if<std::vector<AgentProgress>>(&event.what)) {
      const std::string line = time + Rates(*agents);
      if (!terminal_) return line + "\n";
      bottom_ = report::Shorten(line, static_cast<size_t>(TerminalColumns()) - 1);
      return "\r\x1b[K" + paint_(Tone::kDim, bottom_);
    }
    std::string line;
    if (const VerdictLine* v = std::get_if<VerdictLine>(&event.what)) line = Verdict(*v);
    if (const LossLine* l = std::get_if<LossLine>(&event.what)) {
      line = paint_(Tone::kYellow, "lost     ") + l->host + ": " + report::Number(l->count) + " " + l->kind +
             (l->total != l->count ? " (" + report::Number(l->total) + " in all)" : "");
    }
    if (const AgentProgress* a = std::get_if<AgentProgress>(&event.what)) {
      line = paint_(Tone::kGreen, "agent    ") + a->host + (a->role.empty() ? "" : ", " + a->role) +
             (a->input.empty() ? "" : ", reads " + a->input);
    }
    if (!terminal_) return time + line + "\n";
    return "\r\x1b[K" + time + line + "\n" + paint_(Tone::kDim, bottom_);
  }
  // What leaves the last line whole.
  std::string End() const { return terminal_ && !bottom_.empty() ? "\n" : ""; }

 private:
  static std::string Rates(const std::vector<AgentProgress>& agents) {
    double rate = 0;
    uint64_t records = 0;
    std::string each;
    for (const AgentProgress& a : agents) {
      rate += a.records_per_s.value_or(0);
      records += a.records;
      // Those that are idle would hide the others.
      if (a.records_per_s.value_or(0) > 0) {
        each += "  " + a.host + " " + report::Number(static_cast<uint64_t>(*a.records_per_s + 0.5)) + "/s";
      }
    }
    return "records  " + report::Number(records) + " of " + report::Count(agents.size(), "agent", "agents") +
           ", " + report::Number(static_cast<uint64_t>(rate + 0.5)) + "/s" + each;
  }

  std::string Verdict(const VerdictLine& v) const {
    const std::string head = v.withdrawn ? "no more  " : v.is_new ? "verdict  " : "again    ";
    const std::string text = v.text + "  " + (v.certain ? "certain" : "inferred") + ", rule " + v.rule +
                             ", " + report::Count(v.occurrences, "time", "times");
    const std::string painted = paint_(v.withdrawn ? Tone::kYellow : Tone::kRed, head);
    if (!terminal_) return painted + text;
    // Under itself: the time and the head are a margin.
    const size_t margin = 10 + head.size();
    const size_t room = std::max<size_t>(40, static_cast<size_t>(TerminalColumns()) - margin);
    std::string lines;
    for (const std::string& line : report::Wrap(text, room)) {
      lines += lines.empty() ? painted : "\n" + std::string(margin, ' ');
      lines += line;
    }
    return lines;
  }

  bool terminal_;
  report::Paint paint_;
  std::string bottom_;
};

// In place, if the terminal can. Nothing: it cannot.
std::optional<int> RunInPlace(const WatchArguments& arguments, std::optional<int64_t> duration,
                              std::unique_ptr<AnswerSource>& source, LocalExport& record, int& signal) {
  std::unique_ptr<Screen> screen = Screen::Open(UseColor(arguments.color));
  if (screen == nullptr) return std::nullopt;
  const WatchScreenEnd end = RunWatchScreen(std::move(screen), arguments.source, std::move(source), duration);
  record.Done(end.events, end.bytes);
  record.entry().ended = "done";
  signal = end.signal;
  return kExitDone;
}

// Ends this process as its sender meant it.
void PassOn(int signal) {
  std::signal(signal, SIG_DFL);
  std::raise(signal);
  Screen::UnblockSignals();
}

// `signal`: what ended it, to be passed on.
int RunWatch(const WatchArguments& arguments, int& signal) {
  const bool in_place = !arguments.json && !arguments.lines && Screen::Possible();
  if (in_place) Screen::BlockSignals();
  LocalExport record(arguments.source.database, "watch");
  Result<std::unique_ptr<AnswerSource>> source = OpenSource(arguments.source);
  if (!source) return Fail(source.error());
  std::optional<int64_t> duration;
  if (!arguments.duration.empty()) duration = ParseDurationNs(arguments.duration);
  if (in_place) {
    const std::optional<int> status = RunInPlace(arguments, duration, *source, record, signal);
    if (status) return *status;
    Screen::UnblockSignals();
  }
  EventLines lines(isatty(STDOUT_FILENO) != 0 && !arguments.json, UseColor(arguments.color));
  bool writable = true;
  Status watched = Done{};
  {
    const Interrupt interrupt([&] { (*source)->Cancel(); });
    const Timer timer(duration, [&] { (*source)->Cancel(); });
    watched = (*source)->Watch([&](const WatchEvent& event) {
      const std::string text = arguments.json ? EventJson(event) : lines.Of(event);
      writable = WriteOut(text);
      record.Done(record.entry().rows + 1, record.entry().bytes + text.size());
      return writable;
    });
  }
  (void)WriteOut(lines.End());
  record.entry().ended = !writable ? "cut_off" : watched.ok() ? "done" : "failed";
  if (!writable) return Fail("standard output: cannot write");
  return watched.ok() ? kExitDone : Fail(watched.error());
}

}  // namespace

void AddWatchCommand(CLI::App& app, int& exit_status) {
  auto arguments = std::make_shared<WatchArguments>();
  CLI::App* command = app.add_subcommand(
      "watch",
      "Show agents, verdicts and losses as they come, until q or Ctrl-C; a line each if not on a terminal");
  AddSourceOptions(*command, arguments->source);
  command->add_option("--duration", arguments->duration, "End after this time, such as 30s or 10m")
      ->check([](const std::string& text) {
        return ParseDurationNs(text) ? std::string() : "'" + text + "' is no time such as 30s or 10m";
      })
      ->type_name("TIME");
  command->add_flag("--json", arguments->json, "Print one JSON object a line");
  command->add_flag(
      "--lines", arguments->lines,
      "Print a line an event on a terminal too, as everywhere else, instead of a view in place");
  command->add_option("--color", arguments->color, "auto, always or never; NO_COLOR is heeded")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->type_name("WHEN");
  command->callback([arguments, &exit_status] {
    int signal = 0;
    exit_status = RunWatch(*arguments, signal);
    if (signal != 0) PassOn(signal);
  });
}

}  // namespace keytrail
