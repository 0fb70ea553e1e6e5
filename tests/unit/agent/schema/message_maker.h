// Random messages of any type, through protobuf's own reflection.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/dynamic_message.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

namespace keytrail::testing {

namespace pb = google::protobuf;

// The bundled descriptors as a pool, and messages made of them.
class MessageMaker {
 public:
  explicit MessageMaker(uint32_t seed);

  std::vector<const pb::Descriptor*> AllTypes() const;
  const pb::Descriptor* Type(const std::string& full_name) const;
  std::unique_ptr<pb::Message> Empty(const pb::Descriptor* type);
  // `density`: share of the fields that are set.
  std::unique_ptr<pb::Message> Random(const pb::Descriptor* type, double density);
  std::unique_ptr<pb::Message> FromText(const std::string& full_name, const std::string& text);

  // Fields of this name are left out of random messages.
  void LeaveOut(std::string field_name) { left_out_ = std::move(field_name); }

  std::mt19937& random() { return random_; }

 private:
  void Fill(pb::Message& m, double density, int depth);
  void SetField(pb::Message& m, const pb::FieldDescriptor* f, double density, int depth);
  std::string RandomBytes();
  std::string RandomString();
  uint64_t RandomNumber();

  pb::DescriptorPool pool_;
  pb::DynamicMessageFactory factory_{&pool_};
  std::vector<const pb::FileDescriptor*> files_;
  std::mt19937 random_;
  std::string left_out_;
};

}  // namespace keytrail::testing
