#include "common/call_record.h"

namespace keytrail {

std::string_view ErrorKindName(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kNone:
      return "none";
    case ErrorKind::kNotLeader:
      return "not_leader";
    case ErrorKind::kRegionNotFound:
      return "region_not_found";
    case ErrorKind::kKeyNotInRegion:
      return "key_not_in_region";
    case ErrorKind::kEpochNotMatch:
      return "epoch_not_match";
    case ErrorKind::kServerIsBusy:
      return "server_is_busy";
    case ErrorKind::kStaleCommand:
      return "stale_command";
    case ErrorKind::kStoreNotMatch:
      return "store_not_match";
    case ErrorKind::kRaftEntryTooLarge:
      return "raft_entry_too_large";
    case ErrorKind::kMaxTimestampNotSynced:
      return "max_timestamp_not_synced";
    case ErrorKind::kReadIndexNotReady:
      return "read_index_not_ready";
    case ErrorKind::kProposalInMergingMode:
      return "proposal_in_merging_mode";
    case ErrorKind::kDataIsNotReady:
      return "data_is_not_ready";
    case ErrorKind::kRegionNotInitialized:
      return "region_not_initialized";
    case ErrorKind::kDiskFull:
      return "disk_full";
    case ErrorKind::kRecoveryInProgress:
      return "recovery_in_progress";
    case ErrorKind::kFlashbackInProgress:
      return "flashback_in_progress";
    case ErrorKind::kFlashbackNotPrepared:
      return "flashback_not_prepared";
    case ErrorKind::kIsWitness:
      return "is_witness";
    case ErrorKind::kMismatchPeerId:
      return "mismatch_peer_id";
    case ErrorKind::kBucketVersionNotMatch:
      return "bucket_version_not_match";
    case ErrorKind::kUndeterminedResult:
      return "undetermined_result";
    case ErrorKind::kOtherRegionError:
      return "other_region_error";
    case ErrorKind::kKeyOutOfRegion:
      return "key_out_of_region";
    case ErrorKind::kRangeExceedsBound:
      return "range_exceeds_bound";
    case ErrorKind::kInvertedRange:
      return "inverted_range";
    case ErrorKind::kApiVersionMismatch:
      return "api_version_mismatch";
    case ErrorKind::kRedacted:
      return "redacted_range";
    case ErrorKind::kEpochText:
      return "epoch_text";
    case ErrorKind::kKeyLocked:
      return "locked";
    case ErrorKind::kKeyRetryable:
      return "retryable";
    case ErrorKind::kKeyAbort:
      return "abort";
    case ErrorKind::kWriteConflict:
      return "conflict";
    case ErrorKind::kAlreadyExist:
      return "already_exist";
    case ErrorKind::kDeadlock:
      return "deadlock";
    case ErrorKind::kTxnNotFound:
      return "txn_not_found";
    case ErrorKind::kOtherKeyError:
      return "other_key_error";
    case ErrorKind::kOtherError:
      return "other_error";
    case ErrorKind::kPdError:
      return "pd_error";
  }
  return "none";
}

std::string_view KeyFormName(KeyForm form) {
  switch (form) {
    case KeyForm::kNone:
      return "none";
    case KeyForm::kRaw:
      return "raw";
    case KeyForm::kEncoded:
      return "encoded";
  }
  return "none";
}

std::string_view StatementSourceName(StatementSource source) {
  switch (source) {
    case StatementSource::kUnknown:
      return "unknown";
    case StatementSource::kPdGetRegion:
      return "pd_get_region";
    case StatementSource::kPdScanRegions:
      return "pd_scan_regions";
    case StatementSource::kPdQueryRegion:
      return "pd_query_region";
    case StatementSource::kPdSyncRegions:
      return "pd_sync_regions";
    case StatementSource::kHeartbeat:
      return "heartbeat";
    case StatementSource::kSplitReport:
      return "split_report";
    case StatementSource::kEpochNotMatch:
      return "epoch_not_match";
    case StatementSource::kSplitResponse:
      return "split_response";
    case StatementSource::kKeyNotInRegion:
      return "key_not_in_region";
    case StatementSource::kErrorText:
      return "error_text";
    case StatementSource::kRetryRegions:
      return "retry_regions";
    case StatementSource::kPdHeartbeatAnswer:
      return "pd_heartbeat_answer";
    case StatementSource::kRequest:
      return "request";
    case StatementSource::kOther:
      return "other";
  }
  return "unknown";
}

std::string_view CallKindName(CallKind kind) {
  switch (kind) {
    case CallKind::kUnary:
      return "unary";
    case CallKind::kSub:
      return "sub";
    case CallKind::kMessage:
      return "message";
    case CallKind::kStream:
      return "stream";
    case CallKind::kAmend:
      return "amend";
  }
  return "unary";
}

std::string_view MethodFromName(MethodFrom from) {
  switch (from) {
    case MethodFrom::kUnknown:
      return "unknown";
    case MethodFrom::kHeader:
      return "header";
    case MethodFrom::kSlot:
      return "slot";
    case MethodFrom::kShape:
      return "shape";
  }
  return "unknown";
}

std::string_view IncompleteName(int bit) {
  static constexpr std::string_view kNames[kIncompleteBits] = {
      "request_not_seen", "response_not_seen", "headers_not_seen", "gap",     "cut",
      "over_cap",         "unknown_encoding",  "malformed",        "degraded"};
  return kNames[bit];
}

}  // namespace keytrail
