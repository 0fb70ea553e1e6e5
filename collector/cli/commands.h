// The subcommands of `keytrail`, one file each.
#pragma once

#include <CLI/CLI.hpp>

namespace keytrail {

// Each adds its subcommand; `exit_status` is set when it ran.
void AddSqlCommand(CLI::App& app, int& exit_status);
void AddVerdictsCommand(CLI::App& app, int& exit_status);
void AddTimelineCommand(CLI::App& app, int& exit_status);
void AddAgentsCommand(CLI::App& app, int& exit_status);
void AddLossesCommand(CLI::App& app, int& exit_status);
void AddWatchCommand(CLI::App& app, int& exit_status);
void AddBackupCommand(CLI::App& app, int& exit_status);
void AddKeysCommand(CLI::App& app, int& exit_status);
void AddDoctorCommand(CLI::App& app, int& exit_status);
void AddFleetCommand(CLI::App& app, int& exit_status);

// Exit statuses of all three programs.
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitIncomplete = 3;

}  // namespace keytrail
