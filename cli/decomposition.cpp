// The decompose stage: a file for every row, so that an interrupted one continues.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "cli/run_folder.h"
#include "cli/stages.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/safetensors.h"
#include "core/stop_signal.h"
#include "eval/evaluation.h"

namespace exactmamba::cli {
namespace fs = std::filesystem;
using core::Json;

namespace {

fs::path row_path(const core::Stage& decompose, int64_t index) {
  return row_folder(decompose) / fmt::format("row-{:08}.safetensors", index);
}

/// The errors of the row that an earlier attempt left in `file`, if it is there, whole and of `origin`.
std::optional<decomp::ErrorTable> finished_errors(const fs::path& file, const decomp::RowOrigin& origin) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return {};
  try {
    decomp::DecomposedRow row = decomp::load_row(file);
    if (row.origin == origin) return std::move(row.errors);
    core::log_warning(fmt::format("{}: is of another row, text or model; made again", file.string()));
  } catch (const core::InputError& error) {
    core::log_warning(fmt::format("{}; made again", error.what()));
  }
  return {};
}

}  // namespace

Json RunStages::run_decomposition(const core::Stage& stage) const {
  const decomp::DecomposeOptions& options = run_.recipe.decompose;
  core::require(datasets_.valid != nullptr, "decompose reads validation data, and data.valid is empty");
  const models::MambaLM model = trained_model(options.scalar_type());
  const std::string checksum = model.parameters().checksum();
  const int64_t rows = std::min(options.max_rows, datasets_.valid->size());
  make_folder(row_folder(stage));
  decomp::ErrorTable errors;
  core::Progress progress("decompose", rows, "row");
  for (int64_t index = 0; index < rows; ++index) {
    core::stop_if_asked("decomposing");
    errors += decompose_row(model, checksum, eval::row_to_decompose(*datasets_.valid, index),
                            row_path(stage, index));
    progress.update(index + 1, static_cast<double>(index + 1));
  }
  core::sync_folder(row_folder(stage));
  return eval::error_json(errors, rows);
}

decomp::ErrorTable RunStages::decompose_row(const models::MambaLM& model, const std::string& checksum,
                                            const decomp::Row& row, const fs::path& file) const {
  decomp::DecomposedRow result{.origin = decomp::origin_of(row, checksum), .maps = {}, .errors = {}};
  if (auto errors = finished_errors(file, result.origin)) return *std::move(errors);
  result.errors = decomp::decompose_row(model, checksum, row, run_.recipe.decompose,
                                        [&result](const decomp::InteractionMap& map) {
                                          core::stop_if_asked("decomposing");
                                          result.maps.push_back(map);
                                        });
  const decomp::RowFile content = decomp::row_file(result);
  core::write_safetensors(file, content.tensors, content.metadata, core::Durable::kLater);
  return result.errors;
}

fs::path row_folder(const core::Stage& decompose) { return decompose.folder() / "maps"; }

decomp::DecomposedRow decomposed_row(const core::Stage& decompose, int64_t index) {
  try {
    return decomp::load_row(row_path(decompose, index));
  } catch (const core::Error& error) {
    throw core::Error(error.exit_code(), fmt::format("{}; delete {} and run again: whole rows are kept",
                                                     error.what(), decompose.record().string()));
  }
}

}  // namespace exactmamba::cli
