// Any bytes are a safetensors file or an InputError; every tensor of an accepted file can be read to its last
// byte.
#include "core/error.h"
#include "core/safetensors.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const exactmamba::fuzz::InputFile input(data, size);
  try {
    const exactmamba::core::SafetensorsFile file(input.path());
    volatile char sink = 0;
    for (const std::string& name : file.names()) {
      const at::Tensor tensor = file.tensor(name);
      const char* bytes = static_cast<const char*>(tensor.const_data_ptr());
      for (size_t i = 0; i < tensor.nbytes(); ++i) sink = bytes[i];
    }
    static_cast<void>(sink);
  } catch (const exactmamba::core::Error&) {
  }
  return 0;
}
