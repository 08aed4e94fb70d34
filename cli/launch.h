// --processes and --gpus: a command run by several processes of this machine.
#pragma once

#include <memory>

#include "cli/commands.h"
#include "cli/recipe.h"
#include "core/distributed/communicator.h"

namespace exactmamba::cli {

/// Runs the command in as many processes as it asks for; false when it asks for none, and this process is to
/// do the work. @throws UsageError, InputError before anything is started; else as core::launch()
bool launched(const TrainingArguments& arguments);

/// Meets the other processes of the job, if there are any; all but the first are quiet from now on. To be
/// called before anything else touches the GPU. @throws InputError, PeerError
std::unique_ptr<core::Communicator> join_job(const Recipe& recipe);

}  // namespace exactmamba::cli
