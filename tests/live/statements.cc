#include "tests/live/statements.h"

#include <algorithm>

#include "tests/live/keys.h"

namespace keytrail::live {

namespace {

using std::chrono::milliseconds;

constexpr int64_t kRows = 40000;
constexpr int kSendAttempts = 8;  // at one region version
constexpr int kStatementAttempts = 40;
constexpr milliseconds kBackoff{10};
constexpr uint32_t kNullKeyspace = 0xFFFFFFFF;  // what client-go's V1 codec writes
constexpr int64_t kDagRequest = 103;

bool Older(const metapb::RegionEpoch& a, const metapb::RegionEpoch& b) {
  return a.version() < b.version() || a.conf_ver() < b.conf_ver();
}

}  // namespace

std::shared_ptr<StorePool> Links::PoolOf(uint64_t store_id) {
  const std::lock_guard lock(mutex_);
  const auto found = pools_.find(store_id);
  if (found != pools_.end()) return found->second;
  const std::string address = pd_.StoreAddress(store_id);
  if (address.empty()) return nullptr;
  return pools_[store_id] = std::make_shared<StorePool>(address, batch_);
}

void Links::Drop(uint64_t store_id) {
  std::shared_ptr<StorePool> dropped;  // is closed without the lock
  const std::lock_guard lock(mutex_);
  const auto found = pools_.find(store_id);
  if (found == pools_.end()) return;
  dropped = std::move(found->second);
  pools_.erase(found);
}

Statements::Statements(std::string pd, bool batch, uint64_t seed)
    : pd_address_(std::move(pd)),
      batch_(batch),
      chance_(seed),
      links_(std::make_shared<Links>(pd_address_, batch)) {}

std::shared_ptr<Links> Statements::links() const {
  const std::lock_guard lock(mutex_);
  return links_;
}

void Statements::Preload() {
  const auto now = links();
  now->pd().Greet();
  for (const Route& route : now->pd().AllRegions()) cache_.Insert(route);
}

void Statements::Refresh() {
  const auto now = links();
  now->pd().Greet();
  now->pd().RefreshStores();
}

void Statements::Reconnect() {
  auto fresh = std::make_shared<Links>(pd_address_, batch_);
  {
    const std::lock_guard lock(mutex_);
    std::swap(links_, fresh);
  }
  cache_.ForgetAll();
}

nlohmann::json Statements::Counts() const {
  return {{"statements", counts_.statements.load()},
          {"failed", counts_.failed.load()},
          {"lookups", counts_.lookups.load()},
          {"not_leader", counts_.not_leader.load()},
          {"epoch_not_match", counts_.epoch_not_match.load()},
          {"region_not_found", counts_.region_not_found.load()},
          {"other", counts_.other.load()},
          {"broken", counts_.broken.load()}};
}

std::string Statements::RandomKey() {
  return RowKey(kTable, chance_.Of(0, kRows - 1));
}

void Statements::RunOne() {
  const uint64_t ts = links()->pd().Timestamp();
  if (ts == 0) return;
  const int64_t kind = chance_.Of(0, 99);
  bool done = false;
  if (kind < 45) {
    done = Get(ts);
  } else if (kind < 60) {
    done = BatchGet(ts);
  } else if (kind < 68) {
    done = Scan(ts);
  } else if (kind < 78) {
    done = Coprocessor(ts);
  } else {
    done = Write(ts);
  }
  ++counts_.statements;
  if (!done) ++counts_.failed;
}

// The route of a key: cached, or PD's. An answer that the cache refuses is asked for again, and the second
// one is used as it is.
std::optional<Route> Statements::Locate(const std::string& raw) {
  const std::string key = Encoded(raw);
  for (int attempt = 0; attempt < kStatementAttempts; ++attempt) {
    if (auto route = cache_.Find(key)) return route;
    const auto now = links();
    ++counts_.lookups;
    std::optional<Route> route = now->pd().RegionOf(key);
    if (route && !cache_.Insert(*route)) {
      route = now->pd().RegionOf(key);
      if (route) cache_.Insert(*route);
    }
    if (route && route->leader.id() != 0) return route;
    Pause(kBackoff);
  }
  return {};
}

// As above; what is missing of the whole range is asked for at once.
std::optional<Route> Statements::LocateRange(const std::string& raw, const std::string& raw_end) {
  const std::string key = Encoded(raw);
  if (auto route = cache_.Find(key)) return route;
  ++counts_.lookups;
  const auto routes = links()->pd().RegionsOf(key, Encoded(raw_end));
  if (!routes) return Locate(raw);
  for (const Route& route : *routes) cache_.Insert(route);
  for (const Route& route : *routes)
    if (Holds(route.region.start_key(), route.region.end_key(), key) && route.leader.id() != 0) return route;
  return Locate(raw);
}

Statements::Outcome Statements::OnEpochNotMatch(const Route& route, const errorpb::EpochNotMatch& error) {
  for (const metapb::Region& region : error.current_regions())
    if (region.id() == route.region.id() && Older(region.region_epoch(), route.region.region_epoch()))
      return Outcome::kDone;  // the store is behind: the same again, later
  cache_.Forget(route.region);
  for (const metapb::Region& region : error.current_regions()) {
    const metapb::Peer* peer = PeerOn(region, route.leader.store_id());
    if (peer != nullptr) cache_.Insert({region, *peer});
  }
  return Outcome::kElsewhere;
}

// To one version of a region. kElsewhere: the key must be located anew.
Statements::Outcome Statements::Send(Question& question, Route route, Answer& answer) {
  for (int attempt = 0; attempt < kSendAttempts; ++attempt) {
    kvrpcpb::Context* context = MutableContextOf(question);
    context->set_region_id(route.region.id());
    *context->mutable_region_epoch() = route.region.region_epoch();
    *context->mutable_peer() = route.leader;
    context->set_keyspace_id(kNullKeyspace);
    context->set_cluster_id(kClusterId);
    context->set_request_source("leader_external_Select");
    context->set_is_retry_request(attempt > 0);
    const uint64_t store_id = route.leader.store_id();
    const auto now = links();
    const auto pool = now->PoolOf(store_id);
    const std::optional<Answer> got = pool ? pool->Ask(question) : std::nullopt;
    if (!got) {
      ++counts_.broken;
      cache_.ForgetStore(store_id);
      return Outcome::kElsewhere;
    }
    const errorpb::Error* error = RegionErrorOf(*got);
    if (error == nullptr) {
      answer = *got;
      return OtherErrorOf(answer).empty() ? Outcome::kDone : Outcome::kFailed;
    }
    if (error->has_not_leader()) {
      ++counts_.not_leader;
      if (error->not_leader().leader().id() == 0)
        Pause(kBackoff);
      else if (!cache_.SwitchLeader(route.region, error->not_leader().leader()))
        return Outcome::kElsewhere;
      const auto current = cache_.Current(route.region);
      if (!current) return Outcome::kElsewhere;
      route = *current;
    } else if (error->has_epoch_not_match()) {
      ++counts_.epoch_not_match;
      if (OnEpochNotMatch(route, error->epoch_not_match()) == Outcome::kElsewhere) return Outcome::kElsewhere;
      Pause(kBackoff);
    } else {
      ++(error->has_region_not_found() ? counts_.region_not_found : counts_.other);
      cache_.Forget(route.region);
      return Outcome::kElsewhere;
    }
  }
  cache_.Forget(route.region);
  return Outcome::kElsewhere;
}

template <typename Make>
bool Statements::ForRegions(Keys keys, Make&& make) {
  std::sort(keys.begin(), keys.end());
  for (int attempt = 0; attempt < kStatementAttempts && !keys.empty(); ++attempt) {
    if (attempt > 0) Pause(kBackoff);
    Keys left;
    while (!keys.empty()) {
      const std::optional<Route> route = Locate(keys.front());
      if (!route) return false;
      const auto in_route = [&](const std::string& key) {
        return Holds(route->region.start_key(), route->region.end_key(), Encoded(key));
      };
      const auto middle = std::find_if_not(keys.begin() + 1, keys.end(), in_route);
      const Keys group(keys.begin(), middle);
      keys.erase(keys.begin(), middle);
      Question question = make(group);
      Answer answer;
      const Outcome outcome = Send(question, *route, answer);
      if (outcome == Outcome::kFailed) return false;
      if (outcome == Outcome::kElsewhere) left.insert(left.end(), group.begin(), group.end());
    }
    keys = std::move(left);
  }
  return keys.empty();
}

template <typename Make>
bool Statements::ForRange(const std::string& start, const std::string& end, bool scan_pd, Make&& make) {
  std::string at = start;
  for (int attempt = 0; attempt < kStatementAttempts && at < end;) {
    const std::optional<Route> route = scan_pd ? LocateRange(at, end) : Locate(at);
    if (!route) return false;
    const std::string region_end = Raw(route->region.end_key());
    const std::string stop = region_end.empty() || end < region_end ? end : region_end;
    Question question = make(at, stop);
    Answer answer;
    switch (Send(question, *route, answer)) {
      case Outcome::kFailed:
        return false;
      case Outcome::kElsewhere:
        ++attempt;
        Pause(kBackoff);
        break;
      case Outcome::kDone:
        at = stop;
    }
  }
  return at >= end;
}

// What tidb#25412 was: the key is thought to lie in the region on the left of its own.
std::optional<bool> Statements::GoWrong(const std::string& key, uint64_t ts) {
  const std::optional<Route> right = Locate(key);
  const std::optional<Route> left = right ? cache_.LeftOf(right->region) : std::nullopt;
  if (!left || left->leader.id() == 0) return {};
  Say("fault", {{"component", "tidb"},
                {"region_id", left->region.id()},
                {"version", left->region.region_epoch().version()},
                {"key", Hex(Encoded(key))}});
  Question question;
  if (chance_.Hit(0.5)) {
    question.mutable_get()->set_key(key);
    question.mutable_get()->set_version(ts);
  } else {
    const int64_t row = RowOf(Raw(left->region.end_key()));
    if (row > 0) question.mutable_batchget()->add_keys(RowKey(kTable, row - 1));
    question.mutable_batchget()->add_keys(key);
    question.mutable_batchget()->set_version(ts);
  }
  Answer answer;
  return Send(question, *left, answer) == Outcome::kDone;
}

bool Statements::Get(uint64_t ts) {
  const std::string key = RandomKey();
  if (const double share = neighbour_share_; share > 0 && chance_.Hit(share))
    if (const auto outcome = GoWrong(key, ts)) return *outcome;
  return ForRegions({key}, [&](const Keys& keys) {
    Question question;
    question.mutable_get()->set_key(keys.front());
    question.mutable_get()->set_version(ts);
    return question;
  });
}

bool Statements::BatchGet(uint64_t ts) {
  Keys keys;
  const int64_t first = chance_.Of(0, kRows - 1);
  const int64_t step = chance_.Of(1, 200);
  for (int64_t i = chance_.Of(2, 8); i > 0; --i) keys.push_back(RowKey(kTable, (first + i * step) % kRows));
  return ForRegions(keys, [&](const Keys& group) {
    Question question;
    for (const std::string& key : group) question.mutable_batchget()->add_keys(key);
    question.mutable_batchget()->set_version(ts);
    return question;
  });
}

bool Statements::Scan(uint64_t ts) {
  const int64_t row = chance_.Of(0, kRows - 200);
  return ForRange(RowKey(kTable, row), RowKey(kTable, row + 100), false,
                  [&](const std::string& start, const std::string& end) {
                    Question question;
                    question.mutable_scan()->set_start_key(start);
                    question.mutable_scan()->set_end_key(end);
                    question.mutable_scan()->set_limit(256);
                    question.mutable_scan()->set_version(ts);
                    return question;
                  });
}

bool Statements::Coprocessor(uint64_t ts) {
  const int64_t row = chance_.Of(0, kRows - 2000);
  return ForRange(RowKey(kTable, row), RowKey(kTable, row + chance_.Of(10, 2000)), true,
                  [&](const std::string& start, const std::string& end) {
                    Question question;
                    coprocessor::Request* request = question.mutable_coprocessor();
                    request->set_tp(kDagRequest);
                    request->set_data("an executor tree");
                    request->set_start_ts(ts);
                    request->set_connection_id(ts % 97 + 1);
                    coprocessor::KeyRange* range = request->add_ranges();
                    range->set_start(start);
                    range->set_end(end);
                    return question;
                  });
}

bool Statements::Write(uint64_t ts) {
  Keys keys;
  for (int64_t i = chance_.Of(1, 3); i > 0; --i) keys.push_back(RandomKey());
  const std::string primary = keys.front();
  const bool prewritten = ForRegions(keys, [&](const Keys& group) {
    Question question;
    kvrpcpb::PrewriteRequest* request = question.mutable_prewrite();
    for (const std::string& key : group) {
      kvrpcpb::Mutation* mutation = request->add_mutations();
      mutation->set_op(kvrpcpb::Put);
      mutation->set_key(key);
      mutation->set_value("new row of " + Hex(key));
    }
    request->set_primary_lock(primary);
    request->set_start_version(ts);
    request->set_lock_ttl(3000);
    request->set_txn_size(group.size());
    return question;
  });
  if (!prewritten) return false;
  const uint64_t commit_ts = links()->pd().Timestamp();
  if (commit_ts == 0) return false;
  const auto commit = [&](const Keys& group) {
    Question question;
    kvrpcpb::CommitRequest* request = question.mutable_commit();
    for (const std::string& key : group) request->add_keys(key);
    request->set_start_version(ts);
    request->set_commit_version(commit_ts);
    return question;
  };
  if (!ForRegions({primary}, commit)) return false;
  keys.erase(keys.begin());
  return ForRegions(keys, commit);
}

}  // namespace keytrail::live
