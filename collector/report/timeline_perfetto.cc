#include "collector/report/timeline_perfetto.h"

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "collector/report/layout.h"
#include "collector/report/timeline_bars.h"
#include "collector/report/timeline_lanes.h"
#include "collector/report/timeline_words.h"
#include "common/plain_text.h"
#include "common/version.h"

namespace keytrail {
namespace {

using namespace report;  // NOLINT: the room's own pieces
using Json = nlohmann::ordered_json;

// The importer makes ns of µs by cutting off: neighbours keep this distance, so that none seems to overlap.
constexpr int64_t kApartNs = 2;
// Numbers of threads, apart from those of processes.
constexpr size_t kFirstThread = 1001;
constexpr size_t kMostListed = 8;

// A bar with its place in the trace.
struct Slice : TimelineBar {
  std::string thread;  // what the thread is called
  size_t tid = 0;
};

// Of a flow: "s", "t" and "f" at slices, in this order.
struct FlowEnd {
  size_t flow = 0;
  char phase = 's';
  const char* category = "";
  const char* name = "";
};

class Writer {
 public:
  explicit Writer(const Timeline& timeline)
      : timeline_(timeline), chart_(ChartLanes(timeline, 0)), bars_(MakeBars(timeline, chart_)) {}

  std::string Write() {
    MakeSlices();
    PackThreads();
    MakeFlows();
    Names();
    for (size_t i = 0; i < slices_.size(); ++i) WriteSlice(i);
    Instants();
    return Text();
  }

 private:
  void Event(int64_t ts_ns, Json event) { events_.emplace_back(ts_ns, std::move(event)); }

  static double Micros(int64_t ns) { return static_cast<double>(ns) / 1000.0; }

  void MakeSlices() {
    for (const TimelineBar& bar : bars_.bars) {
      const TimelineCall& call = timeline_.calls[bar.call];
      slices_.push_back(
          {bar, PlainText(call.client.endpoint) + " → " + PlainText(call.server.endpoint), size_t{0}});
    }
    if (!slices_.empty()) origin_ = slices_.front().begin;
  }

  // Calls of one connection overlap: each thread takes those that come one after the other.
  void PackThreads() {
    std::map<std::tuple<size_t, std::string>, std::vector<size_t>> rows;  // of a connection: threads
    for (Slice& slice : slices_) {
      auto& of_connection = rows[{slice.lane, slice.thread}];
      const auto free = std::find_if(of_connection.begin(), of_connection.end(), [&](size_t t) {
        return threads_[t].busy_until + kApartNs <= slice.begin;
      });
      size_t thread = 0;
      if (free != of_connection.end()) {
        thread = *free;
      } else {
        thread = threads_.size();
        of_connection.push_back(thread);
        std::string name = slice.thread;
        if (of_connection.size() > 1) name += " #" + std::to_string(of_connection.size());
        threads_.push_back({slice.lane, name, 0});
      }
      threads_[thread].busy_until = slice.end;
      slice.tid = kFirstThread + thread;
    }
  }

  void MakeFlows() {
    for (const auto& [client, server] : bars_.sent) {
      const size_t flow = ++flows_;
      flow_ends_[{client, false}].push_back({flow, 's', "call", "sent"});
      flow_ends_[{server, false}].push_back({flow, 'f', "call", "sent"});
    }
    for (const auto& steps : bars_.chains) {
      const size_t flow = ++flows_;
      for (size_t s = 0; s < steps.size(); ++s) {
        const char phase = s == 0 ? 's' : s + 1 == steps.size() ? 'f' : 't';
        flow_ends_[{steps[s].bar, steps[s].error}].push_back({flow, phase, "chain", "led to"});
      }
    }
  }

  void Names() {
    for (size_t lane = 0; lane < chart_.lanes.size(); ++lane) {
      const Lane& l = chart_.lanes[lane];
      Event(kFirst, {{"ph", "M"},
                     {"name", "process_name"},
                     {"pid", lane + 1},
                     {"args", {{"name", std::string(RoleTitle(l.role)) + " " + l.name}}}});
      Event(
          kFirst,
          {{"ph", "M"}, {"name", "process_sort_index"}, {"pid", lane + 1}, {"args", {{"sort_index", lane}}}});
    }
    for (size_t t = 0; t < threads_.size(); ++t) {
      Event(kFirst, {{"ph", "M"},
                     {"name", "thread_name"},
                     {"pid", threads_[t].lane + 1},
                     {"tid", kFirstThread + t},
                     {"args", {{"name", threads_[t].name}}}});
    }
  }

