#include "tests/unit/correlate/script.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <random>
#include <sstream>
#include <stdexcept>

#include "common/key_codec.h"

namespace keytrail::testing {
namespace {

constexpr int64_t kStartNs = 1'795'451'400'000'000'000;  // 2026-11-23 16:30:00 UTC
constexpr int64_t kAnswerAfterNs = 500'000;

[[noreturn]] void Bad(const std::string& line, const std::string& why) {
  throw std::invalid_argument("script line '" + line + "': " + why);
}

Endpoint EndpointOf(const std::string& host, uint16_t port) {
  return {ParseAddress(AddressOf(host)).value(), port};
}

struct Line {
  std::string text;
  int64_t at_ns = 0;
  std::string client, server, call;
  std::vector<std::string> arguments;
  std::string answer;
  std::vector<std::string> values;
  uint16_t port = 0;
  uint32_t stream = 0;
  uint64_t id = 0;
  uint64_t limit = 0;
  uint64_t cluster = 0;
  uint64_t store = 0;
  uint64_t ts = 0;
  bool late = false;
};

// Splits "7.3[a,m)" into its region and its range.
struct RegionText {
  uint64_t region = 0;
  uint64_t version = 0;
  std::string range;
};

class Maker {
 public:
  Maker(const Line& line, const ScriptOptions& options) : line_(line), options_(options) {}

  std::unique_ptr<OwnedRecord> Make(const std::string& observer) {
    auto out = std::make_unique<OwnedRecord>();
    out_ = out.get();
    CallRecord& call = out->call;
    const auto clock = options_.clock_ns.find(observer);
    const int64_t shift = clock == options_.clock_ns.end() ? 0 : clock->second;
    const int64_t forth = observer == line_.server && observer != line_.client ? options_.network_ns : 0;
    const int64_t back = observer == line_.client && observer != line_.server ? options_.network_ns : 0;
    call.client = EndpointOf(line_.client, line_.port);
    call.server = EndpointOf(line_.server, ServerPort());
    // tidb1 and tikv1 may have the same port.
    call.connection = uint64_t{line_.port} << 16 | static_cast<unsigned>(line_.client[2]) << 8 |
                      static_cast<unsigned>(line_.server.back() - '0');
    call.joined_at_start = !line_.late;
    call.req_first = call.req_last = {kStartNs + line_.at_ns + forth + shift};
    if (line_.answer != "lost" && line_.answer != "reset") {
      call.resp_first =
          call.resp_last = {kStartNs + line_.at_ns + options_.network_ns + kAnswerAfterNs + back + shift};
    }
    call.stream = line_.stream;
    call.req_bytes = 10 + line_.text.size();
    call.resp_bytes = 20;
    call.req_messages = call.resp_messages = 1;
    call.method_from = MethodFrom::kHeader;
    call.request = &out->request;
    call.response = &out->response;
    Request();
    if (line_.answer == "lost" || line_.answer == "reset") {
      call.response = nullptr;
      call.incomplete |= kResponseNotSeen;
      call.reset = line_.answer == "reset";
    } else {
      Answer();
    }
    return out;
  }

 private:
  uint16_t ServerPort() const { return line_.server.rfind("pd", 0) == 0 ? 2379 : 20160; }
  Bytes Keep(const std::string& s) { return out_->request.arena.Copy(AsBytes(s)); }
  std::string Bound(const std::string& raw) const {
    if (raw == "-") return "";
    return options_.raw_bounds ? raw : EncodeKey(AsBytes(raw));
  }

  std::pair<std::string, std::string> Split(const std::string& range) const {
    const size_t comma = range.find(',');
    if (range.size() < 4 || range.front() != '[' || range.back() != ')' || comma == std::string::npos) {
      Bad(line_.text, "no range: " + range);
    }
    return {range.substr(1, comma - 1), range.substr(comma + 1, range.size() - comma - 2)};
  }

  RegionText Region(const std::string& word) const {
    RegionText r;
    char* end = nullptr;
    r.region = std::strtoull(word.c_str(), &end, 10);
    if (*end != '.') Bad(line_.text, "no region: " + word);
    r.version = std::strtoull(end + 1, &end, 10);
    r.range = end;
    return r;
  }

  void State(MessageFacts& facts, const std::string& word, StatementSource source) {
    const RegionText r = Region(word);
    const auto [start, end] = Split(r.range);
    RegionStatement s;
    s.source = source;
    s.region_id = r.region;
    s.version = r.version;
    s.conf_ver = 1;
    s.has_epoch = r.version != 0;
    s.start = Keep(Bound(start));
    s.end = Keep(Bound(end));
    facts.statements.push_back(s);
  }

