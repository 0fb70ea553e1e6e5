// Text of strangers (host names, paths, names on the wire) made fit for a terminal, a log and JSON.
//
// Pure functions.
#pragma once

#include <string>
#include <string_view>

namespace keytrail {

// UTF-8 (RFC 3629) without control characters (below U+0020, U+007F to U+009F: a terminal may take U+009B for
// the beginning of an escape sequence), line separators, and marks that change the direction of what follows.
bool IsPlainText(std::string_view text);

// The text itself if it is plain; else with ' ' for line ends and tabs, and '?' for each other byte that is
// not printable ASCII.
std::string PlainText(std::string_view text);

}  // namespace keytrail
