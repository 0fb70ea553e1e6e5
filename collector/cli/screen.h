// Screen: a terminal that shows lines in place.
//
// One at a time, one thread. While it lives the terminal is in its alternate screen; the destructor gives it
// back as it was. Signals of the terminal (SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH)
// reach this thread in Wait() alone; others must be started between BlockSignals() and the first Wait(), so
// that they never get them. Sources: ECMA-48, and what xterm added to it and others took over (alternate
// screen, synchronised output).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "collector/cli/watch_view.h"

namespace keytrail {

class Screen {
 public:
  // There is a terminal to show it on and to read keys from, of a type that is not "dumb".
  static bool Possible();
  // In this thread and those that it starts from now on.
  static void BlockSignals();
  static void UnblockSignals();

  // Null: it is not Possible(), or its settings cannot be changed.
  static std::unique_ptr<Screen> Open(bool color);
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  size_t width() const;
  size_t height() const;
  // Lines that differ from those before are written, all of them in one write.
  void Show(const std::vector<ViewLine>& lines);

  enum class Woken { kTime, kEvent, kRedraw, kLeave };
  // Until `wake_fd` becomes readable, the time is over, all must be shown anew (another size, or somebody had
  // stopped this process), or somebody wants to leave (q, Ctrl-C, a signal, a terminal that is gone).
  Woken Wait(int timeout_ms, int wake_fd);
  // The signal that ends this process as its sender meant, if kLeave was one; else 0.
  int ended_by() const;

 private:
  Screen() = default;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
