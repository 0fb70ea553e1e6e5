// The checks of the doctor, in the order in which doctor.cc makes them. Inside this room only; each says what
// it looked at through the list.
#pragma once

#include <optional>
#include <string>

#include "agent/capture/packet_source.h"
#include "agent/doctor/doctor.h"
#include "agent/doctor/traffic_look.h"
#include "common/check_list.h"
#include "common/confinement.h"
#include "common/curve_key.h"
#include "common/redaction.h"

namespace keytrail {

// As the user that starts the agent ------------------------------------------------------------------------

// host_checks.cc: "privileges". Nothing: there is no account to become.
std::optional<Account> CheckPrivileges(const DoctorOptions& options, CheckList& list);
// "memory", "limits": what the host and this session leave an agent.
void CheckMemory(const DoctorOptions& options, CheckList& list);
// "clock".
void CheckClock(CheckList& list);
// "agents": others that capture on the same device.
void CheckOtherAgents(const DoctorOptions& options, CheckList& list);

// device_checks.cc: "device", "filter", "offload". False: it cannot be captured on.
bool CheckDevices(const DoctorOptions& options, CheckList& list);
// "ring": the agent's own, open afterwards; null: it cannot be had.
std::unique_ptr<PacketSource> CheckRing(const DoctorOptions& options, CheckList& list);

// key_checks.cc: "keys", "redaction", "schema". The keys if they are good, or nothing if there are none to
// be.
struct KeysLook {
  bool good = true;
  std::optional<AgentKeys> keys;
  Redaction redaction;
};
KeysLook CheckKeys(const DoctorOptions& options, CheckList& list);
void CheckSchema(const DoctorOptions& options, CheckList& list);

// disk_checks.cc: of a spool that is not there, what the agent would make it in.
void CheckSpoolPlace(const DoctorOptions& options, const Account& account, CheckList& list);
void CheckWriteFile(const DoctorOptions& options, CheckList& list);

// As the user that the agent becomes -----------------------------------------------------------------------

// traffic_checks.cc: "drops", "traffic".
void CheckTraffic(const DoctorOptions& options, PacketSource& source, CheckList& list);
// disk_checks.cc: "spool".
void CheckSpool(const DoctorOptions& options, const Account& account, const Redaction& redaction,
                CheckList& list);
// collector_check.cc: "metrics", "collector".
void CheckMetricsPort(const DoctorOptions& options, CheckList& list);
void CheckCollector(const DoctorOptions& options, const std::optional<AgentKeys>& keys, CheckList& list);

// Where this process's program lies; "keytrail-agent" if that is not known.
std::string OwnProgram();
// "64 MiB".
std::string SizeText(uint64_t bytes);

}  // namespace keytrail
