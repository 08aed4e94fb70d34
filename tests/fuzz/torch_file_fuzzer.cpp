// Any bytes are a file of torch.save or an InputError; every element of an accepted state dict can be read.
#include "core/error.h"
#include "core/torch_file.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const exactmamba::fuzz::InputFile input(data, size);
  try {
    for (const auto& [name, tensor] : exactmamba::core::read_torch_state_dict(input.path())) tensor.clone();
  } catch (const exactmamba::core::Error&) {
  }
  return 0;
}
