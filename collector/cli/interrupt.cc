#include "collector/cli/interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

namespace keytrail {

namespace {

// A handler may write to a pipe, and hardly anything else.
int wake[2] = {-1, -1};
volatile std::sig_atomic_t listening = 0;

void OnInterrupt(int) {
  const int before = errno;
  // A signal between two questions is for the line editor, and is not to end the next question.
  if (listening != 0) {
    const char byte = 'i';
    if (write(wake[1], &byte, 1) != 1) errno = before;
  }
  errno = before;
}

}  // namespace

void Interrupt::Install() {
  if (wake[0] == -1 && pipe2(wake, O_CLOEXEC) != 0) return;
  struct sigaction action {};
  action.sa_handler = OnInterrupt;  // without SA_RESTART: a read of the terminal ends
  sigaction(SIGINT, &action, nullptr);
}

Interrupt::Interrupt(std::function<void()> cancel) : cancel_(std::move(cancel)) {
  Install();
  if (wake[0] == -1) return;
  listening = 1;
  thread_ = std::thread([this] {
    for (;;) {
      char byte = 0;
      const ssize_t got = read(wake[0], &byte, 1);
      if (got == 1 && byte == 'i') cancel_();
      if ((got == 1 && byte == 'q') || (got != 1 && errno != EINTR)) return;
    }
  });
}

Interrupt::~Interrupt() {
  listening = 0;
  if (!thread_.joinable()) return;
  const char byte = 'q';
  while (write(wake[1], &byte, 1) == -1 && errno == EINTR) {
  }
  thread_.join();
}

}  // namespace keytrail
