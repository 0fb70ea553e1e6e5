#include "agent/schema/full_text.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/text_format.h>

#include "agent/schema/descriptor_source.h"

namespace keytrail::schema {

struct TextPrinter::Pool {
  pb::DescriptorPool descriptors;
  pb::DynamicMessageFactory factory{&descriptors};
};

TextPrinter::TextPrinter(std::string descriptor_set) : descriptor_set_(std::move(descriptor_set)) {}
TextPrinter::~TextPrinter() = default;

bool TextPrinter::Print(const std::string& message_name, Bytes message, bool single_line, std::string& out) {
  std::call_once(once_, [this] {
    pool_ = std::make_unique<Pool>();
    pb::FileDescriptorSet set;
    const bool read = descriptor_set_.empty() ? ReadBundled(set).ok() : set.ParseFromString(descriptor_set_);
    // Whether the files are right was checked when they were read; what cannot be built is not found below.
    if (read) (void)BuildPool(set, pool_->descriptors);
  });
  const pb::Descriptor* descriptor = pool_->descriptors.FindMessageTypeByName(message_name);
  if (!descriptor) return false;
  const std::unique_ptr<pb::Message> parsed(pool_->factory.GetPrototype(descriptor)->New());
  {
    // The library would log invalid UTF-8; the traffic is not ours to complain about.
    const pb::LogSilencer silence;
    if (!parsed->ParsePartialFromArray(message.data(), static_cast<int>(message.size()))) return false;
  }
  pb::TextFormat::Printer printer;
  printer.SetSingleLineMode(single_line);
  printer.SetUseShortRepeatedPrimitives(true);
  if (!printer.PrintToString(*parsed, &out)) return false;
  while (!out.empty() && (out.back() == ' ' || out.back() == '\n')) out.pop_back();
  return true;
}

}  // namespace keytrail::schema
