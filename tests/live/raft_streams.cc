#include "tests/live/raft_streams.h"

#include <grpcpp/grpcpp.h>

#include "tests/live/node.h"
#include "tikvpb.grpc.pb.h"

namespace keytrail::live {

RaftStreams::~RaftStreams() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (auto& [id, line] : lines_) line->thread.join();
}

void RaftStreams::Send(uint64_t store_id, raft_serverpb::RaftMessage message) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Line>& line = lines_[store_id];
  if (!line) {
    line = std::make_unique<Line>();
    line->thread = std::thread([this, store_id, &target = *line] { Carry(store_id, target); });
  }
  line->waiting.push_back(std::move(message));
  changed_.notify_all();
}

void RaftStreams::Carry(uint64_t store_id, Line& line) {
  const auto channel = grpc::CreateChannel(address_of_(store_id), grpc::InsecureChannelCredentials());
  const auto stub = tikvpb::Tikv::NewStub(channel);
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  raft_serverpb::Done done;
  const auto stream = stub->BatchRaft(&context, &done);
  for (;;) {
    raft_serverpb::RaftMessage message;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !line.waiting.empty(); });
      if (stopping_) break;
      message = std::move(line.waiting.front());
      line.waiting.pop_front();
    }
    bool sent = false;
    if (message.message().msg_type() == eraftpb::MsgSnapshot) {
      grpc::ClientContext snapshot_context;
      raft_serverpb::Done snapshot_done;
      const auto snapshot = stub->Snapshot(&snapshot_context, &snapshot_done);
      raft_serverpb::SnapshotChunk chunk;
      *chunk.mutable_message() = std::move(message);
      snapshot->Write(chunk);
      snapshot->WritesDone();
      sent = snapshot->Finish().ok();
    } else {
      tikvpb::BatchRaftMessage batch;
      *batch.add_msgs() = std::move(message);
      sent = stream->Write(batch);
    }
    if (!sent) Say("problem", {{"text", "raft messages do not reach store " + std::to_string(store_id)}});
  }
  context.TryCancel();
  stream->Finish();
}

}  // namespace keytrail::live
