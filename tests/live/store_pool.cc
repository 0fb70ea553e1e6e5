#include "tests/live/store_pool.h"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "tikvpb.grpc.pb.h"

namespace keytrail::live {

namespace {

constexpr int kConnections = 4;
// client-go's ReadTimeoutShort is 30 s, and changes with what is left of the statement's time; what matters
// is that a broken link ends.
constexpr std::chrono::seconds kTimeout{20};
constexpr int kMostAtOnce = 128;  // max-batch-size

}  // namespace

// One BatchCommands stream: what waits goes out as one message, answers come in any order.
class BatchStream {
 public:
  BatchStream(tikvpb::Tikv::Stub& stub, std::atomic<uint64_t>& last_request_id)
      : last_request_id_(last_request_id), stream_(stub.BatchCommands(&context_)) {
    writer_ = std::thread([this] { Write(); });
    reader_ = std::thread([this] { Read(); });
  }
  ~BatchStream() {
    End();
    context_.TryCancel();
    writer_.join();
    reader_.join();
    stream_->Finish();
  }

  std::optional<Answer> Ask(const Question& question) {
    std::future<std::optional<Answer>> answer;
    uint64_t id = 0;
    {
      const std::lock_guard lock(mutex_);
      if (ended_) return {};
      id = ++last_request_id_;
      answer = asked_[id].get_future();
      waiting_.emplace_back(id, question);
    }
    changed_.notify_one();
    if (answer.wait_for(kTimeout) == std::future_status::ready) return answer.get();
    const std::lock_guard lock(mutex_);
    asked_.erase(id);
    return {};
  }

 private:
  void End() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    for (auto& [id, promise] : asked_) promise.set_value({});
    asked_.clear();
    changed_.notify_all();
  }

  void Write() {
    for (;;) {
      tikvpb::BatchCommandsRequest batch;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return ended_ || !waiting_.empty(); });
        if (ended_) return;
        while (!waiting_.empty() && batch.requests_size() < kMostAtOnce) {
          batch.add_request_ids(waiting_.front().first);
          *batch.add_requests() = std::move(waiting_.front().second);
          waiting_.pop_front();
        }
      }
      if (!stream_->Write(batch)) return;
    }
  }

  void Read() {
    tikvpb::BatchCommandsResponse batch;
    while (stream_->Read(&batch)) {
      const std::lock_guard lock(mutex_);
      for (int i = 0; i < batch.responses_size(); ++i) {
        const auto found = asked_.find(batch.request_ids(i));
        if (found == asked_.end()) continue;
        found->second.set_value(batch.responses(i));
        asked_.erase(found);
      }
    }
    End();
  }

  std::atomic<uint64_t>& last_request_id_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<tikvpb::BatchCommandsRequest, tikvpb::BatchCommandsResponse>>
      stream_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<uint64_t, Question>> waiting_;
  std::map<uint64_t, std::promise<std::optional<Answer>>> asked_;
  bool ended_ = false;
  std::thread writer_, reader_;
};

struct StorePool::Connection {
  std::unique_ptr<tikvpb::Tikv::Stub> stub;
  std::mutex mutex;
  std::shared_ptr<BatchStream> stream;
};

StorePool::StorePool(const std::string& address, bool batch) : batch_(batch) {
  for (int i = 0; i < kConnections; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a TCP connection of its own
    connections_.push_back(std::make_unique<Connection>());
    connections_.back()->stub = tikvpb::Tikv::NewStub(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  }
}

StorePool::~StorePool() = default;

namespace {

template <typename Call>
bool Unary(Call&& call) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kTimeout);
  return call(&context).ok();
}

std::optional<Answer> AskUnary(tikvpb::Tikv::Stub& stub, const Question& question) {
  Answer answer;
  bool ok = false;
  switch (question.cmd_case()) {
    case Question::kGet:
      ok = Unary([&](auto* c) { return stub.KvGet(c, question.get(), answer.mutable_get()); });
      break;
    case Question::kBatchGet:
      ok = Unary([&](auto* c) { return stub.KvBatchGet(c, question.batchget(), answer.mutable_batchget()); });
      break;
    case Question::kScan:
      ok = Unary([&](auto* c) { return stub.KvScan(c, question.scan(), answer.mutable_scan()); });
      break;
    case Question::kPrewrite:
      ok = Unary([&](auto* c) { return stub.KvPrewrite(c, question.prewrite(), answer.mutable_prewrite()); });
      break;
    case Question::kCommit:
      ok = Unary([&](auto* c) { return stub.KvCommit(c, question.commit(), answer.mutable_commit()); });
      break;
    default:
      ok = Unary(
          [&](auto* c) { return stub.Coprocessor(c, question.coprocessor(), answer.mutable_coprocessor()); });
  }
  if (!ok) return {};
  return answer;
}

}  // namespace

std::optional<Answer> StorePool::Ask(const Question& question) {
  Connection& connection = *connections_[turn_++ % connections_.size()];
  if (!batch_) return AskUnary(*connection.stub, question);
  std::shared_ptr<BatchStream> stream;
  {
    const std::lock_guard lock(connection.mutex);
    if (!connection.stream)
      connection.stream = std::make_shared<BatchStream>(*connection.stub, last_request_id_);
    stream = connection.stream;
  }
  std::optional<Answer> answer = stream->Ask(question);
  if (!answer) {
    const std::lock_guard lock(connection.mutex);
    if (connection.stream == stream) connection.stream.reset();
  }
  return answer;
}

}  // namespace keytrail::live
