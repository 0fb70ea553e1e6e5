// Words as a shell takes them, for commands that are shown to people.
#pragma once

#include <string>

namespace keytrail {

// `word` as a POSIX shell takes it for one word: as it is, or in single quotes.
std::string ShellWord(const std::string& word);

}  // namespace keytrail
