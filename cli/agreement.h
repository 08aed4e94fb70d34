// What the processes of a job must have alike before they train together.
#pragma once

#include <memory>
#include <vector>

#include "cli/stages.h"
#include "core/distributed/communicator.h"

namespace exactmamba::cli {

/// Compares the runs of this process with rank 0's: their number, the options that training reads, data and
/// starting models by their fingerprints. Then the sweep with itself: models that are trained already must
/// have been made by as many processes, since those decide how many rows an update has. Every process of the
/// job calls it. @throws InputError on all of them, with the first rank that differs and both values
void require_agreement(const std::vector<std::shared_ptr<RunStages>>& stages,
                       core::Communicator& communicator);

}  // namespace exactmamba::cli
