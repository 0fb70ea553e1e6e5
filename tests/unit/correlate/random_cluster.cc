#include "tests/unit/correlate/random_cluster.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <random>

namespace keytrail::testing {
namespace {

constexpr int kLastKey = 9999;

struct Region {
  uint64_t id = 0;
  uint64_t version = 0;
  int start = 0;  // 0 is -infinity
  int end = 0;    // kLastKey + 1 is +infinity
  int store = 1;

  bool Holds(int key) const { return key >= start && key < end; }
  bool Overlaps(const Region& o) const { return start < o.end && o.start < end; }
};

std::string Key(int key) {
  char out[16];
  std::snprintf(out, sizeof out, "k%04d", key);
  return out;
}

std::string RangeOf(int start, int end) {
  return "[" + (start <= 0 ? "-" : Key(start)) + "," + (end > kLastKey ? "-" : Key(end)) + ")";
}

std::string Head(const Region& r) {
  return std::to_string(r.id) + "." + std::to_string(r.version);
}
std::string Text(const Region& r) {
  return Head(r) + RangeOf(r.start, r.end);
}

// Regions by start, as a PD, a client's cache or the truth holds them.
class RegionTree {
 public:
  const Region* Find(int key) const {
    auto it = by_start_.upper_bound(key);
    if (it == by_start_.begin()) return nullptr;
    --it;
    return it->second.Holds(key) ? &it->second : nullptr;
  }
  // Newer versions win; a region that overlaps a newer one is not taken.
  bool Insert(const Region& region) {
    for (const auto& [start, r] : by_start_) {
      if (r.Overlaps(region) && r.id == region.id && r.version > region.version) return false;
    }
    std::erase_if(by_start_,
                  [&](const auto& x) { return x.second.Overlaps(region) || x.second.id == region.id; });
    by_start_[region.start] = region;
    return true;
  }
  void Erase(uint64_t id) {
    std::erase_if(by_start_, [&](const auto& x) { return x.second.id == id; });
  }
  const Region* ById(uint64_t id) const {
    for (const auto& [start, r] : by_start_) {
      if (r.id == id) return &r;
    }
    return nullptr;
  }
  std::vector<Region> From(int key, size_t limit) const {
    std::vector<Region> out;
    for (const auto& [start, r] : by_start_) {
      if (r.end > key && out.size() < limit) out.push_back(r);
    }
    return out;
  }
  size_t size() const { return by_start_.size(); }
  const Region& At(size_t n) const { return std::next(by_start_.begin(), static_cast<long>(n))->second; }
  void Clear() { by_start_.clear(); }

 private:
  std::map<int, Region> by_start_;
};

struct Client {
  std::string name;
  RegionTree cache;
  double free_at = 0;
  int port = 0;
};

class Cluster {
 public:
  Cluster(uint32_t seed, Fault fault) : random_(seed), fault_(fault), new_half_starts_anew_(Chance(30)) {
    Region all{7, 3, 0, kLastKey + 1, 1};
    next_id_ = 8;
    truth_.Insert(all);
    pd_.Insert(all);
    for (int i = 0; i < 6; ++i) Split(false);
    for (size_t i = 0; i < truth_.size(); ++i) pd_.Insert(truth_.At(i));
    for (int i = 1; i <= 2; ++i) clients_.push_back({"tidb" + std::to_string(i), {}, 0, 41000 + i * 100});
  }

