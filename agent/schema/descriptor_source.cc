#include "agent/schema/descriptor_source.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/compiler/importer.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/empty.pb.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/timestamp.pb.h>
#include <google/protobuf/wrappers.pb.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "proto/kvproto/bundled_descriptor_set.h"

namespace keytrail::schema {

namespace {

namespace fs = std::filesystem;

// A folder of the user's on disk; google/protobuf/*.proto from the library if the folders have none.
class UserSourceTree final : public pb::compiler::SourceTree {
 public:
  void Add(const fs::path& folder) { disk_.MapPath("", folder.string()); }

  pb::io::ZeroCopyInputStream* Open(const std::string& name) override {
    pb::io::ZeroCopyInputStream* input = disk_.Open(name);
    if (input) return input;
    const std::string* text = WellKnown(name);
    return text ? new pb::io::ArrayInputStream(text->data(), static_cast<int>(text->size())) : nullptr;
  }

  std::string GetLastErrorMessage() override { return disk_.GetLastErrorMessage(); }

 private:
  const std::string* WellKnown(const std::string& name) {
    static const pb::FileDescriptor* const kFiles[] = {pb::FileDescriptorProto::descriptor()->file(),
                                                       pb::Any::descriptor()->file(),
                                                       pb::Duration::descriptor()->file(),
                                                       pb::Empty::descriptor()->file(),
                                                       pb::Struct::descriptor()->file(),
                                                       pb::Timestamp::descriptor()->file(),
                                                       pb::Int32Value::descriptor()->file()};
    for (const pb::FileDescriptor* file : kFiles) {
      if (file->name() != name) continue;
      return &texts_.try_emplace(name, file->DebugString()).first->second;
    }
    return nullptr;
  }

  pb::compiler::DiskSourceTree disk_;
  std::unordered_map<std::string, std::string> texts_;
};

// Keeps the first complaints, as protoc would print them (lines and columns from 1).
class FirstErrors final : public pb::compiler::MultiFileErrorCollector {
 public:
  explicit FirstErrors(std::string folder) : folder_(std::move(folder)) {}

  void AddError(const std::string& file, int line, int column, const std::string& message) override {
    if (++count_ > 3) return;
    if (!text_.empty()) text_ += "; ";
    text_ += folder_ + "/" + file;
    if (line >= 0) text_ += ":" + std::to_string(line + 1) + ":" + std::to_string(column + 1);
    text_ += ": " + message;
  }

  std::string text() const {
    return count_ > 3 ? text_ + "; and " + std::to_string(count_ - 3) + " more" : text_;
  }
  bool any() const { return count_ != 0; }

