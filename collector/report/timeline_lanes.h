// Lanes of a timeline: a host each, or a process where a host has several.
//
// Pure.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "collector/store/timeline_model.h"

namespace keytrail::report {

struct Lane {
  std::string name;      // plain text; "+3" if it stands for several
  std::string role;      // tidb, pd, tikv, client, unknown; empty if it stands for several
  size_t important = 0;  // weight of the calls that are marked, refused or led to another
  size_t calls = 0;
};

struct LaneOfCall {
  size_t client = 0;  // positions in LaneChart::lanes
  size_t server = 0;
};

struct LaneChart {
  std::vector<Lane> lanes;  // clients on the left, then PD, then TiKV
  std::vector<LaneOfCall> of_call;
};

// Calls that take part in a chain or that a verdict speaks of.
std::vector<bool> ImportantCalls(const Timeline& timeline);

// At most `most` lanes (2 at least): the quietest are folded into one. 0: no bound.
LaneChart ChartLanes(const Timeline& timeline, size_t most);

const char* RoleTitle(const std::string& role);  // "TiDB", "PD", "TiKV", "client", "?"

}  // namespace keytrail::report
