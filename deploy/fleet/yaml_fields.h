// Typed reading of YAML with file, line and column in each error. Of this room's readers alone; yaml-cpp's
// exceptions are caught in topology.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <yaml-cpp/yaml.h>

namespace keytrail {

// Thrown by what follows, caught by ReadTopology.
class WrongTopology : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A mapping of the file: what is asked for is checked, what is not is passed over.
class YamlFields {
 public:
  // `what` names it in errors: "tikv_servers[2]".
  YamlFields(YAML::Node node, std::string path, std::string what);

  bool Has(const std::string& key) const;
  std::optional<std::string> Text(const std::string& key) const;
  std::optional<uint16_t> Port(const std::string& key) const;
  std::optional<bool> Flag(const std::string& key) const;
  std::vector<std::string> Texts(const std::string& key) const;
  std::vector<uint16_t> Ports(const std::string& key) const;
  // A mapping below; none if it is not there or empty.
  std::optional<YamlFields> Below(const std::string& key) const;
  // The mappings of a list below.
  std::vector<YamlFields> List(const std::string& key) const;

  [[noreturn]] void Fail(const std::string& key, const std::string& why) const;
  [[noreturn]] void Fail(const std::string& why) const;

 private:
  YAML::Node At(const std::string& key) const;
  [[noreturn]] void FailAt(const YAML::Node& node, const std::string& why) const;
  std::string TextOf(const YAML::Node& node, const std::string& key) const;
  uint16_t PortOf(const YAML::Node& node, const std::string& key) const;

  YAML::Node node_;
  std::string path_;
  std::string what_;
};

}  // namespace keytrail
