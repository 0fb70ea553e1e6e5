# Writes OUTPUT, a C++ file that defines kBundledDescriptorSet as the bytes of INPUT.
# cmake -DINPUT=… -DOUTPUT=… -P embed.cmake
file(READ ${INPUT} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
file(WRITE ${OUTPUT}
"#include \"proto/kvproto/bundled_descriptor_set.h\"

namespace keytrail {

namespace {
constexpr uint8_t kBytes[${size}] = {
${hex}
};
}  // namespace

std::span<const uint8_t> BundledDescriptorSet() { return kBytes; }

}  // namespace keytrail
")
