#include "cli/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <unistd.h>
#include <vector>

#include "cli/run_folder.h"
#include "core/error.h"
#include "core/files.h"
#include "core/stage.h"
#include "core/version.h"
#include "models/stored_weights.h"
#include "train/training_checkpoint.h"

namespace exactmamba::cli {
namespace fs = std::filesystem;

namespace {

constexpr size_t kLongestInput = size_t{256} << 20;  // of recipes and token ids, against input without end

}  // namespace

void write_result(const std::string& text) {
  const bool written =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  core::require<core::IoError>(written, "stdout: cannot write: {}", std::strerror(errno));
}

void write_json_result(const core::Json& document) {
  write_result(document.dump(2, ' ', false, core::Json::error_handler_t::replace) + "\n");
}

std::string json_line(const core::Json& document) {
  return document.dump(-1, ' ', false, core::Json::error_handler_t::replace) + "\n";
}

std::string read_input(const std::string& file) {
  if (file != "-") return core::read_file(file);
  std::string text;
  char chunk[4096];
  for (size_t n = 0; (n = std::fread(chunk, 1, sizeof chunk, stdin)) > 0;) {
    text.append(chunk, n);
    core::require(text.size() <= kLongestInput, "stdin: there are more than {} bytes", kLongestInput);
  }
  core::require<core::IoError>(std::ferror(stdin) == 0, "stdin: cannot read: {}", std::strerror(errno));
  return text;
}

void refuse_existing(const std::string& output, bool overwrite, OutputKind kind) {
  std::error_code ignored;
  const fs::path parent = fs::path(output).parent_path();
  core::require<core::IoError>(!fs::is_regular_file(parent, ignored),
                               "{}: is a file, and not a folder to write {} into; choose another --output",
                               parent.string(), output);
  core::require<core::IoError>(
      kind == OutputKind::kFolder || output == "-" || parent.empty() || fs::is_directory(parent, ignored),
      "--output {}: there is no folder {}; make it, or choose another name", output, parent.string());
  if (output == "-" || !fs::exists(output, ignored)) return;
  core::require<core::IoError>(
      fs::is_regular_file(output, ignored) || fs::is_directory(output, ignored),
      "{}: is a device or a pipe, in whose place a file would be put; choose another name, or give - and "
      "redirect stdout to it",
      output);
  core::require<core::IoError>(kind == OutputKind::kFolder || !fs::is_directory(output, ignored),
                               "{}: is a folder, and --output must name a file", output);
  if (overwrite) return;
  throw core::IoError(fmt::format("{}: exists already; choose another name or give --overwrite", output));
}

namespace {

bool has(const fs::path& folder, const char* name) {
  std::error_code unreadable;
  return fs::exists(folder / name, unreadable);
}

bool is_training(const fs::path& folder) {
  return has(folder, core::kStageFile) || has(folder, core::kBegunFile) ||
         has(folder, train::kTrainStateFile) ||
         (has(folder, "metrics.jsonl") && has(folder, "checkpoints"));  // begun before there was begun.json
}

/// Many things have a config.json, only a model has weights beside it.
bool is_whole_model(const fs::path& folder) {
  return has(folder, "config.json") && models::has_weights(folder);
}

/// `place` and every folder that it lies in, from the inside out; links are followed.
std::vector<fs::path> enclosing(const fs::path& place) {
  std::vector<fs::path> places;
  for (fs::path each = fs::weakly_canonical(place); each.has_relative_path(); each = each.parent_path())
    places.push_back(each);
  return places;
}

/// `output`, what it lies in, and what it lies in where it is a link.
std::vector<fs::path> places_of(const std::string& output) {
  const fs::path place = fs::absolute(output);
  std::vector<fs::path> folders = enclosing(place);
  for (const fs::path& folder : enclosing(place.parent_path())) folders.push_back(folder);
  return folders;
}

void refuse_if(bool is_kept, const std::string& output, const std::string& what, const std::string& name) {
  core::require<core::IoError>(!is_kept, "{}: is, or lies in, the {}, {}; choose another --output", output,
                               what, name);
}

}  // namespace

void refuse_place_in_run(const std::string& output) {
  if (output == "-") return;
  for (const fs::path& folder : places_of(output)) {
    refuse_if(is_training(folder), output, "folder of a training", folder.string());
    refuse_if(is_run_folder(folder), output, "folder of a run", folder.string());
  }
}

void refuse_kept_place(const std::string& output, const std::string& model) {
  if (output == "-") return;
  const fs::path source = fs::weakly_canonical(model), itself = fs::weakly_canonical(fs::absolute(output));
  const std::vector<fs::path> folders = places_of(output);
  refuse_place_in_run(output);
  for (const fs::path& folder : folders) refuse_if(folder == source, output, "model that is read", model);
  for (const fs::path& folder : folders)
    refuse_if(folder != itself && is_whole_model(folder), output, "folder of a model", folder.string());
}

void refuse_training_around(const fs::path& folder) {
  for (const fs::path& place : enclosing(fs::absolute(folder)))
    core::require<core::IoError>(!is_training(place),
                                 "{}: lies in the folder of a training, {}, which may remove it; choose "
                                 "another run.output",
                                 folder.string(), place.string());
}

void refuse_two_results(const std::string& output, bool json) {
  core::require<core::UsageError>(output != "-" || !json,
                                  "--output - and --json both write to stdout; give --output a file");
}

void save_tensors(const std::string& output, bool overwrite, const core::NamedTensors& tensors,
                  std::map<std::string, std::string> metadata) {
  refuse_existing(output, overwrite);
  metadata["format_version"] = std::to_string(core::kFormatVersion);
  if (output != "-") return core::write_safetensors(output, tensors, metadata);
  core::AtomicFolder folder(fs::temp_directory_path() /
                            fmt::format("exactmamba-{}", getpid()));  // never committed: goes again
  const fs::path file = folder.path() / "out.safetensors";
  core::write_safetensors(file, tensors, metadata);
  write_result(core::read_file(file));
}

}  // namespace exactmamba::cli
