#include "cli/tokens.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include <ATen/ops/tensor.h>

#include "cli/model_origin.h"
#include "cli/output.h"
#include "core/error.h"
#include "data/tokenizers/open_tokenizer.h"

namespace exactmamba::cli {
namespace {

int64_t read_integer(const std::string& word, size_t number, const std::string& where) {
  int64_t value = 0;
  const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  core::require<core::UsageError>(error == std::errc() && stop == word.data() + word.size() && value >= 0,
                                  "{}: '{}' (number {}) is not an integer from 0 up", where, word, number);
  return value;
}

/// "1, 2,3" or "1 2 3" → {1, 2, 3}
std::vector<int64_t> read_integers(const std::string& text, const std::string& where) {
  std::vector<int64_t> numbers;
  const bool has_commas = text.find(',') != std::string::npos;
  for (size_t begin = 0, end = 0; end < text.size(); begin = end + 1) {
    end = std::min(text.find(',', begin), text.size());
    const size_t before = numbers.size();
    std::istringstream words(text.substr(begin, end - begin));
    for (std::string word; words >> word;) numbers.push_back(read_integer(word, numbers.size() + 1, where));
    core::require<core::UsageError>(!has_commas || numbers.size() > before,
                                    "{}: number {} is missing: write it, or take a comma away", where,
                                    before + 1);
  }
  return numbers;
}

/// Rows of padding are no tokens.
void check_ids(const std::vector<int64_t>& ids, const models::ModelConfig& config, const std::string& what,
               const std::string& hint = "") {
  core::require(!ids.empty(), "there are no token ids; give at least one");
  for (size_t i = 0; i < ids.size(); ++i) {
    core::require(ids[i] < config.vocab_size,
                  "{} {} has id {}, but the model's vocabulary has {} entries (ids 0 to {}){}", what, i,
                  ids[i], config.vocab_size, config.vocab_size - 1, hint);
  }
}

std::vector<int64_t> read_boundaries(const std::string& text, int64_t length) {
  if (text.empty()) return {0, length};
  std::vector<int64_t> boundaries = read_integers(text, "--cu-seqlens");
  const bool rising =
      std::adjacent_find(boundaries.begin(), boundaries.end(), std::greater_equal<>()) == boundaries.end();
  core::require<core::UsageError>(
      boundaries.size() >= 2 && boundaries.front() == 0 && boundaries.back() == length && rising,
      "--cu-seqlens: '{}' must rise from 0 to the number of tokens, {}", text, length);
  return boundaries;
}

/// Of --ids.
std::vector<int64_t> given_ids(const std::string& text, const models::ModelConfig& config) {
  std::vector<int64_t> ids = read_integers(text == "-" ? read_input("-") : text, "--ids");
  check_ids(ids, config, "token");
  return ids;
}

}  // namespace

std::shared_ptr<const data::Tokenizer> tokenizer_of(const std::string& name,
                                                    const std::filesystem::path& model,
                                                    const models::ModelConfig& config) {
  if (!name.empty()) return data::open_tokenizer(name);
  if (auto carried = data::carried_tokenizer(model)) return carried;
  if (task_of(model) == "copy") return data::open_tokenizer("copy");
  auto bytes = data::open_tokenizer("byte");
  core::require(
      config.vocab_size <= bytes->vocab_size(),
      "{}: carries no tokenizer, and its vocabulary of {} tokens is not that of bytes, which has {}; "
      "give --tokenizer",
      model.string(), config.vocab_size, bytes->vocab_size());
  return bytes;
}

std::vector<int64_t> ids_of_text(const std::string& text, const data::Tokenizer& tokenizer,
                                 const models::ModelConfig& config) {
  std::vector<int64_t> ids = tokenizer.encode(text);
  const bool bytes_for_others = tokenizer.name() == "byte" && config.vocab_size < tokenizer.vocab_size();
  check_ids(ids, config, "token",
            bytes_for_others ? "; bytes are not its tokens: give --tokenizer copy for a model of the copy "
                               "task, its own tokenizer, or --ids"
                             : "");
  return ids;
}

Tokens read_tokens(const TokenArguments& arguments, const std::filesystem::path& model,
                   const models::ModelConfig& config) {
  core::require<core::UsageError>(!arguments.ids.empty() || !arguments.text.empty(),
                                  "give tokens with --ids or --text");
  Tokens tokens;
  if (arguments.ids.empty()) tokens.tokenizer = tokenizer_of(arguments.tokenizer, model, config);
  const std::vector<int64_t> ids = tokens.tokenizer ? ids_of_text(arguments.text, *tokens.tokenizer, config)
                                                    : given_ids(arguments.ids, config);
  const std::vector<int64_t> boundaries =
      read_boundaries(arguments.cu_seqlens, static_cast<int64_t>(ids.size()));
  tokens.input_ids = at::tensor(ids, at::kLong).unsqueeze(0);
  tokens.cu_seqlens = at::tensor(boundaries, at::kLong).to(at::kInt);
  return tokens;
}

at::Tensor read_targets(const std::string& text, int64_t length, const models::ModelConfig& config) {
  const std::vector<int64_t> ids = read_integers(text, "--targets");
  const auto count = static_cast<int64_t>(ids.size());
  core::require<core::UsageError>(
      count == length, "--targets has {} ids, but there are {} tokens; give one for each", count, length);
  check_ids(ids, config, "--targets: target");
  return at::tensor(ids, at::kLong);
}

void fit_vocabulary(models::MambaLM& model, const Tokens& tokens) {
  if (!tokens.tokenizer) return;
  model.set_vocab_size(std::min(tokens.tokenizer->vocab_size(), model.config().vocab_size));
}

}  // namespace exactmamba::cli
