// One shared segmenter for parser tests: the same bytes whole, byte by byte, at every split point, at random
// splits. A parser passes when its events are the same every time (compare after joining adjacent data).
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "common/bytes.h"

namespace keytrail::testing {

using Pieces = std::vector<Bytes>;

// Calls `check` with every way of cutting `bytes` that the house demands. `label` says which, for failure
// messages. Every split point in two: all of them up to 4 KiB of input, else 512 spread evenly.
inline void ForEachSegmentation(Bytes bytes,
                                const std::function<void(const Pieces&, const std::string& label)>& check,
                                uint32_t seed = 1, int random_rounds = 20) {
  check({bytes}, "whole");
  Pieces single;
  for (size_t i = 0; i < bytes.size(); ++i) single.push_back(bytes.subspan(i, 1));
  check(single, "byte by byte");
  const size_t step = bytes.size() <= 4096 ? 1 : bytes.size() / 512;
  for (size_t at = 1; at < bytes.size(); at += step) {
    check({bytes.first(at), bytes.subspan(at)}, "split at " + std::to_string(at));
  }
  std::mt19937 random(seed);
  for (int round = 0; round < random_rounds; ++round) {
    Pieces pieces;
    const size_t longest = size_t{1} << (1 + round % 11);
    for (size_t at = 0; at < bytes.size();) {
      const size_t n = std::min(bytes.size() - at, size_t{1} + random() % longest);
      pieces.push_back(bytes.subspan(at, n));
      at += n;
    }
    check(pieces, "random splits, seed " + std::to_string(seed) + " round " + std::to_string(round));
  }
}

}  // namespace keytrail::testing
