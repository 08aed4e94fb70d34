// The README.md (model card) that makes a written model folder fit to publish.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/config.h"

namespace exactmamba::models {

enum class FolderFormat { kHuggingFace, kStateSpaces };

struct ModelCard {
  std::string title;
  ModelConfig config;
  FolderFormat format = FolderFormat::kHuggingFace;
  std::string recipe;             // TOML text of the training recipe; empty: unknown
  std::string progress;           // how much of the recipe's training the weights have seen; empty: unknown
  std::vector<std::string> data;  // one line for each data set; empty: unknown
  /// Approximation error of the decomposition: the first row holds the column names. Empty: not measured.
  std::vector<std::vector<std::string>> error_table;
  std::string error_note;  // how the errors were measured, below the table
  std::string licence;     // an identifier of the model hubs ("apache-2.0"); empty: unknown
};

/// Writes README.md: front matter, what the model computes, how to load it, recipe, data, error table,
/// licence.
/// @throws IoError
void write_model_card(const std::filesystem::path& folder, const ModelCard& card);

}  // namespace exactmamba::models
