// What the kernel tells of network devices that come, go, and are switched up and down (rtnetlink(7)).
//
// Inside this room only; one thread. Needs no rights, and works after they were given up.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/result.h"

namespace keytrail {

struct LinkEvent {
  std::string name;
  int index = 0;
  bool removed = false;  // the device is no more (in this network namespace)
  bool up = false;       // switched on; says nothing of a cable
};

class LinkWatch {
 public:
  LinkWatch() = default;
  ~LinkWatch();
  LinkWatch(const LinkWatch&) = delete;
  LinkWatch& operator=(const LinkWatch&) = delete;

  Status Open();
  // To be polled for reading; -1: not open.
  int fd() const { return fd_; }
  // Appends what has come. False: some of it was lost, look at the devices themselves.
  bool Read(std::vector<LinkEvent>& events);

 private:
  int fd_ = -1;
  std::unique_ptr<char[]> buffer_;  // as new[] aligns it, for any header
};

// A device as it is now; index 0: there is none of that name.
LinkEvent LookAtLink(const std::string& name);

}  // namespace keytrail
