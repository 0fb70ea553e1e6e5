// Raft messages of one store to the others: a BatchRaft stream to each, and a Snapshot call for each
// snapshot. Thread-safe. Messages to one store go in the order in which they were given.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "raft_serverpb.pb.h"

namespace keytrail::live {

class RaftStreams {
 public:
  // `address_of` finds a store, and may block.
  explicit RaftStreams(std::function<std::string(uint64_t)> address_of)
      : address_of_(std::move(address_of)) {}
  ~RaftStreams();

  void Send(uint64_t store_id, raft_serverpb::RaftMessage message);  // never blocks

 private:
  struct Line {
    std::deque<raft_serverpb::RaftMessage> waiting;
    std::thread thread;
  };
  void Carry(uint64_t store_id, Line& line);

  const std::function<std::string(uint64_t)> address_of_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, std::unique_ptr<Line>> lines_;
  bool stopping_ = false;
};

}  // namespace keytrail::live
