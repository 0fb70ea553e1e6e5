#include "collector/cli/graces.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdlib>

namespace keytrail {
namespace {

constexpr double kMostSeconds = 86'400 * 7;

int64_t* Named(Graces& graces, const std::string& name) {
  if (name == "pd") return &graces.pd_ns;
  if (name == "follower") return &graces.follower_ns;
  if (name == "store") return &graces.store_lag_ns;
  if (name == "client") return &graces.client_ns;
  if (name == "address") return &graces.address_ns;
  if (name == "hole") return &graces.hole_ns;
  return nullptr;
}

}  // namespace

void AddGraceOption(CLI::App& command, Graces& graces) {
  command
      .add_option_function<std::vector<std::string>>(
          "--grace",
          [&graces](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) {
              const size_t equals = text.find('=');
              int64_t* const grace = Named(graces, text.substr(0, equals));
              if (equals == std::string::npos || grace == nullptr) {
                throw CLI::ValidationError(
                    "--grace",
                    "'" + text + "' is not pd, follower, store, client, address or hole = seconds");
              }
              const std::string number = text.substr(equals + 1);
              char* end = nullptr;
              const double seconds = std::strtod(number.c_str(), &end);
              if (number.empty() || *end != '\0' || !std::isfinite(seconds) || seconds < 0 ||
                  seconds > kMostSeconds) {
                throw CLI::ValidationError("--grace",
                                           "'" + number + "' is no number of seconds up to a week");
              }
              *grace = std::llround(seconds * 1e9);
            }
          },
          "How long PD may answer (pd, follower), a store refuse (store) or a client ask (client) by an "
          "older version "
          "than it was told, how long clients may be sent to a store's old address (address), and how long a "
          "client may take to read on behind a hole (hole), in seconds: pd=10 follower=60 store=60 client=10 "
          "address=60 hole=10")
      ->type_name("NAME=SECONDS")
      ->allow_extra_args(false);
}

}  // namespace keytrail
