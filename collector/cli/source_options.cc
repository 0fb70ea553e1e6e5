#include "collector/cli/source_options.h"

#include <charconv>

namespace keytrail {

void AddSourceOptions(CLI::App& command, SourceOptions& options) {
  auto* database =
      command.add_option("--db", options.database, "Read this folder of a collector, or database")
          ->type_name("PATH");
  command
      .add_option("--collector", options.collector,
                  "Ask the collector that answers queries there (its --query): HOST:PORT or unix:PATH")
      ->type_name("ADDR")
      ->capture_default_str()
      ->excludes(database);
  auto* ca = command
                 .add_option("--tls-ca", options.tls.ca,
                             "Ask over TLS; the collector's certificate is signed by one of these (PEM)")
                 ->type_name("FILE")
                 ->excludes(database);
  auto* certificate = command
                          .add_option("--tls-cert", options.tls.certificate,
                                      "Our certificate, if the collector wants one (PEM)")
                          ->type_name("FILE")
                          ->needs(ca);
  auto* key = command.add_option("--tls-key", options.tls.key, "Our certificate's private key (PEM)")
                  ->type_name("FILE")
                  ->needs(certificate);
  certificate->needs(key);
  command
      .add_option(
          "--tls-name", options.tls.name,
          "The name in the collector's certificate, if it is not the one of the address (as through ssh -L)")
      ->type_name("NAME")
      ->needs(ca);
}

Result<std::unique_ptr<AnswerSource>> OpenSource(const SourceOptions& options) {
  if (!options.database.empty()) return OpenDatabaseSource(options.database);
  return ConnectToCollector(options.collector, options.tls);
}

std::optional<int64_t> ParseDurationNs(const std::string& text) {
  double number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc()) return std::nullopt;
  const std::string unit(end, text.data() + text.size());
  double scale = 0;
  if (unit == "ms") scale = 1e6;
  if (unit == "s" || unit.empty()) scale = 1e9;
  if (unit == "m") scale = 60e9;
  if (unit == "h") scale = 3600e9;
  const double ns = number * scale;
  // A day is more than anybody waits; it keeps the sum far from overflowing.
  if (!(ns >= 1) || ns > 86'400e9) return std::nullopt;
  return static_cast<int64_t>(ns);
}

}  // namespace keytrail