  void Ask(const std::string& raw, bool previous = false) {
    KeyItem item;
    item.form = KeyForm::kEncoded;
    item.start = Keep(Bound(raw));
    item.previous = previous;
    out_->request.keys.push_back(item);
  }

  void AskRange(const std::string& range, KeyForm form) {
    const auto [start, end] = Split(range);
    KeyItem item;
    item.is_range = true;
    item.form = form;
    item.start = Keep(form == KeyForm::kEncoded ? Bound(start) : start == "-" ? "" : start);
    item.end = Keep(form == KeyForm::kEncoded ? Bound(end) : end == "-" ? "" : end);
    out_->request.keys.push_back(item);
  }

  void Request() {
    const std::string& name = line_.call;
    CallRecord& call = out_->call;
    MessageFacts& facts = out_->request;
    facts.limit = line_.limit;
    facts.cluster_id = line_.cluster;
    facts.start_ts = line_.ts;
    const auto& arguments = line_.arguments;
    if (name == "GetRegion" || name == "GetPrevRegion") {
      call.method =
          "/pdpb.PD/" + name == "/pdpb.PD/GetRegion" ? "/pdpb.PD/GetRegion" : "/pdpb.PD/GetPrevRegion";
      source_ = StatementSource::kPdGetRegion;
      Ask(arguments.at(0), name == "GetPrevRegion");
    } else if (name == "GetRegionByID") {
      call.method = "/pdpb.PD/GetRegionByID";
      source_ = StatementSource::kPdGetRegion;
      facts.asked_region_ids.push_back(std::stoull(arguments.at(0)));
    } else if (name == "GetStore" || name == "GetAllStores") {
      call.method = name == "GetStore" ? "/pdpb.PD/GetStore" : "/pdpb.PD/GetAllStores";
      if (name == "GetStore") facts.store_id = std::stoull(arguments.at(0));
    } else if (name == "ScanRegions" || name == "ScanAll") {
      call.method = name == "ScanAll" ? "/pdpb.PD/BatchScanRegions" : "/pdpb.PD/ScanRegions";
      source_ = StatementSource::kPdScanRegions;
      facts.contain_all_key_range = name == "ScanAll";
      AskRange(arguments.at(0), KeyForm::kEncoded);
    } else if (name == "QueryRegion") {
      call.method = "/pdpb.PD/QueryRegion";
      call.kind = CallKind::kSub;
      source_ = StatementSource::kPdQueryRegion;
      for (const std::string& key : arguments) Ask(key);
    } else if (name == "Heartbeat" || name == "ReportSplit") {
      const bool beat = name == "Heartbeat";
      call.method = beat ? "/pdpb.PD/RegionHeartbeat" : "/pdpb.PD/ReportBatchSplit";
      call.kind = beat ? CallKind::kMessage : CallKind::kUnary;
      for (const std::string& word : arguments) {
        State(facts, word, beat ? StatementSource::kHeartbeat : StatementSource::kSplitReport);
      }
    } else if (name == "Mystery") {
      call.method_from = MethodFrom::kUnknown;
      call.request = nullptr;
      call.incomplete |= kHeadersNotSeen;
    } else {
      Routed();
    }
  }

  void Routed() {
    static const std::map<std::string, const char*> kCommands = {
        {"Get", "Get"},           {"Prewrite", "Prewrite"}, {"Commit", "Commit"},
        {"BatchGet", "BatchGet"}, {"RawGet", "RawGet"},     {"Cop", "Coprocessor"},
        {"Scan", "Scan"},         {"ScanLock", "ScanLock"}, {"BatchCop", "BatchCoprocessor"}};
    const auto command = kCommands.find(line_.call);
    if (command == kCommands.end()) Bad(line_.text, "unknown call");
    CallRecord& call = out_->call;
    call.method = "/tikvpb.Tikv/BatchCommands";
    call.command = command->second;
    call.kind = CallKind::kSub;
    call.request_id = line_.id;
    if (line_.call == "BatchCop") {
      BatchCop();
      return;
    }
    const RegionText r = Region(line_.arguments.at(0));
    Route route;
    route.region_id = r.region;
    route.version = r.version;
    route.conf_ver = 1;
    route.has_epoch = true;
    route.store_id = line_.store;
    out_->request.routes.push_back(route);
    out_->request.raw_keyspace = line_.call == "RawGet";
    for (size_t i = 1; i < line_.arguments.size(); ++i) {
      if (line_.arguments[i].front() == '[') {
        AskRange(line_.arguments[i], KeyForm::kRaw);
        continue;
      }
      KeyItem item;
      item.form = KeyForm::kRaw;
      item.start = Keep(line_.arguments[i]);
      out_->request.keys.push_back(item);
    }
  }

