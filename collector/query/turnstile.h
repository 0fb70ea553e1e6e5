// Who may run a query now: so many at once, the others wait in line, first come, first served, and when the
// line is too long they are turned away. It can be closed for a while to let everybody out.
//
// Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>

namespace keytrail {

class Turnstile {
 public:
  Turnstile(size_t places, size_t line) : places_(places), line_(line) {}

  enum class Entry : uint8_t { kIn, kLineFull, kTooLate, kGone };
  // Waits. kIn: Leave() must follow. `gone` is asked every now and then: true gives up the place in line.
  Entry Enter(std::chrono::steady_clock::time_point until, const std::function<bool()>& gone);
  void Leave();

  // Nobody comes in until Open().
  void Close();
  void Open();

  size_t inside() const;
  size_t waiting() const;

 private:
  const size_t places_;
  const size_t line_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  size_t inside_ = 0;
  bool closed_ = false;
  uint64_t next_ticket_ = 0;
  std::deque<uint64_t> tickets_;
};

}  // namespace keytrail
