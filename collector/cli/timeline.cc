// `keytrail timeline`: who said what to whom, and what followed, around a verdict, key, region, transaction,
// SQL connection or time.

#include <charconv>
#include <cstdio>
#include <memory>

#include "collector/cli/commands.h"
#include "collector/cli/local_export.h"
#include "collector/cli/source_options.h"
#include "collector/cli/terminal.h"
#include "collector/cli/time_argument.h"
#include "collector/report/timeline_html.h"
#include "collector/report/timeline_perfetto.h"
#include "collector/report/timeline_text.h"
#include "collector/store/timeline_rows.h"
#include "common/limits.h"

namespace keytrail {

namespace {

// A page that is read in a minute; Perfetto folds and zooms by itself.
constexpr size_t kTextCalls = 40;
constexpr size_t kHtmlCalls = 200;
constexpr size_t kPerfettoCalls = 5000;

struct TimelineArguments {
  SourceOptions source;
  uint64_t number = 0;  // of whichever of verdict, region, start_ts, connection was given
  std::string key;
  std::string from;
  std::string to;
  std::string around = "50ms";
  size_t calls = 0;
  std::string format = "text";
  std::string output;
  std::string keys = "tidb";
  std::string color = "auto";
  int width = 0;
  bool unfold = false;
  TimelineQuestion::About about = TimelineQuestion::About::kTime;
  bool around_given = false;
};

int WrongUsage(const std::string& message) {
  Fail(message);
  return kExitUsage;
}

// Statements of ours to whoever answers them.
TimelineSql AskWith(AnswerSource& source) {
  return [&source](const std::string& sql, const auto& on_columns, const auto& on_row) -> Status {
    SqlRequest request;
    request.sql = sql;
    request.max_rows = limits::kMaxQueryRows;
    request.max_time_ns = limits::kMaxQueryTimeNs;
    request.purpose = "timeline";
    const SqlOutcome outcome = source.Sql(
        request, [&](const std::vector<std::string>& names) { on_columns({names}); }, on_row);
    if (outcome.end == SqlOutcome::End::kDone || outcome.end == SqlOutcome::End::kReader) return Done{};
    return Error{outcome.text};
  };
}

// Fills from_ns and to_ns. False: said why.
bool ReadWindow(const TimelineArguments& arguments, const TimelineSql& sql, TimelineQuestion& question,
                int& exit_status) {
  const Result<TimelineSpan> span = ReadTimelineSpan(sql);
  if (!span) {
    exit_status = Fail(span.error());
    return false;
  }
  const int64_t first = span->first_ns.value_or(0);
  const int64_t last = span->last_ns.value_or(first);
  const auto read = [&](const std::string& text, std::optional<int64_t>& ns) {
    if (text.empty()) return true;
    ns = ParseTimeArgument(text, first, last);
    if (!ns) {
      exit_status = WrongUsage("'" + text +
                               "' is no time: 16:30:10.684, 2026-11-23T16:30:10, or ns since 1970 (all UTC)");
    }
    return ns.has_value();
  };
  if (!read(arguments.from, question.from_ns) || !read(arguments.to, question.to_ns)) return false;
  if (question.from_ns && question.to_ns && *question.from_ns > *question.to_ns) {
    exit_status = WrongUsage("--from is later than --to");
    return false;
  }
  // Of a window the margin is there only if it is asked for: the user was exact.
  if (arguments.around_given && (question.from_ns || question.to_ns)) {
    if (question.from_ns) *question.from_ns -= question.around_ns;
    if (question.to_ns) *question.to_ns += question.around_ns;
    if (!question.to_ns) question.to_ns = *question.from_ns + 2 * question.around_ns;
    if (!question.from_ns) question.from_ns = *question.to_ns - 2 * question.around_ns;
  }
  return true;
}

int Print(const TimelineArguments& arguments, const Timeline& timeline, LocalExport& record) {
  std::string text;
  if (arguments.format == "perfetto") {
    text = TimelinePerfetto(timeline);
  } else if (arguments.format == "html") {
    text = TimelineHtml(timeline);
  } else {
    TimelineTextOptions look;
    look.color = arguments.output.empty() ? UseColor(arguments.color) : arguments.color == "always";
    look.width = arguments.width > 0 ? arguments.width : TerminalColumns();
    look.hex_keys = arguments.keys == "hex";
    look.unfold = arguments.unfold;
    text = TimelineText(timeline, look);
  }
  record.Done(timeline.found - timeline.left_out, text.size());
  record.entry().ended = "cut_off";
  std::FILE* file = arguments.output.empty() ? stdout : std::fopen(arguments.output.c_str(), "wb");
  if (file == nullptr) return Fail(arguments.output + ": cannot write");
  const bool written =
      std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fflush(file) == 0;
  if (file != stdout && std::fclose(file) != 0) return Fail(arguments.output + ": cannot write");
  if (!written)
    return Fail((arguments.output.empty() ? "standard output" : arguments.output) + ": cannot write");
  record.entry().ended = "done";
  if (!arguments.output.empty() || arguments.format != "text") {
    if (timeline.left_out > 0) {
      std::fprintf(stderr, "keytrail: %llu of %llu calls are left out; --calls %llu shows all\n",
                   static_cast<unsigned long long>(timeline.left_out),
                   static_cast<unsigned long long>(timeline.found),
                   static_cast<unsigned long long>(timeline.found));
    }
  }
  return timeline.unread > 0 ? kExitIncomplete : kExitDone;
}

// As it was typed, for the audit log.
std::string AboutText(const TimelineArguments& arguments) {
  using About = TimelineQuestion::About;
  const char* const name = arguments.about == About::kVerdict      ? "--verdict "
                           : arguments.about == About::kKey        ? "--key "
                           : arguments.about == About::kRegion     ? "--region "
                           : arguments.about == About::kStartTs    ? "--start-ts "
                           : arguments.about == About::kConnection ? "--connection "
                                                                   : "";
  std::string text = name;
  if (arguments.about == About::kKey) {
    text += arguments.key;
  } else if (!text.empty()) {
    text += std::to_string(arguments.number);
  }
  if (!arguments.from.empty()) text += " --from " + arguments.from;
  if (!arguments.to.empty()) text += " --to " + arguments.to;
  return text + " --format " + arguments.format;
}

int RunTimeline(const TimelineArguments& arguments) {
  LocalExport record(arguments.source.database, "timeline");
  record.entry().statement = AboutText(arguments);
  const Result<std::unique_ptr<AnswerSource>> source = OpenSource(arguments.source);
  if (!source) return Fail(source.error());
  const TimelineSql sql = AskWith(**source);
  TimelineQuestion question;
  question.about = arguments.about;
  question.number = arguments.number;
  question.most_calls = arguments.calls != 0             ? arguments.calls
                        : arguments.format == "perfetto" ? kPerfettoCalls
                        : arguments.format == "html"     ? kHtmlCalls
                                                         : kTextCalls;
  const std::optional<int64_t> around = ParseSpanArgument(arguments.around);
  if (!around) return WrongUsage("--around: '" + arguments.around + "' is no duration such as 50ms or 2s");
  question.around_ns = *around;
  if (!arguments.from.empty() || !arguments.to.empty()) {
    int exit_status = kExitDone;
    if (!ReadWindow(arguments, sql, question, exit_status)) return exit_status;
  }
  if (question.about == TimelineQuestion::About::kKey) {
    Result<std::vector<std::string>> keys = FindTimelineKey(arguments.key, sql);
    if (!keys) return Fail(keys.error());
    question.keys = std::move(*keys);
  }
  const Result<InvestigationReport> report = (*source)->Report();
  if (!report) return Fail(report.error());
  const Result<Timeline> timeline = ReadTimeline(question, *report, sql);
  if (!timeline) return Fail(timeline.error());
  return Print(arguments, *timeline, record);
}

void AddQuestions(CLI::App& command, const std::shared_ptr<TimelineArguments>& arguments,
                  std::vector<CLI::Option*>& questions) {
  const auto number = [&](const char* name, const char* what, const char* type,
                          TimelineQuestion::About about) {
    questions.push_back(command
                            .add_option_function<uint64_t>(
                                name,
                                [arguments, about](const uint64_t& n) {
                                  arguments->number = n;
                                  arguments->about = about;
                                },
                                what)
                            ->type_name(type));
  };
  number("--verdict", "The story of this verdict (keytrail verdicts)", "N",
         TimelineQuestion::About::kVerdict);
  number("--region", "All about this region", "ID", TimelineQuestion::About::kRegion);
  number("--start-ts", "All of this transaction", "TS", TimelineQuestion::About::kStartTs);
  number("--connection", "All of this SQL connection", "ID", TimelineQuestion::About::kConnection);
  questions.push_back(
      command
          .add_option_function<std::string>(
              "--key",
              [arguments](const std::string& key) {
                arguments->key = key;
                arguments->about = TimelineQuestion::About::kKey;
              },
              "All that asked for this key, and who was told where it lives: t53_r8012 or hex")
          ->type_name("KEY"));
}

}  // namespace

void AddTimelineCommand(CLI::App& app, int& exit_status) {
  auto arguments = std::make_shared<TimelineArguments>();
  CLI::App* command = app.add_subcommand(
      "timeline",
      "Show who said what to whom, what was refused, and what followed, with both views of each call");
  AddSourceOptions(*command, arguments->source);
  std::vector<CLI::Option*> questions;
  AddQuestions(*command, arguments, questions);
  for (CLI::Option* a : questions) {
    for (CLI::Option* b : questions) {
      if (a != b) a->excludes(b);
    }
  }
  auto* from =
      command->add_option("--from", arguments->from, "Not before; UTC: 16:30:10.684, 2026-11-23T16:30:10, ns")
          ->type_name("TIME")
          ->excludes(questions[0]);
  auto* to =
      command->add_option("--to", arguments->to, "Not after")->type_name("TIME")->excludes(questions[0]);
  auto* around =
      command
          ->add_option("--around", arguments->around,
                       "Also calls about the same region so near to what is refused; of --from and --to "
                       "the margin (none if not given)")
          ->type_name("TIME")
          ->capture_default_str();
  command
      ->add_option("--calls", arguments->calls,
                   "Show so many calls at most (text 40, html 200, perfetto 5000)")
      ->check(CLI::Range(size_t{1}, limits::kMaxTimelineCalls))
      ->type_name("N");
  command->add_flag("--unfold", arguments->unfold, "Text: a row for each call of the surroundings");
  command
      ->add_option("--format", arguments->format,
                   "text, html: a page by itself, or perfetto: JSON for ui.perfetto.dev")
      ->check(CLI::IsMember({"text", "html", "perfetto"}))
      ->type_name("FORMAT")
      ->capture_default_str();
  command->add_option("-o,--output", arguments->output, "Write to this file")->type_name("FILE");
  command->add_option("--keys", arguments->keys, "How text shows keys: 'tidb' (t53_r8012) or 'hex'")
      ->check(CLI::IsMember({"tidb", "hex"}))
      ->type_name("FORM");
  command->add_option("--width", arguments->width, "Text: columns; the terminal's if not given")
      ->check(CLI::Range(60, 1000))
      ->type_name("N");
  command->add_option("--color", arguments->color, "auto, always or never; NO_COLOR is heeded")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->type_name("WHEN");
  command->callback([arguments, &exit_status, questions, from, to, around] {
    bool asked = from->count() + to->count() > 0;
    for (const CLI::Option* question : questions) asked |= question->count() > 0;
    if (!asked)
      throw CLI::RequiredError("--verdict, --key, --region, --start-ts, --connection, or --from and --to");
    arguments->around_given = around->count() > 0;
    exit_status = RunTimeline(*arguments);
  });
}

}  // namespace keytrail