  // A region and a range of it a part.
  void BatchCop() {
    out_->call.method = "/tikvpb.Tikv/BatchCoprocessor";
    out_->call.command = {};
    for (const std::string& word : line_.arguments) {
      const RegionText r = Region(word);
      Route route;
      route.kind = Route::Kind::kRegionInfo;
      route.region_id = r.region;
      route.version = r.version;
      route.conf_ver = 1;
      route.has_epoch = true;
      AskRange(r.range, KeyForm::kRaw);
      out_->request.keys.back().route = static_cast<uint16_t>(out_->request.routes.size());
      out_->request.routes.push_back(route);
    }
  }

  void Bounds(ErrorFact& e, const std::string& range) {
    const auto [start, end] = Split(range);
    e.has_bounds = true;
    e.start = Keep(Bound(start));
    e.end = Keep(Bound(end));
  }

  void Answer() {
    MessageFacts& facts = out_->response;
    const std::string& a = line_.answer;
    const auto& v = line_.values;
    ErrorFact e;
    e.region_id = out_->request.routes.empty() ? 0 : out_->request.routes.front().region_id;
    if (a == "none" || a == "ok") return;
    if (a == "outside" || a == "notin") {
      e.kind = a == "outside" ? ErrorKind::kKeyOutOfRegion : ErrorKind::kKeyNotInRegion;
      e.has_key = true;
      e.key = Keep(Bound(v.at(0)));
      Bounds(e, v.at(1));
    } else if (a == "exceeds") {
      e.kind = ErrorKind::kRangeExceedsBound;
      const auto [start, end] = Split(v.at(0));
      e.has_range = true;
      e.range_start = Keep(Bound(start));
      e.range_end = Keep(Bound(end));
      Bounds(e, v.at(1));
    } else if (a == "inverted") {
      e.kind = ErrorKind::kInvertedRange;
      const auto [start, end] = Split(v.at(0));
      e.has_range = true;
      e.key_form = KeyForm::kRaw;
      e.range_start = Keep(start);
      e.range_end = Keep(end);
    } else if (a == "redacted") {
      e.kind = ErrorKind::kRedacted;
    } else if (a == "epoch") {
      e.kind = ErrorKind::kEpochNotMatch;
      e.statement_count = static_cast<uint32_t>(v.size());
      for (const std::string& word : v) State(facts, word, StatementSource::kEpochNotMatch);
    } else if (a == "not_leader") {
      e.kind = ErrorKind::kNotLeader;
    } else if (a == "not_found") {
      e.kind = ErrorKind::kRegionNotFound;
    } else if (a == "store_not_match") {
      e.kind = ErrorKind::kStoreNotMatch;
      e.request_store_id = line_.store;
      if (!v.empty()) e.actual_store_id = std::stoull(v.front());
    } else if (a == "busy") {
      e.kind = ErrorKind::kServerIsBusy;
    } else {
      State(facts, a, source_);
      for (const std::string& word : v) State(facts, word, source_);
      if (line_.call == "QueryRegion") {
        for (size_t i = 0; i < out_->request.keys.size(); ++i) {
          facts.key_id_map.push_back(facts.statements[std::min(i, facts.statements.size() - 1)].region_id);
        }
      }
      return;
    }
    facts.errors.push_back(e);
  }

