// Whether and how a command may dress up its output for a terminal.
#pragma once

#include <string>

namespace keytrail {

// `choice` is auto, always or never; auto means a terminal on stdout and no NO_COLOR.
bool UseColor(const std::string& choice);

// Of the terminal on stdout; 100 if there is none.
int TerminalColumns();

}  // namespace keytrail
