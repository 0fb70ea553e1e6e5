// Receiver: batches of agents from a ROUTER socket into the store, each exactly once, acknowledged after the
// commit (proto/keytrail/record.proto).
//
// One thread at a time uses it (it may be made on another); it uses Store and observer on that thread.
// Nothing that arrives is trusted: it is checked, counted and refused, and never ends the collector. A store
// that cannot write is told to the agents, which try again.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "collector/receive/door.h"
#include "collector/store/store.h"
#include "common/call_record.h"
#include "common/curve_key.h"
#include "common/limits.h"
#include "common/result.h"

namespace keytrail {

// Hears what is committed, in order, right after each commit.
class ReceiveObserver {
 public:
  virtual ~ReceiveObserver() = default;
  // An agent says hello: always before the first of its calls; again after a reconnect.
  virtual void OnAgent(const AgentRow& agent) = 0;
  // The record lives during the call only.
  virtual void OnCall(uint32_t agent, uint64_t call_id, const CallRecord& call) = 0;
  virtual void OnLoss(const LossRow& loss) = 0;
};

struct ReceiverOptions {
  // tcp://ADDR:PORT (PORT may be *), ipc://PATH, inproc://NAME.
  std::string listen;
  void* zmq_context = nullptr;  // a zmq::context_t that outlives the receiver; null: an own one
  uint32_t credit = limits::kCreditBatches;
  uint64_t agent_quota = 0;  // calls a second that one agent may have stored (quota.h); 0: no quota
  // With both, agents need a key of the folder `admitted`; without, only this host can be listened to.
  std::optional<SecretKey> key;
  std::string admitted;
};

struct ReceiverStats {
  uint64_t messages = 0;
  uint64_t bytes = 0;
  uint64_t hellos = 0;
  uint64_t batches = 0;           // stored
  uint64_t batches_repeated = 0;  // stored before, acknowledged again
  uint64_t calls = 0;
  uint64_t losses = 0;
  uint64_t agents_finished = 0;  // distinct starts of agents that said goodbye
  uint64_t over_quota = 0;       // times that an agent had to wait for its quota
  // Refused.
  uint64_t malformed = 0;  // no envelope, or out of bounds
  uint64_t wrong_version = 0;
  uint64_t without_session = 0;
  uint64_t out_of_order = 0;
  uint64_t corrupt = 0;
  uint64_t unavailable = 0;  // the store failed, or too many sessions
  uint64_t unadmitted = 0;   // messages of agents whose key is revoked, or that speak for another key's agent
  // Transactions: a batch each, or a jump over batches that an agent has no more.
  uint64_t commits = 0;
  int64_t commit_ns = 0;  // in the commit alone
  int64_t store_ns = 0;   // in the whole transactions, those that failed included
  DoorStats door;
};

// An agent that has said hello and not goodbye. Times of the steady clock but for newest_call_ns; 0: never.
struct AgentSession {
  std::string agent_key;
  int64_t heard_ns = 0;
  int64_t batch_ns = 0;        // its last batch was stored
  int64_t newest_call_ns = 0;  // of all its calls that were stored since the start, by its clock
};

// Error if `listen` is no address, or one that others than this host reach while there are no keys.
Status CheckListenAddress(const std::string& listen, bool with_keys = false);

class Receiver {
 public:
  // Binds. Error: the address and the reason. Store and observer must outlive the receiver.
  static Result<std::unique_ptr<Receiver>> Open(const ReceiverOptions& options, Store& store,
                                                ReceiveObserver& observer);
  ~Receiver();

  // Where agents connect to.
  const std::string& address() const;
  // For ShipperOptions::zmq_context of agents in this process. They must end before the receiver does.
  void* zmq_context();

  // Waits up to timeout_ms for a message, then handles what is there, but not for much longer than busy_ms.
  // True if anything was handled.
  bool Poll(int timeout_ms, int busy_ms = 200);

  ReceiverStats stats() const;
  // The latest of each agent; limits::kMaxSessions at most.
  std::vector<AgentSession> sessions() const;
  // What people should know of refused peers and of the keys, since the last call; not too much of it.
  std::vector<std::string> TakeNotices();
  // How many keys are admitted; 0 without keys.
  size_t admitted_keys() const;
  // The store's latest error, empty if its last batch went well.
  const std::string& store_error() const;

 private:
  Receiver();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace keytrail
