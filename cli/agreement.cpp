#include "cli/agreement.h"

#include <array>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "core/error.h"
#include "core/json.h"

namespace exactmamba::cli {
namespace {

using core::Json;
using Stages = std::vector<std::shared_ptr<RunStages>>;

/// Each process may have its own of these; files count by their content, in the stage's name.
constexpr std::array<std::string_view, 7> kOwn = {"run.",       "report.",    "decompose.", "evaluate.",
                                                  "data.train", "data.valid", "model.from"};

bool is_own(std::string_view key) {
  for (const std::string_view own : kOwn)
    if (key.starts_with(own)) return true;
  return false;
}

/// A run as key → value; "stage" stands for all that is no option.
Json description_of(const RunStages& run) {
  Json description = Json::object();
  for (const core::Option& option : run.run().schema.options())
    if (!is_own(option.key())) description[option.key()] = option.text();
  description["stage"] = run.train_stage().name();
  return description;
}

/// What rank `root` passes, on every rank.
std::string broadcast(const std::string& text, core::Communicator& communicator, int root) {
  const at::Tensor size = at::tensor({static_cast<int64_t>(text.size())}, at::kLong);
  communicator.broadcast(size, root);
  const int64_t count = size.item<int64_t>();
  std::vector<int64_t> bytes(text.begin(), text.end());
  bytes.resize(static_cast<size_t>(count));
  const at::Tensor shared = at::tensor(bytes, at::kLong);
  communicator.broadcast(shared, root);
  const int64_t* first = shared.const_data_ptr<int64_t>();
  return {first, first + count};
}

/// Of two runs, rank 0's first; "" when they are the same.
std::string difference(const Json& expected, const Json& found) {
  for (const auto& [key, value] : expected.items()) {
    if (key != "stage" && found.value(key, Json()) != value)
      return fmt::format("{} is {}, on rank 0 {}", key, found.value(key, ""), value.get<std::string>());
  }
  if (found.at("stage") == expected.at("stage")) return "";
  return fmt::format("data, seed or starting model differ: {}, on rank 0 {}",
                     found.at("stage").get<std::string>(), expected.at("stage").get<std::string>());
}

std::string difference_from_first_rank(const Stages& stages, core::Communicator& communicator) {
  Json own = Json::array();
  for (const auto& run : stages) own.push_back(description_of(*run));
  const Json first = Json::parse(broadcast(own.dump(), communicator, 0));
  std::string text;
  if (own.size() != first.size()) text = fmt::format("{} runs, on rank 0 {}", own.size(), first.size());
  for (size_t i = 0; text.empty() && i < own.size(); ++i) text = difference(first[i], own[i]);
  if (text.empty()) return "";
  return fmt::format(
      "rank {} of {} does not train what rank 0 trains: {}; start all processes with the same "
      "recipe, --set and files",
      communicator.rank(), communicator.size(), text);
}

/// A table of models whose updates had unequal numbers of rows would compare nothing.
std::string unlike_trained_ones(const Stages& stages, int processes) {
  const RunStages *trained = nullptr, *open = nullptr;
  int64_t ranks = 0;
  for (const auto& run : stages) {
    if (!run->train_stage().done()) {
      open = run.get();
      continue;
    }
    const auto made_by = run->train_stage().result().at("training").at("ranks").get<int64_t>();
    if (made_by == processes) continue;
    trained = run.get();
    ranks = made_by;
  }
  if (trained == nullptr || open == nullptr) return "";
  return fmt::format(
      "'{}' was trained by {} process(es) and '{}' would be by {}, with another number of rows in an update; "
      "use as many as before, or another run.output",
      trained->label(), ranks, open->label(), processes);
}

}  // namespace

void require_agreement(const Stages& stages, core::Communicator& communicator) {
  std::string problem = difference_from_first_rank(stages, communicator);
  if (communicator.rank() == 0) problem = unlike_trained_ones(stages, communicator.size());
  const at::Tensor with_problem = at::zeros({communicator.size()}, at::kLong);
  with_problem[communicator.rank()] = problem.empty() ? 0 : 1;
  communicator.all_reduce_sum(with_problem);
  for (int rank = 0; rank < communicator.size(); ++rank) {
    if (with_problem[rank].item<int64_t>() != 0)
      throw core::InputError(broadcast(problem, communicator, rank));
  }
}

}  // namespace exactmamba::cli
