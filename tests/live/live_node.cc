// live_node ROLE: a node of the live test's cluster, or an end of a gRPC load. tests/live/README.md.
#include <CLI/CLI.hpp>

#include "tests/live/client_node.h"
#include "tests/live/load.h"
#include "tests/live/pd_node.h"
#include "tests/live/store_node.h"

int main(int argc, char** argv) {
  using namespace keytrail::live;
  CLI::App app("A node of the live test's TiDB cluster, or an end of a gRPC load");
  app.require_subcommand(1);

  std::string address;
  uint32_t value_bytes = 100;
  uint32_t work_us = 0;
  CLI::App* serve = app.add_subcommand("serve", "Answer KvGet until standard input ends");
  serve->add_option("address", address, "HOST:PORT to listen at")->required();
  serve->add_option("--value-bytes", value_bytes, "Size of a value")->capture_default_str();
  serve->add_option("--work-us", work_us, "Processor time that a call takes beside gRPC's")
      ->capture_default_str()
      ->check(CLI::Range(0, 1'000'000));

  LoadPlan plan;
  CLI::App* load = app.add_subcommand("load", "Send KvGet calls and print throughput and latency as JSON");
  load->add_option("address", plan.address, "HOST:PORT of the server")->required();
  load->add_option("seconds", plan.seconds, "How long")->required();
  load->add_option("concurrency", plan.concurrency, "Calls at a time")
      ->required()
      ->check(CLI::Range(1, 1000));
  load->add_option("rate", plan.rate, "Calls a second in all; 0: as many as it takes")->capture_default_str();
  load->add_option("--connections", plan.connections, "TCP connections")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));

  std::string pd_address;
  uint64_t seed = 1;
  bool unary = false;
  CLI::App* pd = app.add_subcommand("pd", "A PD");
  CLI::App* store = app.add_subcommand("store", "A TiKV");
  CLI::App* client = app.add_subcommand("client", "A TiDB");
  for (CLI::App* node : {pd, store})
    node->add_option("address", address, "HOST:PORT to listen at")->required();
  for (CLI::App* node : {store, client}) node->add_option("--pd", pd_address, "HOST:PORT of PD")->required();
  for (CLI::App* node : {pd, store, client}) node->add_option("--seed", seed, "Of its random numbers");
  client->add_flag("--unary", unary, "No BatchCommands streams, as with max-batch-size = 0");

  CLI11_PARSE(app, argc, argv);
  if (*serve) return Serve(address, value_bytes, work_us);
  if (*pd) return RunPd(address, seed);
  if (*store) return RunStore(address, pd_address, seed);
  if (*client) return RunClient(pd_address, !unary, seed);
  return Load(plan);
}
