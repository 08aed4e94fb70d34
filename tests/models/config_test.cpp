#include "models/config.h"

#include <cctype>
#include <limits>
#include <map>
#include <tuple>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::models {
namespace {

using core::InputError;
using core::Json;
using testing::golden;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

ModelConfig read(const std::filesystem::path& file) {
  return config_from_json(core::read_json(file), file.string());
}
ModelConfig parse(const std::string& text) {
  return config_from_json(core::parse_json(text, "c.json"), "c.json");
}

// ---- public and golden files ----

TEST(Config, SpellingsMeanWhatExpectedJsonSays) {
  const std::filesystem::path folder = golden("models/config-spellings");
  const Json expected = core::read_json(folder / "expected.json");
  ASSERT_EQ(expected.size(), 3u);
  for (const auto& [file, want] : expected.items()) {
    SCOPED_TRACE(file);
    const ModelConfig config = read(folder / file);
    EXPECT_EQ(architecture_name(config.architecture), want["arch"].get<std::string>());
    const std::map<std::string, int64_t> sizes = {
        {"d_model", config.d_model}, {"n_layer", config.n_layer},   {"d_state", config.d_state},
        {"d_conv", config.d_conv},   {"d_inner", config.d_inner()}, {"dt_rank", config.dt_rank},
        {"headdim", config.headdim}, {"ngroups", config.ngroups},   {"vocab_rows", config.vocab_rows}};
    for (const auto& [key, value] : sizes) {
      EXPECT_EQ(value, want.value(key, value)) << key;
    }
    EXPECT_EQ(config.tie_embeddings, want["tied"].get<bool>());
    EXPECT_EQ(config.norm_eps, want["norm_eps"].get<double>());
    EXPECT_EQ(config.activation.kind, ActivationKind::kSilu);
    EXPECT_EQ(config.dt_limit[1], kInfinity);
  }
}

struct PublicConfig {
  const char* file;
  int64_t true_vocabulary, rows, parameters;  // parameters: counted by transformers 5.23 on the same sizes
};

class PublicConfigs : public ::testing::TestWithParam<PublicConfig> {};

TEST_P(PublicConfigs, HaveThePublishedSizes) {
  const ModelConfig config = read(golden("mamba-configs") / GetParam().file);
  EXPECT_EQ(config.vocab_size, GetParam().true_vocabulary);
  EXPECT_EQ(config.vocab_rows, GetParam().rows);
  EXPECT_EQ(config.parameter_count(), GetParam().parameters);
  EXPECT_TRUE(config.tie_embeddings);
  EXPECT_EQ(config.norm_eps, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(
    , PublicConfigs,
    ::testing::Values(PublicConfig{"state-spaces_mamba-130m.config.json", 50277, 50280, 129135360},
                      PublicConfig{"mlx-community_mamba-130m-hf-f16.config.json", 50280, 50280, 129135360},
                      PublicConfig{"ArthurZ_mamba-370m.config.json", 50280, 50280, 371516416},
                      PublicConfig{"Q-bert_Mamba-370M.config.json", 50280, 50280, 371516416},
                      PublicConfig{"state-spaces_mamba2-130m.config.json", 50277, 50288, 128989632},
                      PublicConfig{"brunopio_mamba2-370m.config.json", 50277, 50288, 368346624},
                      PublicConfig{"state-spaces_mamba2-2.7b.config.json", 50277, 50288, 2702599680}),
    [](const auto& test) {
      std::string name = test.param.file;
      for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      return name;
    });

TEST(Config, GoldenModelsHaveTheirParameterCounts) {  // counted by transformers
  EXPECT_EQ(read(golden("models/mamba1-hf/config.json")).parameter_count(), 28608);
  EXPECT_EQ(read(golden("models/mamba2-hf/config.json")).parameter_count(), 27268);
  EXPECT_EQ(read(golden("models/mamba2-g2-hf/config.json")).parameter_count(), 34120);
  EXPECT_EQ(read(golden("models/mamba1-ss/config.json")).parameter_count(), 28608);
  EXPECT_EQ(read(golden("models/mamba2-ss/config.json")).parameter_count(), 27268);
}

// ---- single keys ----

/// A small valid config with `members` on top.
std::string mamba1(const std::string& members = "") {
  return R"({"model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 3, "vocab_size": 104)" +
         (members.empty() ? "" : ", " + members) + "}";
}
std::string mamba2(const std::string& members = R"("num_heads": 4, "head_dim": 16, "n_groups": 1)") {
  return R"({"model_type": "mamba2", "hidden_size": 32, "num_hidden_layers": 3, "vocab_size": 104, )" +
         members + "}";
}
std::string state_spaces(const std::string& ssm, const std::string& members = "") {
  return R"({"d_model": 32, "n_layer": 3, "vocab_size": 101, "ssm_cfg": {)" + ssm + "}" +
         (members.empty() ? "" : ", " + members) + "}";
}

TEST(Config, TransformersDefaults) {
  const ModelConfig one = parse(mamba1());
  EXPECT_EQ(one.d_state, 16);
  EXPECT_EQ(one.dt_rank, 2);  // ⌈32/16⌉
  EXPECT_TRUE(one.tie_embeddings);
  EXPECT_EQ(one.eos_token_id, -1);
  const ModelConfig two =
      parse(R"({"model_type": "mamba2", "hidden_size": 256, "num_hidden_layers": 3, "vocab_size": 104})");
  EXPECT_EQ(two.d_state, 128);
  EXPECT_EQ(two.ngroups, 8);
  EXPECT_EQ(two.headdim, 64);
  EXPECT_FALSE(two.tie_embeddings);
}

TEST(Config, KeysThatChangeTheFunctionAreRead) {
  EXPECT_EQ(parse(mamba1(R"("time_step_rank": 5, "dt_rank": "auto")")).dt_rank, 5);
  EXPECT_EQ(parse(mamba1(R"("intermediate_size": 160)")).d_inner(), 64);  // transformers recomputes it
  EXPECT_EQ(parse(mamba1(R"("layer_norm_epsilon": 1e-6)")).norm_eps, 1e-6);
  EXPECT_TRUE(parse(mamba1(R"("use_bias": true)")).use_bias);
  EXPECT_FALSE(parse(mamba1(R"("use_conv_bias": false)")).use_conv_bias);
  EXPECT_FALSE(parse(mamba1(R"("tie_word_embeddings": false)")).tie_embeddings);
  EXPECT_EQ(parse(mamba1(R"("eos_token_id": [7, 8], "pad_token_id": null)")).eos_token_id, 7);
  EXPECT_EQ(parse(mamba1(R"("unpadded_vocab_size": 101)")).vocab_size, 101);
  EXPECT_EQ(parse(mamba1(R"("hidden_act": "swish")")).activation.kind, ActivationKind::kSilu);
  const ModelConfig limited =
      parse(mamba2(R"("head_dim": 16, "n_groups": 1, "time_step_limit": [0.02, 0.5])"));
  EXPECT_EQ(limited.dt_limit, (std::array<double, 2>{0.02, 0.5}));
}

TEST(Config, InfinityInBothSpellings) {
  for (const char* infinity : {"Infinity", R"({"__float__": "Infinity"})"}) {
    const std::string limit =
        std::string(R"("head_dim": 16, "n_groups": 1, "time_step_limit": [0.1, )") + infinity + "]";
    EXPECT_EQ(parse(mamba2(limit)).dt_limit, (std::array<double, 2>{0.1, kInfinity}));
  }
}

TEST(Config, ConvActivationStandsBesideAnyModelType) {
  const ModelConfig relu = parse(mamba1(R"("conv_activation": "relu", "conv_activation_alpha": 0.25)"));
  EXPECT_EQ(relu.activation.kind, ActivationKind::kRelu);
  EXPECT_EQ(relu.activation.alpha, 0.25);
  EXPECT_EQ(parse(state_spaces("", R"("conv_activation": "identity")")).activation.kind,
            ActivationKind::kIdentity);
}

TEST(Config, StateSpacesPadsTheVocabulary) {
  EXPECT_EQ(parse(state_spaces("")).vocab_rows, 104);  // to 8, the loader's default
  const ModelConfig padded =
      parse(state_spaces(R"("layer": "Mamba2", "headdim": 16)", R"("pad_vocab_size_multiple": 16)"));
  EXPECT_EQ(padded.vocab_rows, 112);
  EXPECT_EQ(padded.vocab_size, 101);
  EXPECT_EQ(padded.d_state, 128);
  EXPECT_TRUE(padded.tie_embeddings);
  EXPECT_FALSE(parse(state_spaces("", R"("tie_embeddings": false)")).tie_embeddings);
}

TEST(Config, PlainConfigsHaveTheMixersKeysAtTheTop) {
  const ModelConfig config =
      parse(R"({"d_model": 16, "n_layer": 4, "vocab_size": 5000, "d_state": 8, "d_conv": 3, "expand": 3,
      "dt_rank": 1, "rms_norm_eps": 1e-06, "bias": false, "conv_bias": false})");
  EXPECT_EQ(config.d_state, 8);
  EXPECT_EQ(config.d_conv, 3);
  EXPECT_EQ(config.d_inner(), 48);
  EXPECT_EQ(config.dt_rank, 1);
  EXPECT_EQ(config.norm_eps, 1e-6);
  EXPECT_FALSE(config.use_conv_bias);
}

// ---- refusals ----

struct BadConfig {
  const char* name;
  std::string text, message;  // the message contains "c.json: " and this
};
void PrintTo(const BadConfig& bad, std::ostream* out) { *out << bad.name; }

class BadConfigs : public ::testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigs, AreRefusedInOneLine) {
  const std::string message = testing::error_of<InputError>([] { parse(GetParam().text); });
  EXPECT_TRUE(message.starts_with("c.json")) << message;
  EXPECT_CONTAINS(message, GetParam().message);
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

std::vector<BadConfig> bad_configs() {
  const std::string heads = R"("head_dim": 16, "n_groups": 1, )";
  return {
      {"NoObject", "[1]", "JSON object"},
      {"NothingKnown", R"({"vocab_size": 3})", "neither 'model_type'"},
      {"Truncated", R"({"model_type": "mamba", "hidden_si)", "1:"},
      {"OtherModel", R"({"model_type": "llama"})", "model_type \"llama\""},
      {"FalconMamba", R"({"model_type": "falcon_mamba"})", "model_type \"falcon_mamba\""},
      {"NoWidth", R"({"model_type": "mamba", "num_hidden_layers": 3, "vocab_size": 104})",
       "no 'hidden_size'"},
      {"NoLayers", R"({"model_type": "mamba", "hidden_size": 3, "vocab_size": 104})",
       "no 'num_hidden_layers'"},
      {"NoVocabulary", R"({"model_type": "mamba", "hidden_size": 3, "num_hidden_layers": 3})",
       "no 'vocab_size'"},
      {"TextForNumber", mamba1(R"("state_size": "16")"), "'state_size' is \"16\""},
      {"NumberForFlag", mamba1(R"("use_bias": 1)"), "'use_bias' is 1"},
      {"NumberForText", mamba1(R"("hidden_act": 1)"), "'hidden_act' is 1"},
      {"Fraction", mamba1(R"("conv_kernel": 4.5)"), "'conv_kernel' is 4.5"},
      {"TextForEpsilon", mamba1(R"("layer_norm_epsilon": "small")"), "'layer_norm_epsilon'"},
      {"Rank", mamba1(R"("time_step_rank": "automatic")"), "'time_step_rank' is \"automatic\""},
      {"Gelu", mamba1(R"("hidden_act": "gelu")"), "hidden_act \"gelu\" is not supported"},
      {"AmbiguousRelu", mamba1(R"("hidden_act": "relu")"), "\"conv_activation\": \"relu\""},
      {"Tanh", mamba1(R"("conv_activation": "tanh")"), "'conv_activation'"},
      {"AlphaAboveOne", mamba1(R"("conv_activation": "relu", "conv_activation_alpha": 1.5)"), "alpha is 1.5"},
      {"NewerFormat", mamba1(R"("exactmamba_format_version": 99)"), "exactmamba_format_version is 99"},
      {"NoArchitecture", R"({"model_type": "exactmamba"})", "'architecture' is \"\""},
      {"Quantised", mamba1(R"("quantization_config": {"bits": 4})"), "'quantization_config'"},
      {"ZeroWidth", R"({"model_type": "mamba", "hidden_size": 0, "num_hidden_layers": 3, "vocab_size": 104})",
       "hidden_size is 0"},
      {"NegativeLayers",
       R"({"model_type": "mamba", "hidden_size": 8, "num_hidden_layers": -3, "vocab_size": 104})",
       "num_hidden_layers is -3"},
      {"NegativeVocabulary", R"({"d_model": 8, "n_layer": 3, "vocab_size": -104})", "vocab_size is -104"},
      {"HugeWidth",
       R"({"model_type": "mamba", "hidden_size": 1000000000000000000, "num_hidden_layers": 3, "vocab_size": 104})",
       "'hidden_size' is 1000000000000000000"},
      {"UnsignedOverflow", mamba1(R"("state_size": 18446744073709551615)"),
       "'state_size' is 18446744073709551615"},
      {"HugeProduct",
       R"({"model_type": "mamba", "hidden_size": 262144, "num_hidden_layers": 65536, "vocab_size": 268435456})",
       "more than"},
      {"ExpandOverflow", mamba1(R"("expand": 2147483647)"), "expand is 2147483647"},
      {"KernelZero", mamba1(R"("conv_kernel": 0)"), "conv_kernel is 0"},
      {"TrueVocabularyTooLarge", mamba1(R"("unpadded_vocab_size": 105)"), "true vocabulary size is 105"},
      {"EpsilonZero", mamba1(R"("layer_norm_epsilon": 0)"), "layer_norm_epsilon is 0"},
      {"HeadsDoNotFit", mamba2(R"("num_heads": 5, "head_dim": 16, "n_groups": 1)"),
       "num_heads 5 x head_dim 16"},
      {"HeadDimDoesNotDivide", mamba2(R"("head_dim": 24, "n_groups": 1)"), "not a multiple of head_dim 24"},
      {"HeadDimZero", mamba2(R"("head_dim": 0, "n_groups": 1)"), "head_dim is 0"},
      {"GroupsDoNotDivide", mamba2(R"("head_dim": 16, "n_groups": 3)"),
       "4 heads cannot be shared by 3 groups"},
      {"LimitOfOne", mamba2(heads + R"("time_step_limit": [0.1])"), "list of two numbers"},
      {"LimitOfText", mamba2(heads + R"("time_step_limit": [0.1, "much"])"), "'time_step_limit'"},
      {"LimitReversed", mamba2(heads + R"("time_step_limit": [0.5, 0.1])"), "time_step_limit is [0.5, 0.1]"},
      {"Mamba3", state_spaces(R"("layer": "Mamba3")"), "ssm_cfg.layer \"Mamba3\""},
      {"UnknownMixerKey", state_spaces(R"("bimamba": true)"), "ssm_cfg.bimamba"},
      {"Attention", state_spaces("", R"("attn_layer_idx": [2])"), "'attn_layer_idx' is [2]"},
      {"Mlp", state_spaces("", R"("d_intermediate": 64)"), "'d_intermediate' is 64"},
      {"LayerNorm", state_spaces("", R"("rms_norm": false)"), "'rms_norm' is false"},
      {"NormFirst", state_spaces(R"("layer": "Mamba2", "headdim": 16, "norm_before_gate": true)"),
       "'norm_before_gate' is true"},
      {"PartialSsm", state_spaces(R"("layer": "Mamba2", "headdim": 16, "d_ssm": 32)"), "d_ssm is 32"},
      {"PaddingZero", state_spaces("", R"("pad_vocab_size_multiple": 0)"), "pad_vocab_size_multiple is 0"},
      {"MixerIsNoObject", R"({"d_model": 32, "n_layer": 3, "vocab_size": 101, "ssm_cfg": 7})",
       "'ssm_cfg' is 7"},
  };
}

INSTANTIATE_TEST_SUITE_P(, BadConfigs, ::testing::ValuesIn(bad_configs()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Config, Mamba3ModelsAreRefusedByName) {
  const std::string message =
      testing::error_of<InputError>([] { read(golden("models/mamba3-ss/config.json")); });
  EXPECT_CONTAINS(message, "\"Mamba3\" is not supported");
}

// ---- writing ----

ModelConfig unusual_config(Architecture architecture) {
  ModelConfig c;
  c.architecture = architecture;
  c.vocab_size = 97;
  c.vocab_rows = 104;
  c.d_model = 24;
  c.n_layer = 5;
  c.d_state = 6;
  c.d_conv = 3;
  c.expand = 4;
  if (architecture == Architecture::kMamba1) {
    c.dt_rank = 3;
  } else {
    c.headdim = 12;
    c.ngroups = 2;
    c.chunk_size = 32;
    c.dt_limit = {0.01, 0.5};
  }
  c.use_bias = true;
  c.use_conv_bias = false;
  c.tie_embeddings = false;
  return c;
}

void expect_equal(const ModelConfig& a, const ModelConfig& b) {
  EXPECT_EQ(a.architecture, b.architecture);
  EXPECT_EQ(
      std::tie(a.vocab_size, a.vocab_rows, a.d_model, a.n_layer, a.d_state, a.d_conv, a.expand, a.dt_rank),
      std::tie(b.vocab_size, b.vocab_rows, b.d_model, b.n_layer, b.d_state, b.d_conv, b.expand, b.dt_rank));
  EXPECT_EQ(std::tie(a.headdim, a.ngroups, a.chunk_size, a.dt_limit, a.norm_eps),
            std::tie(b.headdim, b.ngroups, b.chunk_size, b.dt_limit, b.norm_eps));
  EXPECT_EQ(std::tie(a.tie_embeddings, a.use_bias, a.use_conv_bias),
            std::tie(b.tie_embeddings, b.use_bias, b.use_conv_bias));
  EXPECT_EQ(
      std::tie(a.dt_init_min, a.dt_init_max, a.dt_init_floor, a.bos_token_id, a.eos_token_id, a.pad_token_id),
      std::tie(b.dt_init_min, b.dt_init_max, b.dt_init_floor, b.bos_token_id, b.eos_token_id,
               b.pad_token_id));
  EXPECT_EQ(a.activation.kind, b.activation.kind);
  EXPECT_EQ(a.activation.alpha, b.activation.alpha);
}

/// Through text, as on disk.
ModelConfig reread(const Json& json) { return parse(core::json_text(json)); }

class WrittenConfigs : public ::testing::TestWithParam<Architecture> {};

TEST_P(WrittenConfigs, ReadBackEqualInTheHuggingFaceForm) {
  ModelConfig config = unusual_config(GetParam());
  config.norm_eps = 3e-6;
  config.bos_token_id = 1;
  config.pad_token_id = 0;
  config.dt_init_min = 2e-3;
  for (const ConvActivation& activation : {ConvActivation{}, ConvActivation{ActivationKind::kRelu, 1.0},
                                           ConvActivation{ActivationKind::kIdentity, 0.3}}) {
    config.activation = activation;
    expect_equal(reread(config_to_json(config, "float32")), config);
  }
}

TEST_P(WrittenConfigs, ReadBackEqualInTheStateSpacesForm) {
  const ModelConfig config = unusual_config(GetParam());
  expect_equal(reread(config_to_state_spaces_json(config)), config);
}

TEST_P(WrittenConfigs, OnlySiluIsCalledAMambaOfTransformers) {
  ModelConfig config = unusual_config(GetParam());
  const bool one = GetParam() == Architecture::kMamba1;
  const Json silu = config_to_json(config, "bfloat16");
  EXPECT_EQ(silu["model_type"], one ? "mamba" : "mamba2");
  EXPECT_EQ(silu["architectures"][0], one ? "MambaForCausalLM" : "Mamba2ForCausalLM");
  EXPECT_EQ(silu["dtype"], "bfloat16");
  EXPECT_EQ(silu["vocab_size"], 104);
  config.activation = {ActivationKind::kIdentity, 0.5};
  const Json annealing = config_to_json(config, "float32");
  EXPECT_EQ(annealing["model_type"], "exactmamba");
  EXPECT_EQ(annealing["architectures"][0], "ExactMambaForCausalLM");
  EXPECT_EQ(annealing["conv_activation"], "identity");
  EXPECT_EQ(annealing["conv_activation_alpha"], 0.5);
  EXPECT_FALSE(annealing.contains("hidden_act"));
}

INSTANTIATE_TEST_SUITE_P(, WrittenConfigs, ::testing::Values(Architecture::kMamba1, Architecture::kMamba2),
                         [](const auto& test) { return std::string(architecture_name(test.param)); });

TEST(Config, AnUnboundedLimitIsWrittenAsTransformers5DoesIt) {
  ModelConfig config = unusual_config(Architecture::kMamba2);
  config.dt_limit = {0.25, kInfinity};
  expect_equal(reread(config_to_json(config, "float32")), config);
  const std::string text = core::json_text(config_to_json(config, "float32"));
  EXPECT_CONTAINS(text, R"([0.25,{"__float__":"Infinity"}])");
  config.dt_limit = ModelConfig().dt_limit;
  EXPECT_FALSE(config_to_json(config, "float32").contains("time_step_limit"));
}

TEST(Config, StateSpacesRefusesWhatItCannotExpress) {
  const auto message = [](const ModelConfig& config) {
    return testing::error_of<InputError>([&] { config_to_state_spaces_json(config); });
  };
  ModelConfig relu = unusual_config(Architecture::kMamba1), epsilon = relu,
              limit = unusual_config(Architecture::kMamba2);
  relu.activation.kind = ActivationKind::kRelu;
  epsilon.norm_eps = 1e-6;
  limit.dt_limit = {0.1, kInfinity};
  EXPECT_CONTAINS(message(relu), "conv_activation \"relu\"");
  EXPECT_CONTAINS(message(epsilon), "norm epsilon 1e-06");
  EXPECT_CONTAINS(message(limit), "time_step_limit [0.1, inf]");
}

TEST(Config, StateSpacesFormOfThePublicModelIsThePublicFile) {
  const std::filesystem::path file = golden("mamba-configs/state-spaces_mamba2-2.7b.config.json");
  EXPECT_EQ(config_to_state_spaces_json(read(file)), core::read_json(file));
}

}  // namespace
}  // namespace exactmamba::models
