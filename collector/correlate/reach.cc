// The part of Judge that looks at where clients went and at what they never asked for: stores that PD looks
// for at a wrong address (rule 11), and holes that were read around (rule 13). No record holds an address
// that PD answered, so what it said of a store is told by what its listeners did.
#include <algorithm>
#include <tuple>

#include "collector/correlate/judge.h"

namespace keytrail::correlate {

std::vector<std::string> Judge::RequestsHidden(uint32_t client_host) const {
  std::vector<std::string> out;
  if (Lossy(client_host)) {
    out.push_back(scene_.hosts.Captured(client_host)
                      ? "a capture of " + HostText(client_host) + " without losses"
                      : "no capture of " + HostText(client_host));
  }
  uint64_t unread = 0;
  for (size_t c = 0; c < scene_.log.connections().size(); ++c) {
    const SeenConnection& connection = scene_.log.connections()[c];
    if (scene_.hosts.OfEndpoint(connection.client) == client_host)
      unread += scene_.log.uses()[c].unread_connections();
  }
  if (unread > 0) {
    out.push_back(std::to_string(unread) + " connection" + (unread == 1 ? "" : "s") + " of " +
                  HostText(client_host) + " that could not be read whole");
  }
  if (scene_.findings.reads_dropped()) out.push_back("the oldest reads: there were more than are kept");
  return out;
}

// A client that asks for a store's address for the first time long after another store was seen to live
// there, and then goes there, has it from PD. One such client may mix up addresses itself; two are PD's
// doing, or that of whoever gave two stores one address. A client that goes on although it asked again may be
// either's.
void Judge::JudgeAddresses() {
  using Place = std::pair<uint32_t, uint64_t>;  // endpoint, store that is not there
  std::map<Place, std::vector<const Setback*>> strangers;
  for (const Setback& s : scene_.findings.setbacks()) {
    if (s.kind != ErrorKind::kStoreNotMatch || s.request_store == 0 || s.actual_store == 0 ||
        s.request_store == s.actual_store) {
      continue;
    }
    strangers[{scene_.ServerEndpoint(s.observation), s.request_store}].push_back(&s);
  }
  for (auto& [place, list] : strangers) {
    SortByTime(list);
    const Event known = scene_.Answered(list.front()->observation);
    struct Client {
      std::vector<const Setback*> refused;
      bool had_asked_before = false;
    };
    std::map<IpAddress, Client> clients;  // in an order that does not depend on numbers
    std::set<uint32_t> seen;
    for (const Setback* s : list) {
      const uint32_t logical = scene_.pairing.Logical(s->observation);
      const uint32_t host = scene_.ClientHost(s->observation);
      const Event sent = scene_.Asked(scene_.Best(logical, View::kClient));
      bool fresh = false;
      bool before = false;
      for (const StoreAsk& ask : scene_.findings.store_asks()) {
        if (ask.store_id != 0 && ask.store_id != place.second) continue;
        if (scene_.ClientHost(ask.observation) != host ||
            scene_.Best(scene_.pairing.Logical(ask.observation), View::kClient) != ask.observation) {
          continue;
        }
        const bool late = scene_.After(known, scene_.Asked(ask.observation), graces_.address_ns);
        const bool heard = scene_.At(ask.observation).resp_last != kNoTime &&
                           scene_.Compare(scene_.Answered(ask.observation), sent) == Order::kBefore;
        fresh |= late && heard;
        before |= !late;
      }
      if (!fresh || !seen.insert(logical).second) continue;
      Client& client = clients[scene_.hosts[host].address];
      client.refused.push_back(s);
      client.had_asked_before |= before;
    }
    if (clients.empty()) continue;
    size_t newcomers = 0;
    for (const auto& [address, client] : clients) {
      const uint32_t host = scene_.ClientHost(client.refused.front()->observation);
      newcomers += !client.had_asked_before && WholeLifeSeen(host) && RequestsHidden(host).empty();
    }
    const bool decided = newcomers >= 2 && !scene_.findings.store_asks_dropped();
    const Setback& first = *clients.begin()->second.refused.front();
    Blame blame;
    blame.decided = decided;
    blame.component = Component::kPd;
    blame.rule = "11";
    blame.reason = decided ? Reason::kPdOldAddress : Reason::kUndecided;
    blame.certain = false;
    if (decided) {
      blame.weakened.push_back(
          "records do not hold the addresses that PD answered; two stores may have been given one address");
    } else {
      blame.suspects = {Component::kPd, Component::kTidb};
      blame.missing.push_back("the address of store " + std::to_string(place.second) +
                              " that PD answered: records do not hold addresses of stores");
    }
    Cause& cause = CauseFor(CaseFor(first.region), blame, scene_.ClientHost(first.observation), place.first);
    cause.store_looked_for = place.second;
    cause.store_there = first.actual_store;
    for (const auto& [address, client] : clients) {
      for (const Setback* s : client.refused) cause.complaints.push_back(MakeComplaint(*s));
    }
  }
}

void Judge::JudgeHoles() {
  std::vector<const FaceFault*> holes;
  for (const FaceFault& f : scene_.findings.face_faults()) {
    if (f.kind == FaceFault::Kind::kHole || f.kind == FaceFault::Kind::kQuietHole) holes.push_back(&f);
  }
  std::sort(holes.begin(), holes.end(), [&](const FaceFault* a, const FaceFault* b) {
    const auto rank = [&](const FaceFault* x) {
      return std::tuple(scene_.ResponseTime(x->observation), scene_.At(x->observation).call_id, x->statement);
    };
    return rank(a) < rank(b);
  });
  for (const FaceFault* f : holes) JudgeHole(*f);
}

// All by one capture on the client's machine, so that one clock tells the order. A range that ends where the
// hole begins, and one that begins where it ends, were cut at the regions' bounds: the client wanted what
// lies between. If it neither read that nor asked for it again, those rows are missing.
void Judge::JudgeHole(const FaceFault& fault) {
  const uint32_t client = scene_.ClientHost(fault.observation);
  const Observation& answer = scene_.At(fault.observation);
  if (scene_.hosts.OfAgent(answer.agent) != client || answer.resp_last == kNoTime) return;
  const Range hole = HoleOf(scene_.ledger.ranges(), fault);
  struct Statement {
    const ReadRange* left = nullptr;
    const ReadRange* right = nullptr;
    bool read = false;
  };
  std::map<uint64_t, Statement> statements;  // by start_ts
  for (const ReadRange& r : scene_.findings.reads()) {
    const Observation& o = scene_.At(r.observation);
    if (o.agent != answer.agent || o.req_first == kNoTime || scene_.ClientHost(r.observation) != client ||
        r.observation == fault.observation) {
      continue;
    }
    const bool inside =
        (hole.end.empty() || r.range.start < hole.end) && (r.range.end.empty() || r.range.end > hole.start);
    if (r.asked_pd) {
      // It has seen the hole, or learns of what is there by another question.
      const bool later = o.last() >= answer.first() && o.req_first <= answer.last() + 2 * graces_.hole_ns;
      if (inside && later) return;
      continue;
    }
    Statement& statement = statements[r.start_ts];
    statement.read |= inside;
    if (inside || o.req_first < answer.last() || o.req_first > answer.last() + graces_.hole_ns) continue;
    const auto first = [&](const ReadRange*& side) {
      if (side == nullptr ||
          std::pair(scene_.At(side->observation).req_first, scene_.At(side->observation).call_id) >
              std::pair(o.req_first, o.call_id)) {
        side = &r;
      }
    };
    if (!r.range.end.empty() && r.range.end == hole.start) first(statement.left);
    if (r.range.start == hole.end) first(statement.right);
  }
  for (const auto& [start_ts, statement] : statements) {
    if (statement.read || statement.left == nullptr || statement.right == nullptr) continue;
    const int64_t sent = std::max(scene_.At(statement.left->observation).req_first,
                                  scene_.At(statement.right->observation).req_first);
    // Until then it may still come to it.
    if (scene_.log.agents()[answer.agent].last_ns <= sent + graces_.hole_ns) continue;
    Blame blame;
    blame.component = Component::kTidb;
    blame.rule = "13";
    blame.certain = false;
    blame.missing = RequestsHidden(client);
    blame.decided = blame.missing.empty();
    if (blame.decided) {
      blame.reason = Reason::kTidbReadAround;
      blame.weakened.push_back("whether the statement was broken off was not seen");
    } else {
      blame.suspects = {Component::kTidb, Component::kPd};
    }
    const auto complaint = [&](const ReadRange& side) {
      Complaint& c = made_complaints_.emplace_back();
      c.observation = side.observation;
      c.region = side.region;
      c.version_known = c.items_known = true;
      c.items = {side.range};
      c.item_count = 1;
      return CaseComplaint{&c, scene_.pairing.Logical(side.observation)};
    };
    Cause& cause = CauseFor(CaseFor(statement.left->region), blame, client,
                            scene_.ServerEndpoint(statement.left->observation));
    cause.complaints.push_back(complaint(*statement.left));
    if (cause.hole != nullptr) continue;
    cause.hole = &fault;
    cause.other_side = complaint(*statement.right);
  }
}

}  // namespace keytrail::correlate
