#include "tests/unit/agent/schema/message_maker.h"

#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/text_format.h>

#include <functional>

#include "common/key_codec.h"
#include "proto/kvproto/bundled_descriptor_set.h"

namespace keytrail::testing {

MessageMaker::MessageMaker(uint32_t seed) : random_(seed) {
  pb::FileDescriptorSet set;
  const auto bytes = BundledDescriptorSet();
  if (!set.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) std::abort();
  for (const auto& file : set.file()) {
    const pb::FileDescriptor* built = pool_.BuildFile(file);
    if (!built) std::abort();
    files_.push_back(built);
  }
}

std::vector<const pb::Descriptor*> MessageMaker::AllTypes() const {
  std::vector<const pb::Descriptor*> types;
  const std::function<void(const pb::Descriptor*)> add = [&](const pb::Descriptor* type) {
    if (!type->options().map_entry()) types.push_back(type);
    for (int i = 0; i < type->nested_type_count(); ++i) add(type->nested_type(i));
  };
  for (const pb::FileDescriptor* file : files_) {
    for (int i = 0; i < file->message_type_count(); ++i) add(file->message_type(i));
  }
  return types;
}

const pb::Descriptor* MessageMaker::Type(const std::string& full_name) const {
  return pool_.FindMessageTypeByName(full_name);
}

std::unique_ptr<pb::Message> MessageMaker::Empty(const pb::Descriptor* type) {
  return std::unique_ptr<pb::Message>(factory_.GetPrototype(type)->New());
}

std::unique_ptr<pb::Message> MessageMaker::Random(const pb::Descriptor* type, double density) {
  auto m = Empty(type);
  Fill(*m, density, 0);
  return m;
}

std::unique_ptr<pb::Message> MessageMaker::FromText(const std::string& full_name, const std::string& text) {
  auto m = Empty(Type(full_name));
  if (!pb::TextFormat::ParseFromString(text, m.get())) std::abort();
  return m;
}

void MessageMaker::Fill(pb::Message& m, double density, int depth) {
  std::uniform_real_distribution<double> chance(0, 1);
  for (int i = 0; i < m.GetDescriptor()->field_count(); ++i) {
    const pb::FieldDescriptor* f = m.GetDescriptor()->field(i);
    if (f->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE && depth >= 5) continue;
    if (chance(random_) > density || f->name() == left_out_) continue;
    const int times = f->is_repeated() ? 1 + static_cast<int>(random_() % 3) : 1;
    for (int k = 0; k < times; ++k) SetField(m, f, density, depth);
  }
}

std::string MessageMaker::RandomBytes() {
  static const char* const kHex[] = {"7480000000000000355f72800000000000314c",
                                     "7480000000000000FF3B5F728000000000FF1DE3F10000000000FA",
                                     "7480000000000000FF3B5F728000000000FF1DE3F10000000000FAF99478E0837FFFFF",
                                     "00",
                                     "6d",
                                     "746b765f30"};
  if (random_() % 2 == 0) return FromHex(kHex[random_() % std::size(kHex)]).value();
  std::string s(random_() % 40, '\0');
  for (char& c : s) c = static_cast<char>(random_());
  return s;
}

std::string MessageMaker::RandomString() {
  static const char* const kTexts[] = {
      "external_Select",
      "tikv-server",
      "region-cache",
      "peer is not leader",
      "EpochNotMatch current epoch of region 42 is conf_ver: 5 version: 18, but you sent conf_ver: 5 "
      "version: 17",
      "Key 7480 is out of [region 16] [74, 7500)",
      "Key ? is out of [region 3] [?, ?)",
      "Request range exceeds bound, request range:[74, 75), physical bound:[7480, (none))",
      "Error(Txn(Error(InvalidReqRange { start: Some([1, 2]), end: None, lower_bound: Some([1]), "
      "upper_bound: "
      "None })))",
      "contain duplicate region 77"};
  return kTexts[random_() % std::size(kTexts)];
}

uint64_t MessageMaker::RandomNumber() {
  switch (random_() % 4) {
    case 0:
      return random_() % 4;
    case 1:
      return random_();
    case 2:
      return static_cast<uint64_t>(random_()) << 32 | random_();
    default:
      return random_() % 300;
  }
}

void MessageMaker::SetField(pb::Message& m, const pb::FieldDescriptor* f, double density, int depth) {
  const pb::Reflection* r = m.GetReflection();
  const bool many = f->is_repeated();
  using F = pb::FieldDescriptor;
  switch (f->cpp_type()) {
#define KEYTRAIL_SET(Type, value) many ? r->Add##Type(&m, f, value) : r->Set##Type(&m, f, value)
    case F::CPPTYPE_INT32:
      KEYTRAIL_SET(Int32, static_cast<int32_t>(RandomNumber()));
      break;
    case F::CPPTYPE_INT64:
      KEYTRAIL_SET(Int64, static_cast<int64_t>(RandomNumber()));
      break;
    case F::CPPTYPE_UINT32:
      KEYTRAIL_SET(UInt32, static_cast<uint32_t>(RandomNumber()));
      break;
    case F::CPPTYPE_UINT64:
      KEYTRAIL_SET(UInt64, RandomNumber());
      break;
    case F::CPPTYPE_DOUBLE:
      KEYTRAIL_SET(Double, static_cast<double>(RandomNumber()));
      break;
    case F::CPPTYPE_FLOAT:
      KEYTRAIL_SET(Float, static_cast<float>(RandomNumber()));
      break;
    case F::CPPTYPE_BOOL:
      KEYTRAIL_SET(Bool, random_() % 3 != 0);
      break;
    case F::CPPTYPE_ENUM:
      KEYTRAIL_SET(EnumValue, static_cast<int>(random_() % 5));
      break;
    case F::CPPTYPE_STRING:
      if (f->type() == F::TYPE_BYTES) {
        KEYTRAIL_SET(String, RandomBytes());
      } else {
        KEYTRAIL_SET(String, RandomString());
      }
      break;
#undef KEYTRAIL_SET
    case F::CPPTYPE_MESSAGE:
      Fill(many ? *r->AddMessage(&m, f, &factory_) : *r->MutableMessage(&m, f, &factory_), density,
           depth + 1);
      break;
  }
}

}  // namespace keytrail::testing
