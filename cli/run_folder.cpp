#include "cli/run_folder.h"

#include <cerrno>
#include <cstring>
#include <unistd.h>

#include <fmt/format.h>

#include "cli/output.h"
#include "cli/problems.h"
#include "cli/recipe_files.h"
#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/stage.h"
#include "core/version.h"

namespace exactmamba::cli {
namespace fs = std::filesystem;
using core::Json;

namespace {

constexpr const char* kRecord = "run.json";  // of the last run, in the output folder
// Of recipe.toml, which is written after the record: what it will be, and what it was before if that differs.
constexpr const char *kRecipeHash = "recipe_hash", *kReplacedHash = "replaced_recipe_hash";
constexpr const char* kRecipeCopy = "recipe.toml";

Json run_record(const fs::path& file) {
  Json record;
  try {
    record = core::read_json(file);
  } catch (const core::InputError& error) {
    throw core::InputError(fmt::format("{}; give --overwrite to write it anew", error.what()));
  }
  core::require(record.is_object() && record.contains(kRecipeHash),
                "{}: not the record of a run; choose another run.output or give --overwrite", file.string());
  return record;
}

/// Refuses a folder that no run made, and a copy of the recipe that somebody changed.
void refuse_foreign(const fs::path& output, const std::string& recipe) {
  std::error_code ignored;
  if (!fs::exists(output, ignored)) return;
  const fs::path record_file = output / kRecord;
  if (!fs::is_regular_file(record_file)) {
    if (core::is_empty_but_for_leftovers(output)) return;
    // The record is what a run writes first, so that it may be there since, or be under way.
    const bool begun = core::is_under_construction(record_file);
    core::require<core::IoError>(
        !begun,
        "{}: another exactmamba has just begun to work there; wait for it, or choose another run.output",
        output.string());
    core::require<core::IoError>(fs::is_regular_file(record_file),
                                 "{}: holds other files; choose another run.output or give --overwrite",
                                 output.string());
  }
  const Json record = run_record(record_file);
  const fs::path copy = output / kRecipeCopy;
  if (!fs::exists(copy)) return;
  const std::string there = core::read_file(copy);
  const Json hash = core::hash_hex(there);
  const bool ours = hash == record[kRecipeHash] || hash == record.value(kReplacedHash, Json());
  core::require<core::IoError>(there == recipe || ours,
                               "{}: was changed since a run put it there; move it away, or give --overwrite "
                               "to replace it",
                               copy.string());
}

}  // namespace

bool is_run_folder(const fs::path& folder) {
  std::error_code unreadable;
  return fs::exists(folder / kRecord, unreadable) && (fs::exists(folder / kRecipeCopy, unreadable) ||
                                                      fs::exists(folder / core::kStagesFolder, unreadable));
}

fs::path nearest_existing(const fs::path& folder) {
  fs::path place = folder;
  while (!place.empty() && !fs::exists(place)) place = place.parent_path();
  return place.empty() ? "." : place;
}

void require_makeable(const fs::path& folder) {
  const fs::path there = nearest_existing(folder);
  core::require<core::IoError>(fs::is_directory(there), "{} is a file; choose another folder",
                               there.string());
  if (there == folder || ::access(there.c_str(), W_OK | X_OK) == 0) return;
  const std::string reason = std::strerror(errno);
  throw core::IoError(fmt::format("{}: cannot make the folder: {}", folder.string(), reason));
}

std::string place_of_output(const RecipeRun& run) {
  const core::Option& option = run.schema.at("run.output");
  return option.is_left_out() ? "run.output" : place_of(run, "run.output");
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  core::require<core::IoError>(!error, "{}: cannot make the folder: {}", folder.string(), error.message());
}

void prepare_output(const RecipeFile& file, bool overwrite) {
  const fs::path output = file.first().run.output, copy = output / kRecipeCopy;
  refuse_training_around(output);
  if (!overwrite) refuse_foreign(output, file.text);
  at_place(place_of_output(*file.runs.front()), [&output] { make_folder(output); });
  Json record = {{"format_version", core::kFormatVersion},
                 {"program", fmt::format("exactmamba {}", core::version())},
                 {"recipe", file.name},
                 {kRecipeHash, core::hash_hex(file.text)},
                 {"set", file.sets}};
  if (fs::exists(copy)) {
    const Json replaced = core::hash_file_hex(copy);
    if (replaced != record[kRecipeHash]) record[kReplacedHash] = replaced;
  }
  core::write_json(output / kRecord, record);
  core::write_file(copy, file.text);
}

}  // namespace exactmamba::cli