  RandomCluster Run(size_t calls) {
    while (calls_ < calls) {
      now_ += 1 + static_cast<double>(Below(100'000)) / 1000;
      const int dice = Below(100);
      if (dice < 3) {
        Split(true);
      } else if (dice < 4) {
        Merge();
      } else if (dice < 12) {
        Heartbeat();
      } else if (dice < 13) {
        Client& c = clients_[static_cast<size_t>(Below(2))];
        c.cache.Clear();
        c.port += 1;
      } else {
        Client& c = clients_[static_cast<size_t>(Below(2))];
        if (c.free_at <= now_) Use(c);
      }
      if (pd_behind_ && Chance(20)) TellPd();
    }
    return std::move(out_);
  }

 private:
  int Below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }
  bool Chance(int percent) { return Below(100) < percent; }
  bool Faulty(Fault f, int percent) {
    if (fault_ != f || !Chance(percent)) return false;
    ++out_.faults;
    return true;
  }
  static std::string Store(const Region& r) { return "tikv" + std::to_string(r.store); }

  void Line(const std::string& text) {
    char head[32];
    std::snprintf(head, sizeof head, "%.3f ", now_);
    out_.script += head + text + "\n";
    ++calls_;
  }

  void Split(bool live) {
    const Region r = truth_.At(static_cast<size_t>(Below(static_cast<int>(truth_.size()))));
    if (r.end - r.start < 40) return;
    const int at = r.start + 10 + Below(r.end - r.start - 20);
    Region left = r;
    Region right = r;
    left.end = right.start = at;
    // Either half may keep the id.
    Region& fresh = Chance(50) ? left : right;
    Region& old = &fresh == &left ? right : left;
    fresh.id = next_id_++;
    old.version = r.version + 1;
    fresh.version = new_half_starts_anew_ ? 1 : r.version + 1;
    truth_.Erase(r.id);
    truth_.Insert(left);
    truth_.Insert(right);
    if (!live) return;
    pending_.push_back(left);
    pending_.push_back(right);
    pd_behind_ = true;
  }

  // TiKV only: the target takes the source's place with a version above both.
  void Merge() {
    if (new_half_starts_anew_ || truth_.size() < 3) return;
    const size_t n = static_cast<size_t>(Below(static_cast<int>(truth_.size()) - 1));
    Region target = truth_.At(n);
    const Region source = truth_.At(n + 1);
    if (pd_behind_) return;
    target.end = source.end;
    target.version = std::max(target.version, source.version) + 1;
    truth_.Erase(source.id);
    truth_.Insert(target);
    pending_.push_back(target);
    pd_behind_ = true;
  }

  void TellPd() {
    for (const Region& r : pending_) {
      const Region* now = truth_.ById(r.id);
      if (now == nullptr || now->version != r.version) continue;
      Line(Store(r) + " > pd1 Heartbeat " + Text(r));
      pd_.Insert(r);
    }
    pending_.clear();
    pd_behind_ = false;
  }

  void Heartbeat() {
    Region r = truth_.At(static_cast<size_t>(Below(static_cast<int>(truth_.size()))));
    if (Faulty(Fault::kTikvHeartbeat, 40)) {
      if (r.end > kLastKey - 10) return;
      r.end = std::min(r.end + 5 + Below(500), kLastKey);
    }
    Line(Store(r) + " > pd1 Heartbeat " + Text(r));
    pd_.Insert(r);
  }

  // What PD answers about `r`, lies included. `key` was asked for, -1 if none.
  Region Answer(const Region& r, int key) {
    Region said = r;
    if (Faulty(Fault::kPdWide, 15) && r.end < kLastKey) {
      said.end = std::min(kLastKey, r.end + 1 + Below(1500));
    } else if (fault_ == Fault::kPdAlwaysWide && r.id % 3 == 0 && r.end < kLastKey - 700) {
      ++out_.faults;
      said.end = r.end + 700;
    } else if (Faulty(Fault::kPdNarrow, 15) && r.end - r.start > 4) {
      said.end = std::max(key + 1, r.start + (std::min(r.end, kLastKey) - r.start) / 2);
    } else if (Faulty(Fault::kPdShifted, 15) && r.start > 100 && r.end < kLastKey) {
      said.start -= 100;
      said.end = std::max(key + 1, said.end - 50);
    } else if (Faulty(Fault::kPdOtherRegion, 15) && key >= 0) {
      said = pd_.At(static_cast<size_t>(Below(static_cast<int>(pd_.size()))));
    } else if (Faulty(Fault::kPdOldVersion, 15) && r.version > 1 && r.end < kLastKey) {
      said.end = std::min(kLastKey, r.end + 300);
      said.start = std::max(0, r.start - 300);
    }
    return said;
  }

  std::string Options(const Client& c, int server) {
    return " port=" + std::to_string(c.port + server * 10000 / 2);
  }

  // Asks PD for the region of `key`; false if PD knows none.
  bool Lookup(Client& c, int key, Region& used) {
    const Region* r = pd_.Find(key);
    const std::string from = c.name + " > pd1 ";
    c.free_at = now_ + 0.7;
    if (r == nullptr) {
      Line(from + "GetRegion " + Key(key) + " = none" + Options(c, 0));
      return false;
    }
    const int dice = Below(10);
    if (dice < 2) {
      std::string answer;
      const int reach = std::min(kLastKey, key + 3000);
      std::vector<Region> scanned = pd_.From(key, 3);
      for (Region& s : scanned) {
        s = Answer(s, -1);
        answer += " " + Text(s);
      }
      Line(from + "ScanRegions " + RangeOf(key, reach) + " =" + answer + Options(c, 0));
      for (const Region& s : scanned) c.cache.Insert(s);
      used = scanned.front();
      return used.Holds(key);
    }
    used = Answer(*r, key);
    Line(from + (dice < 5 ? "QueryRegion " : "GetRegion ") + Key(key) + " = " + Text(used) + Options(c, 0));
    c.cache.Insert(used);
    return true;
  }

  void Use(Client& c) {
    const int key = Below(kLastKey + 1);
    Region route;
    if (const Region* cached = c.cache.Find(key)) {
      route = *cached;
    } else {
      Lookup(c, key, route);
      return;  // the request comes with the next turn, or never
    }
    if (Chance(5)) {
      ReadMany(c, key);
    } else if (Chance(25)) {
      SendRange(c, key, route);
    } else {
      SendKey(c, key, route);
    }
  }

  // What the store says of a request that it does not take; empty if it takes it.
  std::string Check(Client& c, const Region& route) {
    const Region* now = truth_.ById(route.id);
    if (now == nullptr) {
      c.cache.Erase(route.id);
      return "not_leader";
    }
    if (now->version == route.version) return "";
    Region said = *now;
    if (Faulty(Fault::kTikvEpoch, 50) && said.end < kLastKey - 400) said.end += 200 + Below(200);
    std::string answer = "epoch " + Text(said);
    c.cache.Erase(route.id);
    c.cache.Insert(said);
    const Region* next = said.end > kLastKey ? nullptr : truth_.Find(now->end);
    if (next != nullptr && Chance(50)) {
      answer += " " + Text(*next);
      c.cache.Insert(*next);
    }
    return answer;
  }

  void SendKey(Client& c, int key, Region route) {
    if (Faulty(Fault::kTidbNeighbour, 12)) {
      const Region* left = c.cache.Find(route.start - 1);
      if (left != nullptr) route = *left;
    }
    static const char* const kNames[] = {"Get", "Prewrite", "BatchGet"};
    const std::string head =
        c.name + " > " + Store(route) + " " + kNames[Below(3)] + " " + Head(route) + " " + Key(key) + " = ";
    c.free_at = now_ + 0.7;
    std::string answer = Check(c, route);
    if (answer.empty()) {
      const Region& r = *truth_.ById(route.id);
      int end = r.end;
      bool refused = !r.Holds(key);
      if (!refused && Faulty(Fault::kTikvNarrow, 15)) {
        end = std::max(r.start + 1, r.start + (key - r.start) / 2);
        refused = end <= key;
      } else if (!refused && Faulty(Fault::kTikvInside, 15)) {
        refused = true;
      }
      if (refused) {
        ++out_.complaints;
        c.cache.Erase(route.id);
      }
      answer = refused ? (Chance(50) ? "outside " : "notin ") + Key(key) + " " + RangeOf(r.start, end) : "ok";
    }
    Line(head + answer + Options(c, route.store));
  }

  // A statement over three regions: what PD says lies there, then a request to each part. With a hole in the
  // answer the client asks again, or goes on without it.
  void ReadMany(Client& c, int key) {
    std::vector<Region> scanned = pd_.From(key, 3);
    if (scanned.size() < 3 || scanned[0].end != scanned[1].start || scanned[1].end != scanned[2].start)
      return;
    const int to = std::min(kLastKey, scanned[2].start + 1 + Below(50));
    const bool hole = Faulty(Fault::kPdHole, 50) || Faulty(Fault::kTidbHole, 50);
    const bool seen = !hole || fault_ == Fault::kPdHole;
    std::string answer;
    for (size_t i = 0; i < 3; ++i) {
      if (hole && i == 1) continue;
      answer += " " + Text(scanned[i]);
    }
    const std::string ask = c.name + " > pd1 ScanRegions ";
    Line(ask + RangeOf(key, to) + " =" + answer + Options(c, 0));
    if (hole && seen) {
      now_ += 1;
      Line(ask + RangeOf(scanned[1].start, scanned[1].end) + " = " + Text(scanned[1]) + Options(c, 0));
    }
    const std::string ts = " ts=" + std::to_string(1000 + ++statements_);
    int from = key;
    for (size_t i = 0; i < 3; ++i) {
      const int end = i == 2 ? to : scanned[i].end;
      if (i != 1 || seen) {
        now_ += 1;
        const std::string checked = Check(c, scanned[i]);
        Line(c.name + " > " + Store(scanned[i]) + " Cop " + Head(scanned[i]) + " " + RangeOf(from, end) +
             " = " + (checked.empty() ? "ok" : checked) + ts + Options(c, scanned[i].store));
      }
      from = end;
    }
    c.free_at = now_ + 0.7;
  }

  void SendRange(Client& c, int key, const Region& route) {
    int from = key;
    int to = std::min(std::min(route.end, kLastKey), key + 1 + Below(200));
    if (to <= from) return;
    bool inverted = false;
    if (Faulty(Fault::kTidbBeyond, 15) && route.end < kLastKey)
      to = std::min(kLastKey, route.end + 1 + Below(100));
    if (Faulty(Fault::kTidbInverted, 15) && from > 0) {
      to = Below(from);
      inverted = true;
      if (to < 1) return;
    }
    const std::string head =
        c.name + " > " + Store(route) + " Cop " + Head(route) + " " + RangeOf(from, to) + " = ";
    c.free_at = now_ + 0.7;
    std::string answer = Check(c, route);
    if (answer.empty()) {
      const Region& r = *truth_.ById(route.id);
      int end = r.end;
      if (Faulty(Fault::kTikvNarrow, 10)) end = std::max(r.start + 1, from);
      if (inverted) {
        answer = "inverted " + RangeOf(from, to);
      } else if (from < r.start || to > end) {
        answer = "exceeds " + RangeOf(from, to) + " " + RangeOf(r.start, end);
      } else {
        answer = "ok";
      }
      if (answer != "ok") {
        ++out_.complaints;
        c.cache.Erase(route.id);
      }
    }
    Line(head + answer + Options(c, route.store));
  }

  std::mt19937 random_;
  Fault fault_;
  bool new_half_starts_anew_;  // as unistore does
  uint64_t next_id_ = 0;
  RegionTree truth_;
  RegionTree pd_;
  std::vector<Region> pending_;
  bool pd_behind_ = false;
  std::vector<Client> clients_;
  double now_ = 1;
  size_t calls_ = 0;
  uint64_t statements_ = 0;
  RandomCluster out_;
};

}  // namespace

const char* FaultName(Fault fault) {
  static const char* const kNames[] = {
      "none",           "pd wide",        "pd narrow",   "pd shifted",  "pd other region",
      "pd always wide", "pd old version", "pd hole",     "tidb hole",   "tidb neighbour",
      "tidb beyond",    "tidb inverted",  "tikv narrow", "tikv inside", "tikv heartbeat",
      "tikv epoch"};
  return kNames[static_cast<size_t>(fault)];
}

std::optional<Component> GuiltyOf(Fault fault) {
  if (fault == Fault::kNone) return std::nullopt;
  if (fault <= Fault::kPdHole) return Component::kPd;
  if (fault <= Fault::kTidbInverted) return Component::kTidb;
  return Component::kTikv;
}

bool MayBeBlamed(Fault fault, Component component) {
  return GuiltyOf(fault) == component || (fault == Fault::kTidbHole && component == Component::kPd);
}

RandomCluster MakeCluster(uint32_t seed, Fault fault, size_t calls) {
  return Cluster(seed, fault).Run(calls);
}

}  // namespace keytrail::testing
