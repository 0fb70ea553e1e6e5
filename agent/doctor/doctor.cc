#include "agent/doctor/doctor.h"

#include <cstdio>

#include "agent/doctor/checks.h"

namespace keytrail {

namespace {

// As an agent does, once all that needs rights is open. False: it would end here.
bool GiveUpRights(const Account& account, CheckList& list) {
  // The spool's folder is looked at by itself: nothing may be made here.
  const Result<Confined> confined = Confine(account, {});
  if (!confined) {
    list.Add({"confinement",
              CheckLevel::kFault,
              confined.error(),
              {},
              "start it as the account it should have, or give it the capabilities that are named"});
    return false;
  }
  list.Ok("confinement", confined->description);
  return true;
}

}  // namespace

int RunDoctor(const DoctorOptions& options) {
  CheckList list(stdout, options.json);
  const std::optional<Account> account = CheckPrivileges(options, list);
  const bool device = CheckDevices(options, list);
  CheckMemory(options, list);
  CheckClock(list);
  CheckOtherAgents(options, list);
  CheckSchema(options, list);
  const KeysLook keys = CheckKeys(options, list);
  CheckWriteFile(options, list);
  if (account) CheckSpoolPlace(options, *account, list);

  // The ring is the last thing that needs rights: what comes in is read soon after it is open.
  std::unique_ptr<PacketSource> source;
  if (device && list.fine("privileges")) source = CheckRing(options, list);
  const bool confined = account && GiveUpRights(*account, list);
  if (source != nullptr && confined) {
    CheckTraffic(options, *source, list);
  } else {
    list.NotChecked("traffic", "there is no capture to look at");
  }
  source.reset();
  if (!confined) {
    list.NotChecked("collector", "the agent would end before it connects");
    return list.Finish();
  }
  CheckSpool(options, *account, keys.redaction, list);
  CheckMetricsPort(options, list);
  if (options.collector.empty()) {
    list.Ok("collector", "none is given: what is seen is printed");
  } else if (!keys.good) {
    list.NotChecked("collector", "'" + options.collector + "': the keys to speak to it with are not right");
  } else {
    CheckCollector(options, keys.keys, list);
  }
  return list.Finish();
}

}  // namespace keytrail