  const Line& line_;
  const ScriptOptions& options_;
  OwnedRecord* out_ = nullptr;
  StatementSource source_ = StatementSource::kOther;
};

Line ParseLine(const std::string& text, uint64_t number) {
  Line line;
  line.text = text;
  std::istringstream words(text);
  std::string when, arrow;
  if (!(words >> when >> line.client >> arrow >> line.server >> line.call) || arrow != ">")
    Bad(text, "no call");
  line.at_ns = static_cast<int64_t>(std::stod(when) * (when.back() == 's' ? 1e9 : 1e6));
  line.id = number;
  line.stream = static_cast<uint32_t>(2 * number + 1);
  if (line.call == "Heartbeat") line.stream = 1;
  if (line.call == "QueryRegion") line.stream = 3;
  bool answer = false;
  for (std::string word; words >> word;) {
    if (word == "=") {
      answer = true;
    } else if (word == "late") {
      line.late = true;
    } else if (word.rfind("port=", 0) == 0) {
      line.port = static_cast<uint16_t>(std::stoi(word.substr(5)));
    } else if (word.rfind("stream=", 0) == 0) {
      line.stream = static_cast<uint32_t>(std::stoul(word.substr(7)));
    } else if (word.rfind("store=", 0) == 0) {
      line.store = std::stoull(word.substr(6));
    } else if (word.rfind("ts=", 0) == 0) {
      line.ts = std::stoull(word.substr(3));
    } else if (word.rfind("limit=", 0) == 0) {
      line.limit = std::stoull(word.substr(6));
    } else if (word.rfind("cluster=", 0) == 0) {
      line.cluster = std::stoull(word.substr(8));
    } else if (word.rfind("id=", 0) == 0) {
      line.id = std::stoull(word.substr(3));
    } else if (!answer) {
      line.arguments.push_back(word);
    } else if (line.answer.empty()) {
      line.answer = word;
    } else {
      line.values.push_back(word);
    }
  }
  if (line.answer.empty()) line.answer = "none";
  if (line.port == 0) {
    line.port = static_cast<uint16_t>(40000 + 100 * (line.client.back() - '0') + (line.server.back() - '0') +
                                      (line.server[0] == 'p' ? 10 : 20));
  }
  return line;
}

}  // namespace

std::string AddressOf(const std::string& host) {
  const int n = host.back() - '0';
  const int base = host.rfind("tidb", 0) == 0 ? 10 : host.rfind("pd", 0) == 0 ? 20 : 30;
  return "10.0.0." + std::to_string(base + n);
}

std::vector<ScriptRecord> ParseScript(const std::string& text, const ScriptOptions& options) {
  std::vector<ScriptRecord> out;
  std::istringstream in(text);
  uint64_t number = 0;
  for (std::string row; std::getline(in, row);) {
    const size_t first = row.find_first_not_of(" \t");
    if (first == std::string::npos || row[first] == '#') continue;
    const Line line = ParseLine(row, ++number);
    uint64_t side = 0;
    for (const std::string& host : {line.client, line.server}) {
      ++side;
      if (!options.captured.empty() && !options.captured.contains(host)) continue;
      ScriptRecord r;
      r.host = host;
      r.call_id = number * 2 + side;
      r.record = Maker(line, options).Make(host);
      out.push_back(std::move(r));
    }
  }
  return out;
}

void Feed(Correlator& correlator, const std::vector<ScriptRecord>& records, const ScriptOptions& options) {
  std::set<std::string> hosts;
  for (const ScriptRecord& r : records) hosts.insert(r.host);
  std::map<std::string, uint32_t> agents;
  for (const std::string& host : hosts) {
    const auto n = static_cast<uint32_t>(agents.size());
    agents[host] = options.reverse_agents ? 100 - n : n + 1;
  }
  for (const auto& [host, agent] : agents) {
    const auto name = options.names.find(host);
    correlator.AddAgent({agent, name == options.names.end() ? "" : name->second, ""});
  }
  std::vector<const ScriptRecord*> order;
  for (const ScriptRecord& r : records) order.push_back(&r);
  if (options.shuffle_seed != 0) std::shuffle(order.begin(), order.end(), std::mt19937(options.shuffle_seed));
  for (const ScriptRecord* r : order) correlator.Add(agents[r->host], r->call_id, r->record->call);
}

void Translate(std::vector<ScriptRecord>& records, const Network& network) {
  for (ScriptRecord& r : records) {
    CallRecord& call = r.record->call;
    const std::string client = FormatAddress(call.client.address);
    if (AddressOf(r.host) == client && network.hide_servers) {
      const std::string server = FormatAddress(call.server.address);
      call.server = {ParseAddress("10.8.0." + server.substr(server.rfind('.') + 1)).value(),
                     static_cast<uint16_t>(call.server.port + 1000)};
    }
    if (AddressOf(r.host) != client && network.hide_clients) {
      const int last = std::stoi(client.substr(client.rfind('.') + 1));
      call.client = {ParseAddress("10.9.0.1").value(), static_cast<uint16_t>(call.client.port + 300 * last)};
    }
  }
}

InvestigationReport Investigate(const std::string& text, const ScriptOptions& options) {
  Correlator correlator(options.graces);
  const auto records = ParseScript(text, options);
  Feed(correlator, records, options);
  return correlator.Judge();
}

std::string Summary(const InvestigationReport& report) {
  std::string out;
  const auto add = [&](const std::string& entry) { out += (out.empty() ? "" : "; ") + entry; };
  const auto region = [](const auto& v) {
    return std::to_string(v.region_id) + "." + std::to_string(v.version);
  };
  for (const Verdict& v : report.verdicts) {
    add(std::string(ComponentName(v.component)) + (v.certain ? " certain " : " inferred ") + v.rule + " " +
        region(v) + " x" + std::to_string(v.occurrences));
  }
  for (const Inconclusive& v : report.inconclusive) {
    std::string suspects;
    for (Component c : v.suspects) suspects += (suspects.empty() ? "" : ",") + std::string(ComponentName(c));
    add("inconclusive " + suspects + " " + v.rule + " " + region(v) + " x" + std::to_string(v.occurrences));
  }
  return out;
}

}  // namespace keytrail::testing
