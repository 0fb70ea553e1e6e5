// Answers from a collector, over gRPC.

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <mutex>

#include "collector/query/answer_source.h"
#include "collector/query/certificates.h"
#include "collector/query/grpc_log.h"
#include "collector/query/messages.h"
#include "proto/keytrail/query.grpc.pb.h"

namespace keytrail {

namespace {

using End = SqlOutcome::End;

constexpr std::chrono::seconds kConnect{3};
constexpr std::chrono::milliseconds kLook{200};
// A row may have kMaxSqlRowBytes; a report has no bound of its own.
constexpr int kMaxMessageBytes = 256 << 20;

End EndOf(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::PERMISSION_DENIED:
      return End::kRefused;
    case grpc::StatusCode::INVALID_ARGUMENT:
      return End::kWrong;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return End::kTimeLimit;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return End::kBusy;
    case grpc::StatusCode::CANCELLED:
      return End::kCancelled;
    case grpc::StatusCode::ABORTED:
      return End::kAborted;
    default:
      return End::kEnvironment;
  }
}

class CollectorSource final : public AnswerSource {
 public:
  CollectorSource(std::string address, const std::shared_ptr<grpc::Channel>& channel)
      : address_(std::move(address)), stub_(query::Query::NewStub(channel)) {}

  SqlOutcome Sql(const SqlRequest& request, const ColumnVisitor& on_columns,
                 const RowVisitor& on_row) override {
    query::SqlRequest question;
    WriteRequest(request, question);
    const Call call(*this);
    const std::unique_ptr<grpc::ClientReader<query::SqlAnswer>> answers =
        stub_->Sql(&call.context(), question);
    SqlOutcome outcome;
    bool wanted = true;
    std::vector<Store::QueryValue> row;
    for (query::SqlAnswer answer; wanted && answers->Read(&answer);) {
      if (answer.has_columns())
        on_columns({answer.columns().names().begin(), answer.columns().names().end()});
      if (answer.has_end()) {
        outcome.elapsed_ns = answer.end().elapsed_ns();
        if (answer.end().row_limit_reached()) {
          outcome.end = End::kRowLimit;
          outcome.text =
              "stopped after " + std::to_string(answer.end().rows()) + " rows, the limit; there are more";
        }
      }
      for (const query::SqlRow& from : answer.rows().rows()) {
        ReadRow(from, row);
        ++outcome.rows;
        wanted = wanted && on_row(row);
        if (!wanted) break;
      }
    }
    if (!wanted) call.context().TryCancel();
    const grpc::Status status = answers->Finish();
    if (!wanted) {
      outcome.end = End::kReader;
    } else if (!status.ok()) {
      outcome.end = EndOf(status.error_code());
      outcome.text = outcome.end == End::kEnvironment ? Told(status) : status.error_message();
    }
    return outcome;
  }

  Result<InvestigationReport> Report() override {
    query::VerdictsAnswer answer;
    const Call call(*this);
    const grpc::Status status = stub_->Verdicts(&call.context(), {}, &answer);
    if (!status.ok()) return Error{Told(status)};
    return ReadReport(answer);
  }

  Result<AgentsReport> Agents() override {
    query::AgentsAnswer answer;
    const Call call(*this);
    const grpc::Status status = stub_->Agents(&call.context(), {}, &answer);
    if (!status.ok()) return Error{Told(status)};
    return ReadAgents(answer);
  }

  Result<std::vector<LostEntry>> Losses() override {
    query::LossesAnswer answer;
    const Call call(*this);
    const grpc::Status status = stub_->Losses(&call.context(), {}, &answer);
    if (!status.ok()) return Error{Told(status)};
    std::vector<LostEntry> losses;
    for (const query::Loss& loss : answer.losses()) losses.push_back(ReadLoss(loss));
    return losses;
  }

