// Generation on the GPU: in float32 the CPU's tokens, in 16 bits tokens that are best up to rounding,
// whatever the batch, the sizes and the stops.
#include "models/generation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/max.h>
#include <fmt/format.h>

#include "core/dtype.h"
#include "core/error.h"
#include "models/beam_search.h"
#include "models/token_graph.h"
#include "tests/gpu/models.h"

namespace exactmamba::gpu_tests {
namespace {

using models::Architecture;
using models::GenerationOptions;
using models::MambaLM;
using Tokens = std::vector<int64_t>;

constexpr int64_t kNew = 37;  // more than two groups of steps

/// Parameters far from their initial values, so that the tokens vary.
MambaLM model_of(const models::ModelConfig& config, double deviation = 0.3) {
  return testing::random_model(config, at::kFloat, deviation, 3);
}

std::vector<Tokens> prompts_of(size_t count) {
  std::vector<Tokens> prompts;
  for (size_t i = 0; i < count; ++i) {
    Tokens prompt;
    for (size_t k = 0; k <= i % 7; ++k) prompt.push_back(static_cast<int64_t>((5 * i + 11 * k) % 61));
    prompts.push_back(prompt);
  }
  return prompts;
}

at::Tensor logits_of(const MambaLM& model, const Tokens& ids) {
  return model.logits(at::tensor(ids, at::kLong).unsqueeze(0), {})
      .squeeze(0)
      .narrow(1, 0, model.config().vocab_size)
      .to(at::kCPU, at::kDouble);
}

/// What the tokens `made` behind `prompt` were chosen by.
at::Tensor logits_behind(const MambaLM& model, const Tokens& prompt, const Tokens& made) {
  Tokens ids = prompt;
  ids.insert(ids.end(), made.begin(), made.end() - 1);
  return logits_of(model, ids);
}

/// What rounding does to one of them in the steps of a generation. It is taken from the forward pass over the
/// same tokens, which rounds to 16 bits more often than the steps do, and in float has sums as long as
/// theirs; twice, because it is a sample of as many roundings.
double rounding_of(const at::Tensor& exact, const MambaLM& there, const Tokens& prompt, const Tokens& made) {
  return 2 * (logits_behind(there, prompt, made) - exact).abs().max().item<double>();
}

/// Every token has the best logit in double on the CPU, up to what rounding does to two logits.
void expect_best_choices(const MambaLM& reference, const MambaLM& there, const Tokens& prompt,
                         const Tokens& made, const std::string& what) {
  const at::Tensor exact = logits_behind(reference, prompt, made);
  const double rounding = rounding_of(exact, there, prompt, made);
  for (size_t i = 0; i < made.size(); ++i) {
    const at::Tensor row = exact[static_cast<int64_t>(prompt.size() + i) - 1];
    EXPECT_LE((row.max() - row[made[i]]).item<double>(), 2 * rounding)
        << what << ", token " << i << " of a prompt of " << prompt.size();
  }
}

TEST(GpuGeneration, InFloatTokensAreThoseOfTheCpu) {
  for (const Case& c : kCases) {
    const MambaLM model = model_of(config_of(c.architecture, c.activation));
    const MambaLM there = model.to(on_gpu(at::kFloat));
    ASSERT_TRUE(models::TokenGraph::supports(there));
    const std::vector<Tokens> prompts = prompts_of(20), expected = generate(model, prompts, {kNew, -1});
    EXPECT_EQ(generate(there, prompts, {kNew, -1}), expected);
    for (size_t i = 0; i < 3; ++i)
      EXPECT_EQ(generate(there, {prompts[i]}, {kNew, -1}).at(0), expected[i]) << "alone " << i;
    std::vector<Tokens> equally_long = prompts;
    for (Tokens& prompt : equally_long) prompt.resize(5, 3);
    EXPECT_EQ(generate(there, equally_long, {kNew, -1}), generate(model, equally_long, {kNew, -1}));
  }
}

TEST(GpuGeneration, InSixteenBitsEveryTokenIsBestUpToRounding) {
  for (const Case& c : kCases) {
    const MambaLM model = model_of(config_of(c.architecture, c.activation), 0.1);
    const MambaLM reference = model.to(at::kDouble);
    for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
      const MambaLM there = model.to(on_gpu(dtype));
      for (const size_t count : {1, 3, 17, 33, 70}) {
        const std::string what = fmt::format("{}, batch {}", core::dtype_text(dtype), count);
        const std::vector<Tokens> prompts = prompts_of(count), made = generate(there, prompts, {kNew, -1});
        for (size_t i = 0; i < count; ++i) expect_best_choices(reference, there, prompts[i], made[i], what);
        EXPECT_EQ(generate(there, prompts, {kNew, -1}), made) << what << " again";
      }
    }
  }
}

TEST(GpuGeneration, StopsAndCallbacksAreThoseOfTheCpu) {
  for (const Case& c : kCases) {
    const MambaLM model = model_of(config_of(c.architecture, c.activation));
    const std::vector<Tokens> prompts = prompts_of(9);
    const std::vector<Tokens> free = generate(model, prompts, {kNew, -1});
    const GenerationOptions options{kNew, free[0][5]};  // ends the first one at the latest after six tokens
    const auto told = [&](const MambaLM& any) {
      std::vector<std::pair<size_t, int64_t>> calls;
      generate(any, prompts, options,
               [&](size_t prompt, int64_t token) { calls.emplace_back(prompt, token); });
      return calls;
    };
    const MambaLM there = model.to(on_gpu(at::kFloat));
    EXPECT_EQ(generate(there, prompts, options), generate(model, prompts, options));
    EXPECT_EQ(told(there), told(model));
  }
}

bool has(const Tokens& tokens, int64_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

/// Most of the sequences are the same and end within six tokens, the others go on: those that have ended are
/// left out, on the way from many sequences to few too.
TEST(GpuGeneration, GoesOnWithoutSequencesThatHaveEnded) {
  for (const Case& c : kCases) {
    const MambaLM model = model_of(config_of(c.architecture, c.activation)),
                  reference = model.to(at::kDouble);
    const std::vector<Tokens> candidates = prompts_of(40), free = generate(model, candidates, {kNew, -1});
    const GenerationOptions options{kNew, free[0][5]};
    std::vector<Tokens> prompts(12, candidates[0]);
    for (size_t i = 0; i < candidates.size() && prompts.size() < 15; ++i)
      if (!has(free[i], options.stop_token))
        prompts.insert(prompts.begin() + prompts.size() / 2, candidates[i]);
    ASSERT_EQ(prompts.size(), 15);
    EXPECT_EQ(generate(model.to(on_gpu(at::kFloat)), prompts, options), generate(model, prompts, options));
    const MambaLM half = model.to(on_gpu(at::kBFloat16));
    const std::vector<Tokens> made = generate(half, prompts, options);
    for (size_t i = 0; i < prompts.size(); ++i)
      expect_best_choices(reference, half, prompts[i], made[i], "bfloat16");
  }
}

Results by_layer(const std::vector<at::Tensor>& states) {
  Results results;
  for (size_t layer = 0; layer < states.size(); ++layer) results[std::to_string(layer)] = states[layer];
  return results;
}

/// States after some tokens, against those of steps in double on the CPU over the same tokens: as near as
/// those of steps operator by operator in the same dtype.
TEST(GpuGeneration, StatesAreThoseOfSteps) {
  constexpr int64_t kSteps = 9;
  for (const Case& c : kCases) {
    const MambaLM model = model_of(config_of(c.architecture, c.activation), 0.1),
                  reference = model.to(at::kDouble);
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const MambaLM there = model.to(on_gpu(dtype));
      if (!models::TokenGraph::supports(there)) continue;
      for (const int64_t batch : {1, 5, 19}) {
        const at::Tensor first = at::arange(batch, at::kLong).mul(7).remainder(61);
        models::TokenGraph graph(there, batch, at::kFloat);
        graph.begin(there.initial_state(batch), first);
        const at::Tensor made = graph.run(kSteps);
        models::State exact = reference.initial_state(batch), stepped = there.initial_state(batch);
        for (int64_t step = 0; step < kSteps; ++step) {
          const at::Tensor ids = step == 0 ? first : made[step - 1];
          reference.step(ids, exact);
          there.step(ids, stepped);
        }
        const auto expect_near = [&](const auto& of_exact, const auto& of_stepped, const auto& of_graph) {
          const Results expected = by_layer(of_exact);
          EXPECT_LE(relative_distance(expected, by_layer(of_graph)),
                    2 * relative_distance(expected, by_layer(of_stepped)))
              << core::dtype_text(dtype) << ", batch " << batch;
        };
        expect_near(exact.conv, stepped.conv, graph.state().conv);
        expect_near(exact.ssm, stepped.ssm, graph.state().ssm);
      }
    }
  }
}

/// y and z fit into float16, their product does not, unless it is normalised first.
TEST(GpuGeneration, InFloat16TheGateMayBeLarge) {
  models::ModelConfig config = config_of(Architecture::kMamba2, models::ActivationKind::kSilu);
  config.use_bias = true;
  MambaLM model = model_of(config, 0.1);
  for (int64_t layer = 0; layer < config.n_layer; ++layer) {
    const std::string mixer = fmt::format("backbone.layers.{}.mixer.", layer);
    model.parameters().parameter(mixer + "D").fill_(2000);
    model.parameters().parameter(mixer + "in_proj.bias").narrow(0, 0, config.d_inner()).fill_(1000);
  }
  const MambaLM reference = model.to(at::kDouble), there = model.to(on_gpu(at::kHalf));
  const std::vector<Tokens> prompts = prompts_of(3), made = generate(there, prompts, {kNew, -1});
  for (size_t i = 0; i < prompts.size(); ++i)
    expect_best_choices(reference, there, prompts[i], made[i], "float16");
  models::GenerationOptions options{kNew, -1};
  options.bfloat16_states = true;  // of the fused steps, which this dtype has not
  EXPECT_THROW(generate(there, prompts, options), core::InputError);
}

TEST(GpuGeneration, OtherSizesAreSteppedOneByOne) {
  models::ModelConfig narrow = config_of(Architecture::kMamba1, models::ActivationKind::kSilu);
  narrow.d_state = 5;
  models::ModelConfig grouped = config_of(Architecture::kMamba2, models::ActivationKind::kSilu);
  grouped.ngroups = 2;
  models::ModelConfig odd_rank = config_of(Architecture::kMamba1, models::ActivationKind::kRelu);
  odd_rank.dt_rank = 5;
  for (const models::ModelConfig& config : {narrow, grouped, odd_rank}) {
    const MambaLM model = model_of(config), there = model.to(on_gpu(at::kFloat));
    EXPECT_FALSE(models::TokenGraph::supports(there));
    const std::vector<Tokens> prompts = prompts_of(4);
    EXPECT_EQ(generate(there, prompts, {kNew, 7}), generate(model, prompts, {kNew, 7}));
  }
}

TEST(GpuGeneration, BeamsAndDrawnTokensAreThoseOfTheCpu) {
  for (const Case& c : kCases) {
    const MambaLM model = model_of(config_of(c.architecture, c.activation)),
                  there = model.to(on_gpu(at::kFloat)), reference = model.to(at::kDouble);
    const std::vector<Tokens> prompts = prompts_of(9);
    const std::vector<int64_t> most = {5, 17, 1, 20, 9, 12, 20, 3, 8};
    const models::BeamOptions beams{5, 3, 1.0, generate(model, prompts, {kNew, -1})[0][5]};
    const auto expected = beam_search(model, prompts, most, beams),
               found = beam_search(there, prompts, most, beams);
    for (size_t i = 0; i < prompts.size(); ++i) {
      ASSERT_EQ(found[i].size(), expected[i].size());
      for (size_t k = 0; k < found[i].size(); ++k) {
        EXPECT_EQ(found[i][k].tokens, expected[i][k].tokens) << i << ", hypothesis " << k;
        // A mean of log-probabilities, in both places off by two logits' roundings, and by those of a
        // logarithm and of a sum of as many.
        const Tokens& tokens = expected[i][k].tokens;
        const at::Tensor exact = logits_behind(reference, prompts[i], tokens);
        const double of_logits = rounding_of(exact, model, prompts[i], tokens) +
                                 rounding_of(exact, there, prompts[i], tokens),
                     of_sums = 2 * static_cast<double>(tokens.size() + 1) * rounding(at::kFloat) *
                               std::abs(expected[i][k].score);
        EXPECT_NEAR(found[i][k].score, expected[i][k].score, 2 * of_logits + of_sums);
        EXPECT_LT(2 * of_logits + of_sums, 1e-3);  // or the line above says nothing
      }
    }
    const GenerationOptions drawing{.max_new_tokens = kNew,
                                    .sampling = models::Sampling{.top_p = 0.9, .seed = 5}};
    EXPECT_EQ(generate(there, prompts, drawing), generate(model, prompts, drawing));
  }
}

/// Sizes that fill no tile, biases, an untied head, a convolution of three taps, limits of the step size.
TEST(GpuGeneration, OddSizes) {
  for (const Architecture architecture : {Architecture::kMamba1, Architecture::kMamba2}) {
    models::ModelConfig config = config_of(architecture, models::ActivationKind::kSilu);
    config.d_model = 72;
    config.headdim = 48;
    config.dt_rank = 12;
    config.d_conv = 3;
    config.use_bias = true;
    config.use_conv_bias = false;
    config.tie_embeddings = false;
    config.vocab_size = config.vocab_rows = 151;
    config.dt_limit = {0.01, 0.5};
    if (architecture == Architecture::kMamba2) config.d_state = 24;
    const MambaLM model = model_of(config, 0.1), reference = model.to(at::kDouble);
    const MambaLM single = model.to(on_gpu(at::kFloat)), half = model.to(on_gpu(at::kBFloat16));
    ASSERT_TRUE(models::TokenGraph::supports(single));
    const std::vector<Tokens> prompts = prompts_of(5);
    EXPECT_EQ(generate(single, prompts, {kNew, -1}), generate(model, prompts, {kNew, -1}));
    const std::vector<Tokens> made = generate(half, prompts, {kNew, -1});
    for (size_t i = 0; i < prompts.size(); ++i)
      expect_best_choices(reference, half, prompts[i], made[i], "bfloat16");
  }
}

TEST(GpuGeneration, StatesInBfloat16) {
  for (const Case& c : kCases) {
    const MambaLM model = model_of(config_of(c.architecture, c.activation), 0.1),
                  reference = model.to(at::kDouble), there = model.to(on_gpu(at::kBFloat16));
    GenerationOptions options{kNew, -1};
    options.bfloat16_states = true;
    const std::vector<Tokens> prompts = prompts_of(10), made = generate(there, prompts, options);
    for (size_t i = 0; i < prompts.size(); ++i)
      expect_best_choices(reference, there, prompts[i], made[i], "states");
  }
}

/// Sizes of one turn and of several, that fill blocks and that do not; of a single sequence, whose layer is
/// two kernels, and of many, whose products clusters of blocks split and whose heads have a warp each.
TEST(GpuGeneration, OneAndManySequences) {
  struct Sizes {
    Architecture architecture;
    int64_t d_model, headdim, d_state, dt_rank;
  };
  for (const Sizes& sizes :
       {Sizes{Architecture::kMamba1, 72, 64, 16, 20}, Sizes{Architecture::kMamba1, 1048, 64, 16, 72},
        Sizes{Architecture::kMamba2, 256, 32, 24, 20}, Sizes{Architecture::kMamba2, 1056, 64, 128, 20},
        Sizes{Architecture::kMamba2, 1048, 16, 128, 20}}) {
    models::ModelConfig config = config_of(sizes.architecture, models::ActivationKind::kSilu);
    config.d_model = sizes.d_model;
    config.headdim = sizes.headdim;
    config.d_state = sizes.d_state;
    config.dt_rank = sizes.dt_rank;
    config.use_bias = true;
    config.vocab_size = config.vocab_rows = 151;
    const MambaLM model = model_of(config, 0.1), reference = model.to(at::kDouble),
                  half = model.to(on_gpu(at::kBFloat16));
    for (const size_t count : {1, 70}) {
      const std::vector<Tokens> prompts = prompts_of(count);
      for (const bool bfloat16_states : {false, true}) {
        GenerationOptions options{5, -1};
        options.bfloat16_states = bfloat16_states;
        const std::vector<Tokens> made = generate(half, prompts, options);
        const std::string what = fmt::format("d_model {}, {} sequences", sizes.d_model, count);
        for (const size_t i : {0, 1, 31, 32, 63, 64, 69})
          if (i < count) expect_best_choices(reference, half, prompts[i], made[i], what);
        EXPECT_EQ(generate(half, prompts, options), made) << what << " again";
      }
    }
  }
}

/// A token whose embedding is broken is chosen, here by the prompt's last position; then nothing is finite.
TEST(GpuGeneration, LogitsThatAreNotFiniteAreRefused) {
  models::ModelConfig config = config_of(Architecture::kMamba2, models::ActivationKind::kSilu);
  config.tie_embeddings = false;
  MambaLM model = model_of(config);
  int64_t prompt = 0, next = 0;
  while ((next = generate(model, {{prompt}}, {1, -1})[0][0]) == prompt) ++prompt;
  model.parameters().parameter("backbone.embeddings.weight")[next].fill_(
      std::numeric_limits<float>::quiet_NaN());
  const MambaLM there = model.to(on_gpu(at::kFloat));
  Tokens told;
  const auto generate_some = [&] {
    generate(there, {{prompt}}, {kNew, -1}, [&](size_t, int64_t token) { told.push_back(token); });
  };
  EXPECT_THROW(generate_some(), core::NumericalError);
  EXPECT_EQ(told, Tokens{next});
}

}  // namespace
}  // namespace exactmamba::gpu_tests
