#include "deploy/fleet/yaml_fields.h"

#include <charconv>
#include <utility>

namespace keytrail {

YamlFields::YamlFields(YAML::Node node, std::string path, std::string what)
    : node_(std::move(node)), path_(std::move(path)), what_(std::move(what)) {
  if (!node_.IsMap()) FailAt(node_, what_ + " must have keys and values");
}

void YamlFields::FailAt(const YAML::Node& node, const std::string& why) const {
  std::string place = path_;
  const YAML::Mark mark = node.Mark();
  if (!mark.is_null()) {
    place += ":" + std::to_string(mark.line + 1) + ":" + std::to_string(mark.column + 1);
  }
  throw WrongTopology(place + ": " + why);
}

void YamlFields::Fail(const std::string& key, const std::string& why) const {
  const YAML::Node node = At(key);
  FailAt(node.IsDefined() ? node : node_, what_ + ": " + why);
}

void YamlFields::Fail(const std::string& why) const {
  FailAt(node_, what_ + ": " + why);
}

// Undefined or null: not there.
YAML::Node YamlFields::At(const std::string& key) const {
  const YAML::Node node = node_[key];
  return node.IsDefined() && !node.IsNull() ? node : YAML::Node(YAML::NodeType::Undefined);
}

bool YamlFields::Has(const std::string& key) const {
  return At(key).IsDefined();
}

std::string YamlFields::TextOf(const YAML::Node& node, const std::string& key) const {
  if (!node.IsScalar()) FailAt(node, what_ + ": " + key + " must be one word or number");
  return node.Scalar();
}

uint16_t YamlFields::PortOf(const YAML::Node& node, const std::string& key) const {
  const std::string text = TextOf(node, key);
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) {
    FailAt(node, what_ + ": " + key + " '" + text + "' is no port (1 to 65535)");
  }
  return port;
}

std::optional<std::string> YamlFields::Text(const std::string& key) const {
  const YAML::Node node = At(key);
  if (!node.IsDefined()) return std::nullopt;
  return TextOf(node, key);
}

std::optional<uint16_t> YamlFields::Port(const std::string& key) const {
  const YAML::Node node = At(key);
  // TiUP writes 0 for "the default".
  if (!node.IsDefined() || (node.IsScalar() && node.Scalar() == "0")) return std::nullopt;
  return PortOf(node, key);
}

std::optional<bool> YamlFields::Flag(const std::string& key) const {
  const YAML::Node node = At(key);
  if (!node.IsDefined()) return std::nullopt;
  bool flag = false;
  if (!YAML::convert<bool>::decode(node, flag)) FailAt(node, what_ + ": " + key + " must be true or false");
  return flag;
}

std::vector<std::string> YamlFields::Texts(const std::string& key) const {
  std::vector<std::string> texts;
  const YAML::Node node = At(key);
  if (!node.IsDefined()) return texts;
  if (!node.IsSequence()) FailAt(node, what_ + ": " + key + " must be a list");
  for (const YAML::Node& item : node) texts.push_back(TextOf(item, key));
  return texts;
}

std::vector<uint16_t> YamlFields::Ports(const std::string& key) const {
  std::vector<uint16_t> ports;
  const YAML::Node node = At(key);
  if (!node.IsDefined()) return ports;
  if (!node.IsSequence()) FailAt(node, what_ + ": " + key + " must be a list of ports");
  for (const YAML::Node& item : node) ports.push_back(PortOf(item, key));
  return ports;
}

std::optional<YamlFields> YamlFields::Below(const std::string& key) const {
  const YAML::Node node = At(key);
  if (!node.IsDefined()) return std::nullopt;
  return YamlFields(node, path_, key);
}

std::vector<YamlFields> YamlFields::List(const std::string& key) const {
  std::vector<YamlFields> list;
  const YAML::Node node = At(key);
  if (!node.IsDefined()) return list;
  if (!node.IsSequence()) FailAt(node, key + " must be a list");
  for (const YAML::Node& item : node) {
    list.emplace_back(item, path_, key + "[" + std::to_string(list.size()) + "]");
  }
  return list;
}

}  // namespace keytrail
