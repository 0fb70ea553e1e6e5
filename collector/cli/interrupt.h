// Ctrl-C ends what is being asked, not the program.
//
// From the first Interrupt on, SIGINT does nothing by itself. One at a time.
#pragma once

#include <functional>
#include <thread>

namespace keytrail {

class Interrupt {
 public:
  // SIGINT means nothing but this from now on. Called by itself with the first Interrupt.
  static void Install();

  // Becomes readable with a SIGINT that comes while there is no Interrupt: for a prompt. -1: not installed.
  static int Descriptor();
  // Forgets those that came so far.
  static void Drain();

  // While it lives, SIGINT calls `cancel`, on a thread of its own.
  explicit Interrupt(std::function<void()> cancel);
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

 private:
  std::function<void()> cancel_;
  std::thread thread_;
};

}  // namespace keytrail
