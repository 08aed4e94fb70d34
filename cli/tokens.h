// Token ids from the command line.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "cli/commands.h"
#include "data/tokenizer.h"
#include "models/mamba_lm.h"

namespace exactmamba::cli {

struct Tokens {
  at::Tensor input_ids;                              // (1, L) int64
  at::Tensor cu_seqlens;                             // (S+1) int32
  std::shared_ptr<const data::Tokenizer> tokenizer;  // [nullable]: of text
};

/// What `name` names; "": the tokenizer that `model` carries, that of the copy task where it is trained on
/// it, or bytes where they can be its tokens. @throws InputError when they cannot; as data::open_tokenizer
std::shared_ptr<const data::Tokenizer> tokenizer_of(const std::string& name,
                                                    const std::filesystem::path& model,
                                                    const models::ModelConfig& config);

/// @throws InputError for ids that the model does not have, and when there are none; as Tokenizer::encode
std::vector<int64_t> ids_of_text(const std::string& text, const data::Tokenizer& tokenizer,
                                 const models::ModelConfig& config);

/// Of text by tokenizer_of(). @throws UsageError for malformed arguments, InputError for ids that the model
/// does not have; as tokenizer_of
Tokens read_tokens(const TokenArguments& arguments, const std::filesystem::path& model,
                   const models::ModelConfig& config);

/// Ids (length) for --targets. @throws UsageError, InputError
at::Tensor read_targets(const std::string& ids, int64_t length, const models::ModelConfig& config);

/// For text: only the tokenizer's tokens may be predicted, and not the rows of padding behind them.
void fit_vocabulary(models::MambaLM& model, const Tokens& tokens);

}  // namespace exactmamba::cli
