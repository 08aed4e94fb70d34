#include "models/publish.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/files.h"
#include "core/json.h"
#include "core/markdown.h"

namespace exactmamba::models {
namespace {

/// YAML reads JSON strings.
std::string yaml_text(const std::string& text) {
  return core::Json(text).dump(-1, ' ', false, core::Json::error_handler_t::replace);
}

bool loads_in_transformers(const ModelConfig& config) {
  return config.activation.kind == ActivationKind::kSilu;
}

std::string front_matter(const ModelCard& card) {
  const std::string licence = card.licence.empty() ? "unknown" : card.licence;
  const char* library = card.format == FolderFormat::kStateSpaces ? "mamba-ssm" : "transformers";
  return fmt::format(
      "---\nlicense: {}\nlibrary_name: {}\npipeline_tag: text-generation\ntags:\n- exactmamba\n- {}\n---\n\n",
      yaml_text(licence), library, architecture_name(card.config.architecture));
}

std::string function_text(const ConvActivation& activation) {
  const std::string name = activation_name(activation.kind);
  if (activation.is_linear()) {
    return "`identity`: the convolution has no activation, so the output of every layer splits exactly over "
           "the input "
           "tokens";
  }
  if (activation.kind == ActivationKind::kSilu) return "`silu`, as in the published Mamba models";
  if (activation.alpha == 1.0) return fmt::format("`{}`", name);
  return fmt::format("annealed: {} x {} + {} x silu", activation.alpha, name, 1.0 - activation.alpha);
}

std::string model_section(const ModelCard& card) {
  const ModelConfig& c = card.config;
  return fmt::format(
      "# {}\n\nA {} language model: {} layers, d_model {}, d_state {}, {} parameters, vocabulary {}.\n\n"
      "Activation after the convolution: {}.\n\n",
      card.title, c.architecture == Architecture::kMamba1 ? "Mamba" : "Mamba-2", c.n_layer, c.d_model,
      c.d_state, c.parameter_count(), c.vocab_size, function_text(c.activation));
}

std::string loading_code(const ModelCard& card) {
  if (card.format == FolderFormat::kStateSpaces) {
    return "from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel\n\n"
           "model = MambaLMHeadModel.from_pretrained(\"path/to/this/folder\")\n";
  }
  const char* import = loads_in_transformers(card.config)
                           ? ""
                           : "import hf_exactmamba  # tools/hf_exactmamba.py of exactmamba\n";
  return fmt::format(
      "{}from transformers import AutoModelForCausalLM\n\n"
      "model = AutoModelForCausalLM.from_pretrained(\"path/to/this/folder\")\n",
      import);
}

std::string loading_section(const ModelCard& card) {
  return "## Loading\n\n" + core::fenced_block(loading_code(card), "python") +
         "\nThe program `exactmamba` reads this folder as it is, for example `exactmamba inspect "
         "path/to/this/folder`.\n\n";
}

std::string table_row(const std::vector<std::string>& cells) {
  std::string row = "|";
  for (const std::string& cell : cells) {
    row += ' ';
    for (const char c : cell) {
      if (c == '|') row += '\\';
      row += c == '\n' ? ' ' : c;
    }
    row += " |";
  }
  return row + '\n';
}

std::string error_section(const ModelCard& card) {
  std::string text = "## Error of the decomposition over tokens\n\n";
  if (card.error_table.empty()) return text + "Not measured.\n\n";
  text += table_row(card.error_table.front());
  text += table_row(std::vector<std::string>(card.error_table.front().size(), "---"));
  for (size_t i = 1; i < card.error_table.size(); ++i) text += table_row(card.error_table[i]);
  return text + (card.error_note.empty() ? "" : "\n" + card.error_note + "\n") + "\n";
}

std::string data_section(const ModelCard& card) {
  std::string text = "## Data\n\n";
  for (const std::string& line : card.data) text += "- " + line + '\n';
  return text + (card.data.empty() ? "Not stated.\n\n" : "\n");
}

std::string recipe_section(const ModelCard& card) {
  return "## Recipe\n\n" +
         (card.recipe.empty() ? "Not stated.\n\n" : core::fenced_block(card.recipe, "toml") + "\n") +
         (card.progress.empty() ? "" : card.progress + "\n\n");
}

std::string licence_section(const ModelCard& card) {
  return fmt::format("## Licence\n\n{}\n", card.licence.empty() ? "Not stated." : card.licence);
}

}  // namespace

void write_model_card(const std::filesystem::path& folder, const ModelCard& card) {
  core::write_file(folder / "README.md", front_matter(card) + model_section(card) + loading_section(card) +
                                             error_section(card) + data_section(card) + recipe_section(card) +
                                             licence_section(card));
}

}  // namespace exactmamba::models
