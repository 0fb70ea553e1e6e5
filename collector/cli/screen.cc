#include "collector/cli/screen.h"

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdlib>
#include <string_view>

#include "collector/cli/terminal.h"

namespace keytrail {

namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};

// Alternate screen, no cursor, no wrapping of what is too long after all; an empty page.
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J";
constexpr std::string_view kLeaveIt = "\x1b[m\x1b[?7h\x1b[?25h\x1b[?1049l";
// Terminals that know it show what is between at once; others do nothing.
constexpr std::string_view kBeginFrame = "\x1b[?2026h";
constexpr std::string_view kEndFrame = "\x1b[?2026l";
constexpr std::string_view kToEndOfLine = "\x1b[K";

volatile std::sig_atomic_t leave = 0;
volatile std::sig_atomic_t stop = 0;
volatile std::sig_atomic_t redraw = 0;

void OnLeave(int signal) {
  leave = signal;
}
void OnStop(int) {
  stop = 1;
}
void OnRedraw(int) {
  redraw = 1;
}

void Handle(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigaction(signal, &action, nullptr);
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

void Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // the terminal is gone: Wait() sees it
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

struct Screen::State {
  explicit State(bool color) : paint(color) {}

  const report::Paint paint;
  termios before{};
  std::vector<ViewLine> shown;

  void Enter() {
    termios keys = before;
    // Each key at once and unseen; those that send signals still do.
    keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    keys.c_cc[VMIN] = 0;
    keys.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &keys);
    Write(kEnter);
    shown.clear();
  }
  void Leave() {
    Write(kLeaveIt);
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
  }
  // Ctrl-Z: the terminal is the shell's until somebody brings us back.
  void Stop() {
    Leave();
    Handle(SIGTSTP, SIG_DFL);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, SIGTSTP);
    std::raise(SIGTSTP);
    pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
    pthread_sigmask(SIG_BLOCK, &only, nullptr);
    Handle(SIGTSTP, OnStop);
  }
  std::string Painted(const ViewLine& line) const {
    std::string text;
    for (const auto& [tone, part] : line) text += tone == report::Tone::kPlain ? part : paint(tone, part);
    return text;
  }
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
  std::unique_ptr<Screen> screen(new Screen);
  screen->state_ = std::make_unique<State>(color);
  if (tcgetattr(STDIN_FILENO, &screen->state_->before) != 0) return nullptr;
  UseUtf8();
  leave = 0;
  stop = 0;
  redraw = 0;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) Handle(signal, OnLeave);
  Handle(SIGTSTP, OnStop);
  for (const int signal : {SIGCONT, SIGWINCH}) Handle(signal, OnRedraw);
  screen->state_->Enter();
  return screen;
}

Screen::~Screen() {
  state_->Leave();
}

size_t Screen::width() const {
  return static_cast<size_t>(TerminalColumns());
}
size_t Screen::height() const {
  return static_cast<size_t>(TerminalLines());
}

void Screen::Show(const std::vector<ViewLine>& lines) {
  std::string frame;
  const size_t rows = std::max(lines.size(), state_->shown.size());
  static const ViewLine kEmpty;
  for (size_t row = 0; row < rows; ++row) {
    const ViewLine& line = row < lines.size() ? lines[row] : kEmpty;
    const ViewLine& before = row < state_->shown.size() ? state_->shown[row] : kEmpty;
    if (line == before) continue;
    frame += "\x1b[" + std::to_string(row + 1) + ";1H" + state_->Painted(line);
    // Behind a full line it would erase the last character.
    size_t columns = 0;
    for (const auto& [tone, part] : line) columns += DisplayWidth(part);
    if (columns < width()) frame += kToEndOfLine;
  }
  state_->shown = lines;
  if (!frame.empty()) Write(std::string(kBeginFrame) + frame + std::string(kEndFrame));
}

Screen::Woken Screen::Wait(int timeout_ms, int wake_fd) {
  pollfd waiting[2] = {{STDIN_FILENO, POLLIN, 0}, {wake_fd, POLLIN, 0}};
  sigset_t open;
  pthread_sigmask(SIG_SETMASK, nullptr, &open);
  for (const int signal : kSignals) sigdelset(&open, signal);
  const timespec patience{timeout_ms / 1000, timeout_ms % 1000 * 1'000'000L};
  const int ready = ppoll(waiting, 2, &patience, &open);
  if (leave != 0) return Woken::kLeave;
  if (stop != 0) {
    stop = 0;
    state_->Stop();
    redraw = 1;
  }
  if (redraw != 0) {
    // Of another size, or somebody else had the terminal meanwhile.
    redraw = 0;
    state_->Enter();
    return Woken::kRedraw;
  }
  if (ready > 0 && waiting[0].revents != 0) {
    char keys[64];
    const ssize_t n = read(STDIN_FILENO, keys, sizeof keys);
    if (n < 0 && errno != EINTR && errno != EAGAIN) return Woken::kLeave;
    if ((waiting[0].revents & (POLLHUP | POLLERR)) != 0) return Woken::kLeave;
    const std::string_view typed(keys, n > 0 ? static_cast<size_t>(n) : 0);
    if (typed.find_first_of("qQ\x03") != std::string_view::npos) return Woken::kLeave;
    if (typed.find('\x0c') != std::string_view::npos) {  // Ctrl-L
      state_->Enter();
      return Woken::kRedraw;
    }
  }
  return ready > 0 && waiting[1].revents != 0 ? Woken::kEvent : Woken::kTime;
}

int Screen::ended_by() const {
  return leave == SIGINT ? 0 : static_cast<int>(leave);
}

}  // namespace keytrail
