// Names of tensors in foreign files → ours (those of transformers).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace exactmamba::models {

class TensorNames {
 public:
  /// What is needed for Hugging Face and state-spaces files: only the embedding's name differs.
  TensorNames() = default;

  /// Adds a TOML file of lines `"theirs.*.weight" = "backbone.layers.*.norm.weight"`; `*` stands for the
  /// layer number.
  /// @throws IoError, InputError with file:line:column
  explicit TensorNames(const std::filesystem::path& table);

  /// A name that no rule knows stays as it is.
  std::string ours(const std::string& foreign) const;

 private:
  struct Rule {
    std::string foreign, ours;
  };
  std::vector<Rule> rules_;
};

}  // namespace exactmamba::models
