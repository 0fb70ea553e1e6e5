#include "collector/cli/screen.h"

#define NCURSES_NOMACROS  // "move" and others would be macros
#include <curses.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace keytrail {

namespace {

using report::Tone;

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};

volatile std::sig_atomic_t leave = 0;
volatile std::sig_atomic_t continued = 0;

void OnLeave(int signal) {
  leave = signal;
}
void OnContinued(int) {
  continued = 1;
}

sigset_t Ours() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : kSignals) sigaddset(&set, signal);
  return set;
}

// Text is UTF-8 whatever the environment says: a host without locales has C.UTF-8 all the same.
void UseUtf8() {
  std::setlocale(LC_CTYPE, "");
  if (MB_CUR_MAX < 4) std::setlocale(LC_CTYPE, "C.UTF-8");
}

chtype Attribute(Tone tone, bool color) {
  switch (tone) {
    case Tone::kBold:
      return A_BOLD;
    case Tone::kDim:
      return A_DIM;
    case Tone::kRed:
      return A_BOLD | (color ? COLOR_PAIR(1) : 0);
    case Tone::kGreen:
      return color ? COLOR_PAIR(2) : A_NORMAL;
    case Tone::kYellow:
      return color ? COLOR_PAIR(3) : A_NORMAL;
    default:
      return A_NORMAL;
  }
}

}  // namespace

struct Screen::State {
  SCREEN* terminal = nullptr;
  bool color = false;
  std::vector<ViewLine> shown;
};

void Screen::BlockSignals() {
  const sigset_t ours = Ours();
  pthread_sigmask(SIG_BLOCK, &ours, nullptr);
}

void Screen::UnblockSignals() {
  const sigset_t ours = Ours();
  pthread_sigmask(SIG_UNBLOCK, &ours, nullptr);
}

bool Screen::Possible() {
  const char* type = std::getenv("TERM");
  if (type == nullptr || *type == '\0' || std::string_view(type) == "dumb") return false;
  return isatty(STDOUT_FILENO) != 0 && isatty(STDIN_FILENO) != 0;
}

std::unique_ptr<Screen> Screen::Open(bool color) {
  if (!Possible()) return nullptr;
  UseUtf8();
  SCREEN* terminal = newterm(nullptr, stdout, stdin);
  if (terminal == nullptr) return nullptr;
  std::unique_ptr<Screen> screen(new Screen);
  screen->state_ = std::make_unique<State>();
  screen->state_->terminal = terminal;
  set_term(terminal);
  cbreak();
  noecho();
  nodelay(stdscr, TRUE);
  keypad(stdscr, TRUE);
  leaveok(stdscr, TRUE);
  (void)curs_set(0);
  screen->state_->color = color && has_colors() && start_color() == OK;
  if (screen->state_->color) {
    use_default_colors();
    init_pair(1, COLOR_RED, -1);
    init_pair(2, COLOR_GREEN, -1);
    init_pair(3, COLOR_YELLOW, -1);
  }
  // curses has its own handlers for SIGTSTP and SIGWINCH.
  leave = 0;
  struct sigaction action {};
  action.sa_handler = OnLeave;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaction(signal, &action, nullptr);
  action.sa_handler = OnContinued;
  sigaction(SIGCONT, &action, nullptr);
  return screen;
}

Screen::~Screen() {
  endwin();
  delscreen(state_->terminal);
}

size_t Screen::width() const {
  return static_cast<size_t>(COLS);
}
size_t Screen::height() const {
  return static_cast<size_t>(LINES);
}

void Screen::Show(const std::vector<ViewLine>& lines) {
  const size_t rows = std::max(lines.size(), state_->shown.size());
  for (size_t row = 0; row < rows && row < height(); ++row) {
    const ViewLine line = row < lines.size() ? lines[row] : ViewLine();
    if (row < state_->shown.size() && state_->shown[row] == line) continue;
    move(static_cast<int>(row), 0);
    clrtoeol();
    for (const auto& [tone, text] : line) {
      attrset(static_cast<int>(Attribute(tone, state_->color)));
      addstr(text.c_str());
    }
    attrset(A_NORMAL);
  }
  state_->shown = lines;
  refresh();
}

Screen::Woken Screen::Wait(int timeout_ms, int wake_fd) {
  pollfd waiting[2] = {{STDIN_FILENO, POLLIN, 0}, {wake_fd, POLLIN, 0}};
  sigset_t open;
  pthread_sigmask(SIG_SETMASK, nullptr, &open);
  for (const int signal : kSignals) sigdelset(&open, signal);
  const timespec patience{timeout_ms / 1000, timeout_ms % 1000 * 1'000'000L};
  const int ready = ppoll(waiting, 2, &patience, &open);
  if (leave != 0) return Woken::kLeave;
  if (continued != 0) {
    continued = 0;
    clearok(stdscr, TRUE);  // who knows what was written meanwhile
  }
  bool resized = false;
  for (int key = getch(); key != ERR; key = getch()) {
    if (key == 'q' || key == 'Q' || key == 3) return Woken::kLeave;
    if (key == KEY_RESIZE) resized = true;
    if (key == 12) clearok(stdscr, TRUE);  // Ctrl-L
  }
  if (ready > 0 && (waiting[0].revents & (POLLHUP | POLLERR)) != 0) return Woken::kLeave;
  if (resized) {
    state_->shown.clear();
    erase();
    return Woken::kResized;
  }
  return ready > 0 && waiting[1].revents != 0 ? Woken::kEvent : Woken::kTime;
}

int Screen::ended_by() const {
  return leave == SIGINT ? 0 : static_cast<int>(leave);
}

}  // namespace keytrail
