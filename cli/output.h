// Where results go and input comes from; "-" is stdout or stdin.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "core/json.h"
#include "core/safetensors.h"

namespace exactmamba::cli {

/// To stdout, whole. @throws IoError
void write_result(const std::string& text);
/// Indented; bytes that are no UTF-8 (names of files and of foreign tensors may hold them) become U+FFFD.
void write_json_result(const core::Json& document);

/// The same in one line.
std::string json_line(const core::Json& document);

/// The whole file, or stdin for "-". @throws IoError; InputError when stdin does not end within 256 MiB
std::string read_input(const std::string& file);

enum class OutputKind { kFile, kFolder };

/// @throws IoError when `output` exists and may not be replaced, is a folder in the place of a file, or a
/// file in a folder that is not there. For use before long work.
void refuse_existing(const std::string& output, bool overwrite, OutputKind kind = OutputKind::kFile);

/// Nothing of a training or a run may be replaced by a single file, nor anything put among it. @throws
/// IoError when `output` is, or lies in, the folder of one
void refuse_place_in_run(const std::string& output);
/// For the folder of a run. @throws IoError
void refuse_training_around(const std::filesystem::path& folder);
/// Of what is made from `model`: nothing of a model, a training or a run may be replaced, nor anything put
/// among it; only a whole model folder, other than `model`, may be. @throws IoError when `output` is, or lies
/// in, such a folder
void refuse_kept_place(const std::string& output, const std::string& model);
/// @throws UsageError when both the tensors and --json would go to stdout
void refuse_two_results(const std::string& output, bool json);
/// `metadata` and the format_version go into the file's header. @throws IoError
void save_tensors(const std::string& output, bool overwrite, const core::NamedTensors& tensors,
                  std::map<std::string, std::string> metadata);

}  // namespace exactmamba::cli
