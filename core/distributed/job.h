// Which process of how many this one is, and how they meet.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <c10/core/Device.h>

#include "core/distributed/communicator.h"

namespace exactmamba::core {

struct Job {
  int rank = 0, size = 1;
  int local_rank = 0;  // among the processes of this machine: whose GPU is whose
  std::string host;    // where rank 0 listens
  int port = 0;
  bool torchrun_listens = false;  // in place of rank 0
  std::string attempt;            // of torchrun, which starts a failed job again
};

/// Looks up an environment variable; null when it is not set.
using Environment = std::function<const char*(const char* name)>;

/// As torchrun says it (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), which our own launcher does,
/// too, or else Slurm's srun (SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID; MASTER_ADDR or the first host of the
/// step, MASTER_PORT or a port that follows from SLURM_JOB_ID); a single process where there is neither.
/// @throws InputError for a variable that is missing or makes no sense
Job job_from(const Environment& environment);
Job job_of_this_process();

inline constexpr std::chrono::seconds kPeerTimeout{600};

/// Meets the other processes of the job, for tensors on the CPU (Gloo) and, when `device` is a GPU, on this
/// process's GPU (NCCL). No process waits for another for longer than `timeout`. A process of
/// a job ignores SIGPIPE from then on.
/// @throws PeerError when they do not come; InputError when some compute on a GPU and some do not
std::unique_ptr<Communicator> join(const Job& job, at::Device device,
                                   std::chrono::seconds timeout = kPeerTimeout);

}  // namespace exactmamba::core