 private:
  std::string folder_;
  std::string text_;
  int count_ = 0;
};

class PoolErrors final : public pb::DescriptorPool::ErrorCollector {
 public:
  void AddError(const std::string& file, const std::string& element, const pb::Message*, ErrorLocation,
                const std::string& message) override {
    if (text_.empty()) text_ = file + ": " + (element == file ? "" : element + ": ") + message;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

Result<std::vector<std::string>> ProtoFilesUnder(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error);
  if (error) return Error{folder.string() + ": " + error.message()};
  for (const fs::recursive_directory_iterator end; it != end;) {
    const std::string name = it->path().filename().string();
    if (name.starts_with('.') && it->is_directory(error)) {
      it.disable_recursion_pending();
    } else if (it->path().extension() == ".proto" && !it->is_directory(error)) {
      names.push_back(it->path().lexically_relative(folder).generic_string());
    }
    it.increment(error);
    if (error) return Error{folder.string() + ": " + error.message()};
  }
  std::sort(names.begin(), names.end());
  return names;
}

void CopyWithImports(const pb::FileDescriptor& file, std::unordered_set<const pb::FileDescriptor*>& done,
                     pb::FileDescriptorSet& set) {
  if (!done.insert(&file).second) return;
  for (int i = 0; i < file.dependency_count(); ++i) CopyWithImports(*file.dependency(i), done, set);
  file.CopyTo(set.add_file());
}

using Visit = std::function<void(const std::string& name)>;

void ForEachDefinition(const pb::FileDescriptorProto& file, const Visit& visit) {
  const std::string prefix = file.package().empty() ? "." : "." + file.package() + ".";
  const std::function<void(const pb::DescriptorProto&, const std::string&)> in =
      [&](const pb::DescriptorProto& m, const std::string& outer) {
        visit(outer + m.name());
        for (const auto& nested : m.nested_type()) in(nested, outer + m.name() + ".");
        for (const auto& e : m.enum_type()) visit(outer + m.name() + "." + e.name());
      };
  for (const auto& m : file.message_type()) in(m, prefix);
  for (const auto& e : file.enum_type()) visit(prefix + e.name());
}

void ForEachReference(const pb::FileDescriptorProto& file, const Visit& visit) {
  const std::function<void(const pb::DescriptorProto&)> in = [&](const pb::DescriptorProto& m) {
    for (const auto& f : m.field()) {
      if (!f.type_name().empty()) visit(f.type_name());
    }
    for (const auto& nested : m.nested_type()) in(nested);
  };
  for (const auto& m : file.message_type()) in(m);
  for (const auto& service : file.service()) {
    for (const auto& method : service.method()) {
      visit(method.input_type());
      visit(method.output_type());
    }
  }
}

// The folder with the .proto files, given it or the repository around it.
fs::path ProtoFolder(const fs::path& dir) {
  std::error_code ignored;
  if (!fs::is_directory(dir / "proto", ignored)) return dir;
  for (const auto& entry : fs::directory_iterator(dir, ignored)) {
    if (entry.path().extension() == ".proto") return dir;
  }
  return dir / "proto";
}

}  // namespace

Status ReadBundled(pb::FileDescriptorSet& set) {
  const auto bytes = BundledDescriptorSet();
  if (!set.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Error{"the bundled descriptors are damaged: this binary was built wrongly"};
  }
  return Done{};
}

Status ReadProtoDir(const std::string& dir, pb::FileDescriptorSet& set) {
  std::error_code error;
  const fs::file_status status = fs::status(dir, error);
  if (!fs::exists(status)) {
    return Error{dir + ": " + (error ? error.message() : std::string(std::strerror(ENOENT)))};
  }
  if (!fs::is_directory(status))
    return Error{dir + ": not a directory; name the folder with the .proto files"};
  const fs::path folder = ProtoFolder(dir);
  const Result<std::vector<std::string>> names = ProtoFilesUnder(folder);
  if (!names) return Error{names.error()};
  if (names->empty()) return Error{dir + ": no .proto file in this directory"};

  UserSourceTree tree;
  tree.Add(folder);
  for (const fs::path& include : {folder / "include", fs::absolute(folder).parent_path() / "include"}) {
    if (fs::is_directory(include, error)) tree.Add(include);
  }
  FirstErrors errors(folder.string());
  pb::compiler::Importer importer(&tree, &errors);
  std::unordered_set<const pb::FileDescriptor*> done;
  for (const std::string& name : *names) {
    const pb::FileDescriptor* file = importer.Import(name);
    if (errors.any()) return Error{errors.text()};
    if (!file) return Error{folder.string() + "/" + name + ": " + tree.GetLastErrorMessage()};
    CopyWithImports(*file, done, set);
  }
  return AddBundled(set);
}

Status ReadDescriptorSet(const std::string& path, pb::FileDescriptorSet& set) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return Error{path + ": a directory, not a descriptor set file"};
  std::ifstream input(path, std::ios::binary);
  if (!input) return Error{path + ": " + std::strerror(errno)};
  if (!set.ParseFromIstream(&input)) {
    return Error{path +
                 ": not a descriptor set (make one with protoc --include_imports --descriptor_set_out)"};
  }
  if (set.file_size() == 0) return Error{path + ": a descriptor set without any file in it"};
  pb::DescriptorPool pool;
  const Status built = BuildPool(set, pool);
  if (!built) {
    return Error{path + ": " + built.error() + " (was it made with protoc --include_imports?)"};
  }
  return AddBundled(set);
}

Status AddBundled(pb::FileDescriptorSet& set) {
  pb::FileDescriptorSet bundled;
  const Status read = ReadBundled(bundled);
  if (!read) return read;

  std::unordered_set<std::string> packages;
  std::unordered_map<std::string, std::string> file_of;  // type -> file that defines it
  for (const auto& file : set.file()) {
    packages.insert(file.package());
    ForEachDefinition(file, [&](const std::string& name) { file_of.try_emplace(name, file.name()); });
  }
  std::vector<pb::FileDescriptorProto*> candidates;
  for (auto& file : *bundled.mutable_file()) {
    if (packages.contains(file.package())) continue;
    // Names of files may be taken by the user's.
    file.set_name("bundled/" + file.name());
    candidates.push_back(&file);
    ForEachDefinition(file, [&](const std::string& name) { file_of.try_emplace(name, file.name()); });
  }
  // Dropping one file may leave another without what it refers to.
  for (bool changed = true; changed;) {
    changed = false;
    for (auto it = candidates.begin(); it != candidates.end();) {
      bool whole = true;
      ForEachReference(**it, [&](const std::string& name) { whole = whole && file_of.contains(name); });
      if (whole) {
        ++it;
        continue;
      }
      ForEachDefinition(**it, [&](const std::string& name) { file_of.erase(name); });
      it = candidates.erase(it);
      changed = true;
    }
  }
  for (pb::FileDescriptorProto* file : candidates) {
    std::set<std::string> imports;
    ForEachReference(*file, [&](const std::string& name) { imports.insert(file_of.at(name)); });
    imports.erase(file->name());
    file->clear_dependency();
    file->clear_public_dependency();
    file->clear_weak_dependency();
    for (const std::string& name : imports) file->add_dependency(name);
    set.add_file()->Swap(file);
  }
  return Done{};
}

Status BuildPool(const pb::FileDescriptorSet& set, pb::DescriptorPool& pool) {
  // Files may come in any order; imports must be built first.
  std::unordered_map<std::string, const pb::FileDescriptorProto*> by_name;
  for (const auto& file : set.file()) by_name.try_emplace(file.name(), &file);
  std::unordered_set<std::string> begun;
  PoolErrors errors;
  const std::function<bool(const pb::FileDescriptorProto&)> build = [&](const pb::FileDescriptorProto& file) {
    if (!begun.insert(file.name()).second) return true;
    for (const std::string& import : file.dependency()) {
      const auto it = by_name.find(import);
      if (it != by_name.end() && !build(*it->second)) return false;
    }
    return pool.BuildFileCollectingErrors(file, &errors) != nullptr;
  };
  for (const auto& file : set.file()) {
    if (!build(file)) return Error{errors.text()};
  }
  return Done{};
}

}  // namespace keytrail::schema
