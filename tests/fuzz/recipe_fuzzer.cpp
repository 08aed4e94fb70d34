// Any text is a recipe with options of every type, with its sweep, or an InputError.
#include "core/error.h"
#include "core/schema.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace exactmamba::core;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  bool flag = false;
  int64_t steps = 1000;
  double lr = 1e-3;
  std::string architecture = "mamba1";
  std::vector<int64_t> lengths = {5, 12};
  std::vector<double> betas = {0.9, 0.95};
  std::vector<std::string> names;
  Schema schema;
  schema.option("train.flag", &flag);
  schema.option("train.steps", &steps).range(0, 1e9);
  schema.option("train.lr", &lr).range(0, 10).only_with("model.architecture", {"mamba2"});
  schema.option("model.architecture", &architecture).choices({"mamba1", "mamba2"});
  schema.option("data.lengths", &lengths).range(1, 100);
  schema.option("train.betas", &betas).range(0, 1);
  schema.option("eval.names", &names);
  try {
    const Sweep sweep = expand_sweep(text, "recipe.toml");
    schema.load(text, "recipe.toml", sweep.runs.front().assignments, {"sweep", "extra"});
    schema.unused();
    schema.listing();
    schema.canonical({"train", "model", "data"});
  } catch (const Error&) {
  }
  return 0;
}
