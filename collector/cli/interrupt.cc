#include "collector/cli/interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

namespace keytrail {

namespace {

// A handler may write to a pipe, and hardly anything else. One for a question, one for the prompt: a signal
// between two questions must not end the next one.
int wake[2] = {-1, -1};
int prompt[2] = {-1, -1};
volatile std::sig_atomic_t listening = 0;

void OnInterrupt(int) {
  const int before = errno;
  const char byte = 'i';
  // A full pipe has enough of them.
  (void)!write(listening != 0 ? wake[1] : prompt[1], &byte, 1);
  errno = before;
}

}  // namespace

void Interrupt::Install() {
  if (wake[0] == -1 && (pipe2(wake, O_CLOEXEC) != 0 || pipe2(prompt, O_CLOEXEC | O_NONBLOCK) != 0)) return;
  struct sigaction action {};
  action.sa_handler = OnInterrupt;
  sigaction(SIGINT, &action, nullptr);
}

int Interrupt::Descriptor() {
  return prompt[0];
}

void Interrupt::Drain() {
  char bytes[64];
  while (prompt[0] != -1 && read(prompt[0], bytes, sizeof bytes) > 0) {
  }
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
