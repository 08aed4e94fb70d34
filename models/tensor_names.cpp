#include "models/tensor_names.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/toml.h"

namespace exactmamba::models {
namespace {

using core::require;

/// The digits that `*` stands for when `name` fits `pattern`; "" when it fits without `*`.
std::optional<std::string> match(const std::string& pattern, const std::string& name) {
  const size_t star = pattern.find('*');
  if (star == std::string::npos) return name == pattern ? std::optional<std::string>("") : std::nullopt;
  const std::string tail = pattern.substr(star + 1);
  if (name.size() < pattern.size() || !name.starts_with(pattern.substr(0, star)) || !name.ends_with(tail)) {
    return std::nullopt;
  }
  const std::string number = name.substr(star, name.size() - star - tail.size());
  const bool digits = std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits ? std::optional<std::string>(number) : std::nullopt;
}

std::string filled(std::string pattern, const std::string& number) {
  const size_t star = pattern.find('*');
  return star == std::string::npos ? pattern : pattern.replace(star, 1, number);
}

}  // namespace

TensorNames::TensorNames(const std::filesystem::path& table) {
  const std::string where = table.string();
  for (const core::TomlMember& member : core::parse_toml(core::read_file(table), where).members) {
    require(member.node.kind == core::TomlNode::Kind::kString,
            "{}: '{}' is {}, but it must be the name of a tensor of ours in quotes (names with dots need "
            "quotes on the "
            "left, too)",
            core::toml_place(where, member.position), core::printable(member.key), member.node.type_name());
    const auto stars = [](const std::string& text) { return std::count(text.begin(), text.end(), '*'); };
    require(stars(member.key) <= 1 && stars(member.key) == stars(member.node.text),
            "{}: '{}' = '{}' must have one * on both sides or none", core::toml_place(where, member.position),
            core::printable(member.key), core::printable(member.node.text));
    rules_.push_back({member.key, member.node.text});
  }
}

std::string TensorNames::ours(const std::string& foreign) const {
  for (const Rule& rule : rules_) {
    if (const std::optional<std::string> number = match(rule.foreign, foreign))
      return filled(rule.ours, *number);
  }
  return foreign == "backbone.embedding.weight" ? "backbone.embeddings.weight" : foreign;
}

}  // namespace exactmamba::models
