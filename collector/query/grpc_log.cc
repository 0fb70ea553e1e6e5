#include "collector/query/grpc_log.h"

#include <grpc/support/log.h>

#include <cstdlib>
#include <mutex>

namespace keytrail {

namespace {

thread_local std::string last_error;

void Keep(gpr_log_func_args* line) {
  if (line->severity == GPR_LOG_SEVERITY_ERROR) last_error = line->message;
}

}  // namespace

void QuietGrpc() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function(Keep);
  });
}

std::string LastSystemError() {
  static constexpr std::string_view kBefore = "os_error:\"";
  const size_t at = last_error.rfind(kBefore);
  if (at == std::string::npos) return {};
  const size_t begin = at + kBefore.size();
  return last_error.substr(begin, last_error.find('"', begin) - begin);
}

}  // namespace keytrail
