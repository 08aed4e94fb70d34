// Which device computes. LibTorch's CUDA library is loaded when a GPU is first asked for, so the program
// starts on machines that have neither a GPU nor NVIDIA's libraries.
#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "core/names.h"

namespace exactmamba::core {

inline constexpr Names<3> kDeviceNames = {"auto", "cpu", "cuda"};

/// Where device_from_name() will be, with nothing loaded. @throws InputError when "cuda" cannot be had
at::Device planned_device(const std::string& name);

/// "cpu"; "cuda": the first GPU; "auto": the first GPU if this build has CUDA kernels and there is one, else
/// the CPU. In a job of several processes (distributed/job.h) the first is this process's own. @throws
/// InputError when "cuda" cannot be had, or "auto" finds a GPU but not LibTorch's CUDA library
at::Device device_from_name(const std::string& name);

/// `tensor` on `device`. The host does not wait for a copy to a GPU, nor need it keep `tensor`.
at::Tensor copy_to(const at::Device& device, const at::Tensor& tensor);

}  // namespace exactmamba::core
