// Whether and how a command may dress up its output for a terminal.
#pragma once

#include <string>

namespace keytrail {

// `choice` is auto, always or never; auto means a terminal on stdout and no NO_COLOR.
bool UseColor(const std::string& choice);

// Of the terminal on stdout; 100 and 40 if there is none.
int TerminalColumns();
int TerminalLines();

// Writes all of it to stdout. False: it cannot.
bool WriteOut(const std::string& text);

// Says on stderr what failed; returns the exit status for it.
int Fail(const std::string& message);

}  // namespace keytrail
