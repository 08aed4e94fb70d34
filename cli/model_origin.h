// How model folders and runs belong together.
#pragma once

#include <filesystem>
#include <string>

#include "core/json.h"
#include "models/config.h"
#include "models/publish.h"

namespace exactmamba::cli {

/// In the result of a training's stage, also of one that has only begun: the label of the run that it was
/// made for.
inline constexpr const char* kRunLabel = "label";

/// Fills recipe, progress, data and, for the weights that training ended with, error table of `card` when
/// `folder` is a checkpoint of a run of ours (STAGE/checkpoints/step-N), from the records of its stages.
/// @throws InputError when a record is malformed
void describe_origin(const std::filesystem::path& folder, models::ModelCard& card);

/// data.task of the training that `checkpoint` is one of (STAGE/checkpoints/step-N); "" where that is not
/// known.
std::string task_of(const std::filesystem::path& checkpoint);

/// Of what a model is loaded from; a training checkpoint also has its moments, and tells how long it took.
std::string model_fingerprint(const std::filesystem::path& folder);

/// Of a model that a recipe names. The folder of a run, or of one of its trainings, would be another model
/// later. @throws IoError for such a one, with the models that are in it; as models::load_config()
models::ModelConfig config_of_named_model(const std::filesystem::path& folder);

/// The checkpoint that a finished training (STAGE, and the result in its record) has for its result.
/// @throws InputError when it is gone
std::filesystem::path resulting_checkpoint(const std::filesystem::path& training, const core::Json& result);

/// For a model of the command line: a model folder as it is; of the folder of a run that has one training, or
/// of a training, its result, or before its end its last checkpoint, and the log names it. @throws IoError
/// when there are several, with the label of each one's run and what those of one label differ in, and when
/// there is none, or no checkpoint yet; InputError when a training's record is malformed or its result is
/// gone
std::filesystem::path model_of(const std::filesystem::path& folder);

}  // namespace exactmamba::cli
