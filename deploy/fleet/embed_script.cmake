# Writes OUTPUT, a C++ file that defines HostScript() as the text of INPUT.
# cmake -DINPUT=… -DOUTPUT=… -P embed_script.cmake
file(READ ${INPUT} hex HEX)
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," hex "${hex}")
file(WRITE ${OUTPUT}
"#include \"deploy/fleet/host_script.h\"

namespace keytrail {

namespace {
constexpr char kText[] = {
${hex}
};
}  // namespace

std::string_view HostScript() { return {kText, sizeof kText}; }

}  // namespace keytrail
")