  void WriteSlice(size_t s) {
    const Slice& slice = slices_[s];
    const TimelineCall& call = timeline_.calls[slice.call];
    Event(slice.begin, {{"ph", "X"},
                        {"name", MethodWord(call)},
                        {"cat", "call"},
                        {"pid", slice.lane + 1},
                        {"tid", slice.tid},
                        {"ts", Micros(slice.begin - origin_)},
                        {"dur", Micros(slice.end - slice.begin)},
                        {"args", Args(call, slice)}});
    Flows({s, false}, slice, slice.begin);
    const TimelineError* error = RefusalOf(call);
    if (!call.refused || error == nullptr) return;
    // Within its call, from the answer's first byte on.
    const int64_t end = slice.end - kApartNs;
    const int64_t begin = std::clamp(slice.view->times.resp_first.value_or(end), slice.begin, end - 1);
    Event(begin, {{"ph", "X"},
                  {"name", ErrorWord(error->kind)},
                  {"cat", "error"},
                  {"pid", slice.lane + 1},
                  {"tid", slice.tid},
                  {"ts", Micros(begin - origin_)},
                  {"dur", Micros(end - begin)},
                  {"args", {{"call_id", slice.view->call_id}, {"error", words_.Error(*error)}}}});
    Flows({s, true}, slice, begin);
  }

  void Flows(std::pair<size_t, bool> at, const Slice& slice, int64_t ts) {
    const auto it = flow_ends_.find(at);
    if (it == flow_ends_.end()) return;
    for (const FlowEnd& end : it->second) {
      Json event = {{"ph", std::string(1, end.phase)},
                    {"name", end.name},
                    {"cat", end.category},
                    {"id", end.flow},
                    {"pid", slice.lane + 1},
                    {"tid", slice.tid},
                    {"ts", Micros(ts - origin_)}};
      if (end.phase == 'f') event["bp"] = "e";
      Event(ts, std::move(event));
    }
  }

  Json Args(const TimelineCall& call, const Slice& slice) const {
    const TimelineView& view = *slice.view;
    Json args;
    args["call_id"] = view.call_id;
    args["seen_by"] = PlainText(view.observer);
    args["view"] = slice.side;
    args["utc"] = DateText(slice.begin) + " " + TimeText(slice.begin);
    if (!view.on_reference) args["clock"] = "not related to the others";
    if (view.on_reference && view.clock_error_ns > 0) args["clock_error_ns"] = view.clock_error_ns;
    if (view.moved_ns != 0) args["moved_ns"] = view.moved_ns;
    if (!view.times.Asked()) args["request"] = "not seen";
    if (!view.times.Answered() && call.kind != "message") args["response"] = "not seen";
    args["method"] = call.method.empty() ? "unknown" : PlainText(call.method);
    args["method_from"] = PlainText(call.method_from);
    if (!call.command.empty()) args["command"] = PlainText(call.command);
    args["client"] = PlainText(call.client.endpoint);
    args["server"] = PlainText(call.server.endpoint);
    args["stream"] = call.stream;
    if (call.request_id) args["request_id"] = *call.request_id;
    const auto number = [&](const char* name, std::optional<uint64_t> n) {
      if (n) args[name] = *n;
    };
    number("region_id", call.region_id);
    number("version", call.version);
    number("conf_ver", call.conf_ver);
    number("sql_connection", call.sql_connection);
    // Larger than what a script reads as a number without loss.
    if (call.start_ts) args["start_ts"] = std::to_string(*call.start_ts);
    if (call.grpc_status) args["grpc_status"] = *call.grpc_status;
    if (!call.grpc_message.empty()) args["grpc_message"] = PlainText(call.grpc_message);
    if (!call.incomplete.empty()) args["incomplete"] = PlainText(call.incomplete);
    Said(call, args);
    return args;
  }

