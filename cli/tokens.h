// Token ids from the command line.
#pragma once

#include <filesystem>
#include <memory>

#include <ATen/core/Tensor.h>

#include "cli/commands.h"
#include "data/tokenizer.h"
#include "models/mamba_lm.h"

namespace exactmamba::cli {

struct Tokens {
  at::Tensor input_ids;                              // (1, L) int64
  at::Tensor cu_seqlens;                             // (S+1) int32
  std::shared_ptr<const data::Tokenizer> tokenizer;  // [nullable]: of --text
};

/// Of text without --tokenizer by the tokenizer that `model` carries, or bytes where they can be its tokens.
/// @throws UsageError for malformed arguments, InputError for ids that the model does not have; as
/// data::open_tokenizer
Tokens read_tokens(const TokenArguments& arguments, const std::filesystem::path& model,
                   const models::ModelConfig& config);

/// Ids (length) for --targets. @throws UsageError, InputError
at::Tensor read_targets(const std::string& ids, int64_t length, const models::ModelConfig& config);

/// For --text: only the tokenizer's tokens may be predicted, and not the rows of padding behind them.
void fit_vocabulary(models::MambaLM& model, const Tokens& tokens);

}  // namespace exactmamba::cli
