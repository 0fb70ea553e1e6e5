// Messages as protobuf text, through reflection: for people, slow.
//
// Internal to this room. Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "common/bytes.h"

namespace google::protobuf {
class FileDescriptorSet;
}

namespace keytrail::schema {

class TextPrinter {
 public:
  // `descriptor_set`: serialized files; empty means the bundled ones. Nothing is built before the first
  // Print.
  explicit TextPrinter(std::string descriptor_set);
  ~TextPrinter();

  // False if the type is not known or the bytes are not valid.
  bool Print(const std::string& message_name, Bytes message, bool single_line, std::string& out);

 private:
  struct Pool;

  std::string descriptor_set_;
  std::once_flag once_;
  std::unique_ptr<Pool> pool_;
};

}  // namespace keytrail::schema
