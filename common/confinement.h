// Confinement: what a program that reads what strangers send gives up once it has opened what needs rights.
//
// In this order: another user and its groups (if it runs as root), all capabilities (bounding and ambient
// sets too), new privileges by exec, core dumps, writing outside its own folders and running programs
// (Landlock), and system calls that no part of it makes (seccomp). Where the kernel has no Landlock or
// seccomp, the rest holds and the answer says so; what was asked for by name (the user) and cannot be had is
// an Error.
//
// Linux keeps most of this by thread, and threads inherit it: to be called while there is only one.
// Sources: capabilities(7), landlock(7), seccomp(2).
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/result.h"

namespace keytrail {

struct Account {
  std::string name;  // or the number, if it has no name
  uid_t uid = 0;
  gid_t gid = 0;
};

// The account that the program shall run as. `wanted` is a name or a number; empty: as it is, but for root
// the account "keytrail", or "nobody" where there is none. Error: there is no such account, or only root
// could become it.
Result<Account> AccountToBecome(const std::string& wanted);

// Makes the folder, and those above it, if it is not there, and gives it to the account with mode 0700. One
// that is there stays as it is. Error: the path and the reason.
Status MakeFolderFor(const std::string& folder, const Account& account);

struct Writable {
  std::string folder;         // must be there
  bool sockets_only = false;  // unix sockets may be made and removed in it, and nothing else
};

struct Confined {
  bool landlock = false;
  bool seccomp = false;
  std::string description;  // for people: who it is now and what it cannot do, or why it still can
};

// For a process of its own that says whose connections are whose (agent/process): as Confine(), but it keeps
// the two capabilities that reading /proc/PID/fd of others takes, if it has them, opens files for reading
// alone, and makes no system calls but some thirty. False: it has them not, and sees its own account's
// processes.
Result<bool> ConfineLookup(const Account& account);

// Error: more than one thread, the account cannot be taken on, or a folder cannot be written by it (how to
// mend that). After an Error the process may be half confined: end it.
Result<Confined> Confine(const Account& account, const std::vector<Writable>& writable);

}  // namespace keytrail
