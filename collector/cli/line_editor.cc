#include "collector/cli/line_editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <filesystem>

#include "collector/cli/interrupt.h"
#include "collector/cli/terminal.h"

namespace keytrail {

namespace {

constexpr int kHistoryLines = 2000;

bool IsWordCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-';
}

// What all candidates begin with, in their own spelling.
std::string CommonStart(const std::vector<std::string>& candidates) {
  std::string start = candidates.front();
  for (const std::string& c : candidates) {
    size_t n = 0;
    while (n < start.size() && n < c.size() && start[n] == c[n]) ++n;
    start.resize(n);
  }
  return start;
}

// Below the line, in columns.
void List(const std::vector<std::string>& candidates) {
  size_t widest = 0;
  for (const std::string& c : candidates) widest = std::max(widest, c.size());
  const size_t columns = std::max<size_t>(1, static_cast<size_t>(TerminalColumns()) / (widest + 2));
  const size_t lines = (candidates.size() + columns - 1) / columns;
  std::string out = "\n";
  for (size_t line = 0; line < lines; ++line) {
    for (size_t i = line; i < candidates.size(); i += lines) {
      std::string cell = candidates[i];
      if (i + lines < candidates.size()) cell.append(widest + 2 - cell.size(), ' ');
      out += cell;
    }
    out += '\n';
  }
  (void)WriteOut(out);
}

}  // namespace

struct LineEditor::State {
  EditLine* editor = nullptr;
  History* history = nullptr;
  HistEvent event{};
  std::string history_file;
  Complete complete;
  std::string prompt;

  static State& Of(EditLine* e) {
    void* self = nullptr;
    el_get(e, EL_CLIENTDATA, &self);
    return *static_cast<State*>(self);
  }
  static char* Prompt(EditLine* e) { return Of(e).prompt.data(); }
  static unsigned char OnTab(EditLine* e, int);
  static int ReadCharacter(EditLine* e, wchar_t* character);
};

// Waits for the terminal and for Ctrl-C, whichever thread gets its signal. -1: the end, or errno is EINTR.
int LineEditor::State::ReadCharacter(EditLine*, wchar_t* character) {
  std::mbstate_t state{};
  for (;;) {
    pollfd waited[2] = {{STDIN_FILENO, POLLIN, 0}, {Interrupt::Descriptor(), POLLIN, 0}};
    if (poll(waited, 2, -1) == -1) {
      if (errno == EINTR) continue;
      return -1;
    }
    if (waited[1].revents != 0) {
      Interrupt::Drain();
      errno = EINTR;
      return -1;
    }
    char byte = 0;
    const ssize_t got = read(STDIN_FILENO, &byte, 1);
    if (got == -1 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return static_cast<int>(got);
    const size_t length = std::mbrtowc(character, &byte, 1, &state);
    if (length == static_cast<size_t>(-2)) continue;    // more bytes belong to it
    if (length == static_cast<size_t>(-1)) state = {};  // none of this locale: left out
    if (length <= 1) return 1;
  }
}

unsigned char LineEditor::State::OnTab(EditLine* e, int) {
  const LineInfo* line = el_line(e);
  const std::string before(line->buffer, line->cursor);
  size_t word = before.size();
  while (word > 0 && IsWordCharacter(before[word - 1])) --word;
  const size_t have = before.size() - word;
  const std::vector<std::string> candidates = Of(e).complete(before);
  if (candidates.empty()) return CC_REFRESH_BEEP;
  const std::string common = CommonStart(candidates);
  // The candidate's own spelling replaces what is there, which may differ in case.
  if (common.size() >= have && (common.size() > have || candidates.size() == 1)) {
    el_deletestr(e, static_cast<int>(have));
    const std::string more = common + (candidates.size() == 1 ? " " : "");
    el_insertstr(e, more.c_str());
    return CC_REFRESH;
  }
  List(candidates);
  return CC_REDISPLAY;
}

LineEditor::LineEditor(const std::string& history_file, Complete complete)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  std::setlocale(LC_CTYPE, "");
  s.history_file = history_file;
  s.complete = std::move(complete);
  s.editor = el_init("keytrail", stdin, stdout, stderr);
  if (s.editor == nullptr) return;
  el_set(s.editor, EL_CLIENTDATA, &s);
  el_set(s.editor, EL_PROMPT, State::Prompt);
  el_set(s.editor, EL_EDITOR, "emacs");
  el_set(s.editor, EL_SIGNAL, 0);  // SIGINT is ours (interrupt.h)
  el_set(s.editor, EL_GETCFN, State::ReadCharacter);
  el_set(s.editor, EL_ADDFN, "keytrail-complete", "Complete a name", State::OnTab);
  el_set(s.editor, EL_BIND, "^I", "keytrail-complete", nullptr);
  el_set(s.editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  el_set(s.editor, EL_BIND, "\\e[1;5C", "em-next-word", nullptr);
  el_set(s.editor, EL_BIND, "\\e[1;5D", "ed-prev-word", nullptr);
  el_source(s.editor, nullptr);  // ~/.editrc
  s.history = history_init();
  if (s.history == nullptr) return;
  history(s.history, &s.event, H_SETSIZE, kHistoryLines);
  history(s.history, &s.event, H_SETUNIQUE, 1);
  el_set(s.editor, EL_HIST, history, s.history);
  if (!s.history_file.empty()) history(s.history, &s.event, H_LOAD, s.history_file.c_str());
}

LineEditor::~LineEditor() {
  State& s = *state_;
  if (s.history != nullptr) history_end(s.history);
  if (s.editor != nullptr) el_end(s.editor);
}

LineEditor::Read LineEditor::ReadLine(const std::string& prompt, std::string& line) {
  State& s = *state_;
  line.clear();
  if (s.editor == nullptr) return Read::kEnd;
  s.prompt = prompt;
  Interrupt::Drain();
  el_resize(s.editor);  // the window may have another size than at the last prompt
  int count = 0;
  errno = 0;
  const char* got = el_gets(s.editor, &count);
  if (got == nullptr || count <= 0) {
    if (errno != EINTR) return Read::kEnd;
    el_reset(s.editor);
    return Read::kInterrupted;
  }
  line.assign(got, static_cast<size_t>(count));
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
  return Read::kLine;
}

void LineEditor::Remember(const std::string& statement) {
  State& s = *state_;
  if (s.history == nullptr) return;
  std::string one_line = statement;
  std::replace(one_line.begin(), one_line.end(), '\n', ' ');
  history(s.history, &s.event, H_ENTER, one_line.c_str());
  if (s.history_file.empty()) return;
  // Queries hold keys: nobody else's business. libedit makes the file with the same mode, but after opening
  // it.
  const int file = open(s.history_file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file == -1) return;
  const bool own = fchmod(file, 0600) == 0;
  close(file);
  if (own) history(s.history, &s.event, H_SAVE, s.history_file.c_str());
}

std::string HistoryFile() {
  std::filesystem::path folder;
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  if (state != nullptr && *state == '/') {
    folder = state;
  } else if (home != nullptr && *home == '/') {
    folder = std::filesystem::path(home) / ".local" / "state";
  } else {
    return "";
  }
  folder /= "keytrail";
  std::error_code problem;
  const mode_t before = umask(077);
  std::filesystem::create_directories(folder, problem);
  umask(before);
  return problem ? "" : (folder / "sql_history").string();
}

}  // namespace keytrail