  Status Watch(const WatchVisitor& visit) override {
    const Call call(*this);
    const std::unique_ptr<grpc::ClientReader<query::WatchEvent>> events = stub_->Watch(&call.context(), {});
    bool wanted = true;
    for (query::WatchEvent event; wanted && events->Read(&event);) wanted = visit(ReadEvent(event));
    if (!wanted) call.context().TryCancel();
    const grpc::Status status = events->Finish();
    if (!wanted || status.ok() || status.error_code() == grpc::StatusCode::CANCELLED) return Done{};
    return Error{Told(status)};
  }

  void Cancel() override {
    const std::lock_guard lock(mutex_);
    if (context_ != nullptr) context_->TryCancel();
  }

 private:
  // The one call that is under way, for Cancel().
  class Call {
   public:
    explicit Call(CollectorSource& source) : source_(source) {
      const std::lock_guard lock(source_.mutex_);
      source_.context_ = std::make_unique<grpc::ClientContext>();
    }
    ~Call() {
      const std::lock_guard lock(source_.mutex_);
      source_.context_ = nullptr;
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
    grpc::ClientContext& context() const { return *source_.context_; }

   private:
    CollectorSource& source_;
  };

  std::string Told(const grpc::Status& status) const {
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
      return "collector at " + address_ +
             ": it is another version and does not answer this: " + status.error_message();
    }
    return "collector at " + address_ + ": " + status.error_message();
  }

  std::string address_;
  std::unique_ptr<query::Query::Stub> stub_;
  std::mutex mutex_;  // guards context_ against Cancel()
  std::unique_ptr<grpc::ClientContext> context_;
};

// Why a connection that was tried did not come about; empty if there is nobody at all, who may still come.
std::string WhyNot(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(1));
  query::AgentsAnswer answer;
  const std::string text = query::Query::NewStub(channel)->Agents(&context, {}, &answer).error_message();
  const auto says = [&](const char* words) { return text.find(words) != std::string::npos; };
  if (says("CERTIFICATE_VERIFY_FAILED") || says("certificate verify failed")) {
    return "its certificate is not signed by an authority of --tls-ca, or is out of date";
  }
  if (says("Peer name")) return "its certificate is for another name (--tls-name says which one to expect)";
  if (says("WRONG_VERSION_NUMBER") || says("wrong version")) return "it does not speak TLS";
  if (says("andshake") || says("SSL") || says("Socket closed")) {
    return "the TLS connection fails; does it want a certificate (--tls-cert, --tls-key)? " + text;
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<AnswerSource>> ConnectToCollector(const std::string& address, const ClientTls& tls,
                                                         const std::atomic<bool>* stop) {
  const bool with_tls = !tls.ca.empty();
  const Status checked = CheckQueryAddress(address, with_tls);
  if (!checked.ok()) return Error{checked.error()};
  QuietGrpc();
  const Result<std::shared_ptr<grpc::ChannelCredentials>> credentials = ClientCredentials(tls);
  if (!credentials) return Error{credentials.error()};
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  // A collector is reached without whatever http_proxy says: what it tells is for nobody between.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  if (!tls.name.empty()) arguments.SetSslTargetNameOverride(tls.name);
  const std::shared_ptr<grpc::Channel> channel = grpc::CreateCustomChannel(address, *credentials, arguments);
  // gRPC waits by the wall clock, which may be set meanwhile: it is asked in short turns.
  const auto end = std::chrono::steady_clock::now() + kConnect;
  while (!channel->WaitForConnected(std::chrono::system_clock::now() + kLook)) {
    const bool over = std::chrono::steady_clock::now() >= end || (stop != nullptr && stop->load());
    std::string why;
    if (with_tls && (over || channel->GetState(false) == GRPC_CHANNEL_TRANSIENT_FAILURE))
      why = WhyNot(channel);
    if (!why.empty()) return Error{"no collector answers at " + address + ": " + why};
    if (over) {
      return Error{"no collector answers at " + address + " (keytrail-collector --query" +
                   (with_tls ? "" : "; --tls-ca if it wants TLS") + "); --db FILE reads a database"};
    }
  }
  return std::unique_ptr<AnswerSource>(std::make_unique<CollectorSource>(address, channel));
}

}  // namespace keytrail
