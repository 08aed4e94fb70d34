// The GPUs of this machine, asked without LibTorch.
#pragma once

#include <string>

namespace exactmamba::core {

struct Gpus {
  int count = 0;
  std::string reason;  // why there is none
};
Gpus find_gpus();

/// "13.0" of the CUDA that the kernels were built with; empty without kernels.
std::string cuda_version();

}  // namespace exactmamba::core
