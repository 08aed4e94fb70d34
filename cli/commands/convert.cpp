#include <filesystem>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/contents.h"
#include "cli/model_origin.h"
#include "cli/output.h"
#include "cli/tokens.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "data/tokenizers/open_tokenizer.h"
#include "models/checkpoint.h"
#include "models/stored_weights.h"

namespace exactmamba::cli {
namespace fs = std::filesystem;

namespace {

/// What a folder may hold that --overwrite replaces: a model in either form, its tokenizer and its card.
const std::vector<std::string> kModelFiles = {
    "config.json",        "model*.safetensors",       "model.safetensors.index.json", "pytorch_model.bin",
    data::kTokenizerFile, data::kTokenizerConfigFile, data::kSentencePieceFile,       "README.md"};

void copy_tokenizer(const fs::path& model, const fs::path& output) {
  for (const char* name : data::kTokenizerFiles)
    if (fs::is_regular_file(model / name)) core::write_file(output / name, core::read_file(model / name));
}

}  // namespace

void convert(const ConvertArguments& arguments) {
  core::require<core::UsageError>(arguments.output != "-", "--output must be a folder");
  refuse_existing(arguments.output, arguments.overwrite, OutputKind::kFolder);
  refuse_kept_place(arguments.output, arguments.model);
  const fs::path source = model_of(arguments.model);
  models::LoadOptions options;
  if (!arguments.names.empty()) options.names = arguments.names;
  const at::ScalarType storage = arguments.dtype.empty() ? models::stored_dtype(source, options.names)
                                                         : core::dtype_from_name(arguments.dtype, "--dtype");
  options.dtype = storage == at::kDouble ? at::kDouble : at::kFloat;
  const models::MambaLM model = models::load_model(source, options);

  models::ModelCard card;
  card.title = fs::weakly_canonical(arguments.output).filename().string();
  card.config = model.config();
  card.format =
      arguments.to == "hf" ? models::FolderFormat::kHuggingFace : models::FolderFormat::kStateSpaces;
  card.licence = arguments.licence;
  describe_origin(source, card);

  core::AtomicFolder folder(arguments.output, arguments.overwrite ? kModelFiles : std::vector<std::string>{});
  if (arguments.to == "hf") {
    models::save_model(model, folder.path(), storage);
  } else {
    models::save_state_spaces(model, folder.path(), storage);
  }
  copy_tokenizer(source, folder.path());
  models::write_model_card(folder.path(), card);
  folder.commit();
  core::log_info(
      fmt::format("{} parameters", core::human_count(static_cast<double>(model.config().parameter_count()))));
  if (!arguments.common.json) return write_result(arguments.output + "\n");
  core::Json result = {
      {"output", arguments.output}, {"format", arguments.to}, {"dtype", models::storage_dtype_name(storage)}};
  result.update(contents_of(arguments.output));
  write_json_result(result);
}

}  // namespace exactmamba::cli
