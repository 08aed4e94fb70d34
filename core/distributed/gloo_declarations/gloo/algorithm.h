// The wheel of LibTorch has Gloo in libtorch_cpu but not Gloo's headers, which ProcessGroupGloo.hpp includes.
// These files declare what that header names of Gloo, and nothing that our code calls or whose size matters
// to it. The version of LibTorch is pinned (cmake/LibTorch.cmake).
#pragma once