  void Said(const TimelineCall& call, Json& args) const {
    const auto list = [&](const char* name, const auto& all, uint64_t more, const auto& text) {
      if (all.empty()) return;
      Json& out = args[name] = Json::array();
      for (size_t i = 0; i < all.size() && i < kMostListed; ++i) out.push_back(text(all[i]));
      more += all.size() > kMostListed ? all.size() - kMostListed : 0;
      if (more > 0) out.push_back("+" + Number(more));
    };
    list("keys", call.keys, call.more_keys,
         [&](const TimelineKey& k) { return k.end ? words_.Range(k.start, *k.end) : words_.Key(k.start); });
    list("statements", call.statements, call.more_statements,
         [&](const TimelineStatement& s) { return PlainText(s.source) + ": " + words_.Statement(s); });
    list("errors", call.errors, 0, [&](const TimelineError& e) { return words_.Error(e); });
    for (const TimelineMark& mark : call.marks) {
      std::string text = "verdict " + std::to_string(mark.verdict) + ": " + PlainText(mark.label);
      if (mark.guilty) text += ", WRONG";
      if (!mark.note.empty()) text += ", " + PlainText(mark.note);
      args["verdicts"].push_back(text);
    }
  }

  // The blamed statements, on the process that made them.
  void Instants() {
    for (size_t i = 0; i < timeline_.calls.size(); ++i) {
      const TimelineCall& call = timeline_.calls[i];
      for (const TimelineMark& mark : call.marks) {
        if (!mark.guilty) continue;
        const TimelineView& view = ShownView(call);
        const std::optional<int64_t> at = mark.on_request ? view.times.First() : view.times.Last();
        if (!at) continue;
        std::string what = words_.Deed(call);
        if (const TimelineStatement* s = StatementOf(call, mark.statement_id);
            s != nullptr && !call.refused) {
          what = words_.Statement(*s);
        } else if (const TimelineError* e = RefusalOf(call); e != nullptr && !mark.on_request) {
          what = words_.Error(*e);
        }
        const LaneOfCall lanes = chart_.of_call[i];
        // Whoever asks speaks in the request, whoever answers in the response.
        Event(*at,
              {{"ph", "i"},
               {"name", "WRONG: " + what},
               {"cat", "verdict"},
               {"s", "p"},
               {"pid", (mark.on_request ? lanes.client : lanes.server) + 1},
               {"tid", (mark.on_request ? lanes.client : lanes.server) + 1},
               {"ts", Micros(*at - origin_)},
               {"args",
                {{"call_id", view.call_id}, {"verdict", mark.verdict}, {"note", PlainText(mark.note)}}}});
      }
    }
  }

  std::string Text() {
    // Stable: a flow event stays behind its slice.
    std::stable_sort(events_.begin(), events_.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    Json other = {{"tool", std::string("keytrail ") + kVersion},
                  {"origin_ns", std::to_string(origin_)},
                  {"clock", PlainText(timeline_.reference)},
                  {"calls_found", timeline_.found},
                  {"calls_left_out", timeline_.left_out}};
    if (timeline_.verdict) other["verdict"] = PlainText(timeline_.verdict->text);
    std::string out = "{\"displayTimeUnit\":\"ns\",\"otherData\":" + Dump(other) + ",\"traceEvents\":[\n";
    for (size_t i = 0; i < events_.size(); ++i) {
      out += Dump(events_[i].second);
      out += i + 1 == events_.size() ? "\n" : ",\n";
    }
    return out + "]}\n";
  }

  static std::string Dump(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  struct Thread {
    size_t lane = 0;
    std::string name;
    int64_t busy_until = 0;
  };

  static constexpr int64_t kFirst = std::numeric_limits<int64_t>::min();

  const Timeline& timeline_;
  LaneChart chart_;
  TimelineBars bars_;
  TimelineWords words_;
  std::vector<Slice> slices_;  // by begin
  std::vector<Thread> threads_;
  size_t flows_ = 0;
  std::map<std::pair<size_t, bool>, std::vector<FlowEnd>> flow_ends_;
  int64_t origin_ = 0;
  std::vector<std::pair<int64_t, Json>> events_;
};

}  // namespace

std::string TimelinePerfetto(const Timeline& timeline) {
  return Writer(timeline).Write();
}

}  // namespace keytrail
