// Any text is a model configuration or an InputError.
#include "core/error.h"
#include "core/json.h"
#include "models/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    exactmamba::models::config_from_json(exactmamba::core::parse_json(text, "config.json"), "config.json");
  } catch (const exactmamba::core::Error&) {
  }
  return 0;
}
