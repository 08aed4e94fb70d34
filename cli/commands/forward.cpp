#include <filesystem>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/contents.h"
#include "cli/model_device.h"
#include "cli/model_origin.h"
#include "cli/output.h"
#include "cli/tokens.h"
#include "models/checkpoint.h"
#include "models/stored_weights.h"

namespace exactmamba::cli {
namespace {

/// The weights are finite, but what is computed from them may be too large for the dtype.
void refuse_overflow(const at::Tensor& values, const std::string& what, const std::string& folder,
                     const std::string& dtype) {
  models::require_finite(values, fmt::format("{}: {} overflows in {}: element ", folder, what, dtype));
}

std::string block_name(int64_t layer) {
  return layer < 0 ? "the embedding" : fmt::format("the residual stream after layer {}", layer);
}

}  // namespace

void forward(const ForwardArguments& arguments) {
  const ModelArguments& in = arguments.model;
  refuse_two_results(in.output, in.common.json);
  refuse_existing(in.output, in.overwrite);
  refuse_kept_place(in.output, in.model);
  const std::filesystem::path folder = model_of(in.model);
  const Tokens tokens = read_tokens(in.tokens, folder, models::load_config(folder));
  const models::MambaLM model = load_model_on_device(in, folder);
  const std::string dtype = models::compute_name(model.placement());

  core::NamedTensors blocks;
  const auto visit = [&](int64_t layer, const at::Tensor& r) {
    const at::Tensor block = r.to(at::kCPU, /*non_blocking=*/false, /*copy=*/arguments.blocks);
    refuse_overflow(block, block_name(layer), folder.string(), dtype);
    if (arguments.blocks)
      blocks.emplace_back(fmt::format("hidden.{}", layer + 1), block);  // hidden.0: the embedding
  };
  core::NamedTensors result = {{"input_ids", tokens.input_ids}, {"cu_seqlens", tokens.cu_seqlens}};
  result.emplace_back("logits", model.logits(tokens.input_ids, tokens.cu_seqlens, visit).cpu());
  refuse_overflow(result.back().second, "logits", folder.string(), dtype);
  result.insert(result.end(), blocks.begin(), blocks.end());
  const std::string checksum = model.parameters().checksum();
  save_tensors(in.output, in.overwrite, result, {{"model_checksum", checksum}, {"dtype", dtype}});
  if (in.common.json)
    write_json_result({{"output", in.output},
                       {"model_checksum", checksum},
                       {"dtype", dtype},
                       {"tensors", tensors_json(result)}});
}

}  // namespace exactmamba::cli
