// Where a model folder comes from, for its model card.
#pragma once

#include <filesystem>

#include "models/publish.h"

namespace exactmamba::cli {

/// Fills recipe, progress, data and, for the weights that training ended with, error table of `card` when
/// `folder` is a checkpoint of a run of ours (STAGE/checkpoints/step-N), from the records of its stages.
/// @throws InputError when a record is malformed
void describe_origin(const std::filesystem::path& folder, models::ModelCard& card);

}  // namespace exactmamba::cli
