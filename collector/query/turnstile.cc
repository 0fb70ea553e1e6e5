#include "collector/query/turnstile.h"

#include <algorithm>

namespace keytrail {

namespace {
// How often somebody in line is asked whether they are still there.
constexpr std::chrono::milliseconds kAskEvery{50};
}  // namespace

Turnstile::Entry Turnstile::Enter(std::chrono::steady_clock::time_point until,
                                  const std::function<bool()>& gone) {
  std::unique_lock lock(mutex_);
  if (tickets_.size() >= line_ && (closed_ || inside_ >= places_)) return Entry::kLineFull;
  const uint64_t ticket = next_ticket_++;
  tickets_.push_back(ticket);
  const auto my_turn = [&] { return !closed_ && inside_ < places_ && tickets_.front() == ticket; };
  Entry entry = Entry::kIn;
  while (!my_turn()) {
    changed_.wait_for(lock, kAskEvery);
    if (my_turn()) break;
    if (gone()) entry = Entry::kGone;
    if (std::chrono::steady_clock::now() >= until) entry = Entry::kTooLate;
    if (entry != Entry::kIn) break;
  }
  std::erase(tickets_, ticket);
  if (entry == Entry::kIn) ++inside_;
  changed_.notify_all();
  return entry;
}

void Turnstile::Leave() {
  const std::lock_guard lock(mutex_);
  --inside_;
  changed_.notify_all();
}

void Turnstile::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

void Turnstile::Open() {
  const std::lock_guard lock(mutex_);
  closed_ = false;
  changed_.notify_all();
}

size_t Turnstile::inside() const {
  const std::lock_guard lock(mutex_);
  return inside_;
}

size_t Turnstile::waiting() const {
  const std::lock_guard lock(mutex_);
  return tickets_.size();
}

}  // namespace keytrail
