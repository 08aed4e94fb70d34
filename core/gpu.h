// The GPUs of this machine, asked without LibTorch.
#pragma once

#include <string>

namespace exactmamba::core {

struct Gpus {
  int count = 0;
  std::string reason;  // why there is none
};
/// Those that this process may use: in a job of several processes (distributed/job.h) its own alone. To be
/// asked before CUDA is used. @throws InputError when there are fewer than processes
Gpus find_gpus();

/// "13.0" of the CUDA that the kernels were built with; empty without kernels.
std::string cuda_version();

}  // namespace exactmamba::core
