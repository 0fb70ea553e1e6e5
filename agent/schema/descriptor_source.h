// Where descriptors come from: the bundled set, a user's set, or a user's .proto files.
//
// Internal to this room. Each function fills an empty `set` with files in an order in which imports come
// first.
#pragma once

#include <string>

#include "common/result.h"

namespace google::protobuf {
class DescriptorPool;
class FileDescriptorSet;
}  // namespace google::protobuf

namespace keytrail::schema {

namespace pb = google::protobuf;

Status ReadBundled(pb::FileDescriptorSet& set);
// The user's files, then what AddBundled adds.
Status ReadProtoDir(const std::string& dir, pb::FileDescriptorSet& set);
Status ReadDescriptorSet(const std::string& path, pb::FileDescriptorSet& set);

// Packages of the bundled set that `set` does not have and whose every reference resolves in it.
Status AddBundled(pb::FileDescriptorSet& set);

// Builds every file into `pool`. Error: the first complaint.
Status BuildPool(const pb::FileDescriptorSet& set, pb::DescriptorPool& pool);

}  // namespace keytrail::schema
