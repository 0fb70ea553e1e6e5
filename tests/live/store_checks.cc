#include "tests/live/store_checks.h"

#include "tests/live/keys.h"

namespace keytrail::live {

namespace {

// A point read through the snapshot: Debug text in KeyError.abort, with no region error (tikv#12665).
std::string PointText(const std::string& key, const CheckedRange& range) {
  return "Error(Txn(Error(Mvcc(Error(Kv(Error(Other(\"[components/tikv_kv/src/raftstore_impls.rs:35]: "
         "\\\"[components/raftstore/src/store/region_snapshot.rs:215]: Key " +
         Hex(Encoded(key)) + " is out of [region " + std::to_string(range.region_id) + "] [" +
         Hex(range.start) + ", " + Hex(range.end) + ")\\\"\"))))))))";
}

std::string DecimalBound(const std::string& key) {
  if (key.empty()) return "None";
  std::string text = "Some([";
  for (size_t i = 0; i < key.size(); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(static_cast<unsigned char>(key[i]));
  return text + "])";
}

// KvScan.
std::string ScanText(const Outside& outside, const CheckedRange& range) {
  return "Error(Txn(Error(InvalidReqRange { start: " + DecimalBound(Encoded(outside.start)) +
         ", end: " + DecimalBound(Encoded(outside.end)) + ", lower_bound: " + DecimalBound(range.start) +
         ", upper_bound: " + DecimalBound(range.end) + " })))";
}

std::string HexBound(const std::string& key) {
  return key.empty() ? "(none)" : Hex(key);
}

// Coprocessor.
std::string CoprocessorText(const Outside& outside, const CheckedRange& range) {
  return "Request range exceeds bound, request range:[" + Hex(Encoded(outside.start)) + ", " +
         Hex(Encoded(outside.end)) + "), physical bound:[" + HexBound(range.start) + ", " +
         HexBound(range.end) + ")";
}

class Looker {
 public:
  explicit Looker(const CheckedRange& range) : range_(range) {}

  void Key(const std::string& raw) {
    if (!outside.found && !Holds(range_.start, range_.end, Encoded(raw))) outside = {true, raw, ""};
  }
  void Range(const std::string& start, const std::string& end) {
    const std::string encoded_end = Encoded(end);
    const bool inside =
        Holds(range_.start, range_.end, Encoded(start)) && (range_.end.empty() || encoded_end <= range_.end);
    if (!outside.found && !inside) outside = {true, start, end};
  }

  Outside outside;

 private:
  const CheckedRange& range_;
};

std::string ValueOf(const std::string& key) {
  return "row of " + Hex(key);
}

}  // namespace

Outside FirstOutside(const Question& question, const CheckedRange& range) {
  Looker looker(range);
  if (question.has_get()) looker.Key(question.get().key());
  for (const std::string& key : question.batchget().keys()) looker.Key(key);
  for (const kvrpcpb::Mutation& mutation : question.prewrite().mutations()) looker.Key(mutation.key());
  for (const std::string& key : question.commit().keys()) looker.Key(key);
  if (question.has_scan()) looker.Range(question.scan().start_key(), question.scan().end_key());
  for (const coprocessor::KeyRange& asked : question.coprocessor().ranges())
    looker.Range(asked.start(), asked.end());
  return looker.outside;
}

kvrpcpb::Context* MutableContextOf(Question& question) {
  switch (question.cmd_case()) {
    case Question::kGet:
      return question.mutable_get()->mutable_context();
    case Question::kBatchGet:
      return question.mutable_batchget()->mutable_context();
    case Question::kScan:
      return question.mutable_scan()->mutable_context();
    case Question::kPrewrite:
      return question.mutable_prewrite()->mutable_context();
    case Question::kCommit:
      return question.mutable_commit()->mutable_context();
    case Question::kCoprocessor:
      return question.mutable_coprocessor()->mutable_context();
    default:
      return nullptr;
  }
}

const kvrpcpb::Context* ContextOf(const Question& question) {
  return MutableContextOf(const_cast<Question&>(question));
}

Answer WithRegionError(const Question& question, const errorpb::Error& error) {
  Answer answer;
  switch (question.cmd_case()) {
    case Question::kGet:
      *answer.mutable_get()->mutable_region_error() = error;
      break;
    case Question::kBatchGet:
      *answer.mutable_batchget()->mutable_region_error() = error;
      break;
    case Question::kScan:
      *answer.mutable_scan()->mutable_region_error() = error;
      break;
    case Question::kPrewrite:
      *answer.mutable_prewrite()->mutable_region_error() = error;
      break;
    case Question::kCommit:
      *answer.mutable_commit()->mutable_region_error() = error;
      break;
    default:
      *answer.mutable_coprocessor()->mutable_region_error() = error;
  }
  return answer;
}

Answer Refused(const Question& question, const Outside& outside, const CheckedRange& range) {
  Answer answer;
  switch (question.cmd_case()) {
    case Question::kGet:
      answer.mutable_get()->mutable_error()->set_abort(PointText(outside.start, range));
      break;
    case Question::kBatchGet: {
      kvrpcpb::KvPair* pair = answer.mutable_batchget()->add_pairs();
      pair->mutable_error()->set_abort(PointText(outside.start, range));
      break;
    }
    case Question::kScan:
      answer.mutable_scan()->add_pairs()->mutable_error()->set_abort(ScanText(outside, range));
      break;
    case Question::kPrewrite:
      answer.mutable_prewrite()->add_errors()->set_abort(PointText(outside.start, range));
      break;
    case Question::kCommit:
      answer.mutable_commit()->mutable_error()->set_abort(PointText(outside.start, range));
      break;
    default:
      answer.mutable_coprocessor()->set_other_error(CoprocessorText(outside, range));
  }
  return answer;
}

Answer Served(const Question& question) {
  Answer answer;
  switch (question.cmd_case()) {
    case Question::kGet:
      answer.mutable_get()->set_value(ValueOf(question.get().key()));
      break;
    case Question::kBatchGet:
      answer.mutable_batchget();
      for (const std::string& key : question.batchget().keys()) {
        kvrpcpb::KvPair* pair = answer.mutable_batchget()->add_pairs();
        pair->set_key(key);
        pair->set_value(ValueOf(key));
      }
      break;
    case Question::kScan: {
      kvrpcpb::KvPair* pair = answer.mutable_scan()->add_pairs();
      pair->set_key(question.scan().start_key());
      pair->set_value(ValueOf(pair->key()));
      break;
    }
    case Question::kPrewrite:
      answer.mutable_prewrite();
      break;
    case Question::kCommit:
      answer.mutable_commit()->set_commit_version(question.commit().commit_version());
      break;
    default:
      answer.mutable_coprocessor()->set_data(
          "rows of " + std::to_string(question.coprocessor().ranges_size()) + " ranges");
  }
  return answer;
}

const errorpb::Error* RegionErrorOf(const Answer& answer) {
  const auto of = [](const auto& response) {
    return response.has_region_error() ? &response.region_error() : nullptr;
  };
  switch (answer.cmd_case()) {
    case Answer::kGet:
      return of(answer.get());
    case Answer::kBatchGet:
      return of(answer.batchget());
    case Answer::kScan:
      return of(answer.scan());
    case Answer::kPrewrite:
      return of(answer.prewrite());
    case Answer::kCommit:
      return of(answer.commit());
    case Answer::kCoprocessor:
      return of(answer.coprocessor());
    default:
      return nullptr;
  }
}

std::string OtherErrorOf(const Answer& answer) {
  const auto of_pairs = [](const auto& response) {
    for (const kvrpcpb::KvPair& pair : response.pairs())
      if (!pair.error().abort().empty()) return pair.error().abort();
    return std::string();
  };
  switch (answer.cmd_case()) {
    case Answer::kGet:
      return answer.get().error().abort();
    case Answer::kBatchGet:
      return of_pairs(answer.batchget());
    case Answer::kScan:
      return of_pairs(answer.scan());
    case Answer::kPrewrite:
      return answer.prewrite().errors_size() == 0 ? "" : answer.prewrite().errors(0).abort();
    case Answer::kCommit:
      return answer.commit().error().abort();
    default:
      return answer.coprocessor().other_error();
  }
}

}  // namespace keytrail::live
