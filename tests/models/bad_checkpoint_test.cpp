// Model folders that must be refused: a good folder, one thing broken, the error that is asked for.
#include <cmath>
#include <functional>
#include <map>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/safetensors.h"
#include "models/checkpoint.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::models {
namespace {

using core::ExitCode;
using Folder = std::filesystem::path;
using testing::golden;
using testing::TemporaryFolder;

using Tensors = std::map<std::string, at::Tensor>;

/// Rewrites model.safetensors after `change`.
void change_weights(const Folder& folder, const std::function<void(Tensors&)>& change) {
  Tensors tensors;
  {
    const core::SafetensorsFile file(folder / "model.safetensors");
    for (const std::string& name : file.names()) tensors[name] = file.tensor(name).clone();
  }
  change(tensors);
  core::write_safetensors(folder / "model.safetensors", {tensors.begin(), tensors.end()});
}

void change_json(const Folder& file, const std::function<void(core::Json&)>& change) {
  core::Json json = core::read_json(file);
  change(json);
  core::write_json(file, json);
}

void change_config(const Folder& folder, const std::string& key, const core::Json& value) {
  change_json(folder / "config.json", [&](core::Json& json) { json[key] = value; });
}

void change_index(const Folder& folder, const std::string& shard) {
  change_json(folder / "model.safetensors.index.json",
              [&](core::Json& json) { json["weight_map"]["backbone.norm_f.weight"] = shard; });
}

void truncate(const Folder& file, uintmax_t size) { std::filesystem::resize_file(file, size); }

struct BadFolder {
  const char* name;
  const char* base;  // golden folder that is copied
  std::function<void(const Folder&)> change;
  ExitCode code;
  std::vector<std::string> parts;  // of the message
};
void PrintTo(const BadFolder& bad, std::ostream* out) { *out << bad.name; }

constexpr const char* kConvBias = "backbone.layers.1.mixer.conv1d.bias";

std::vector<BadFolder> bad_folders() {
  const auto input = ExitCode::kInput, io = ExitCode::kIo, numerical = ExitCode::kNumerical;
  return {
      {"NoConfig",
       "mamba1-hf",
       [](const Folder& f) { std::filesystem::remove(f / "config.json"); },
       io,
       {"config.json"}},
      {"EmptyConfig",
       "mamba1-hf",
       [](const Folder& f) { core::write_file(f / "config.json", ""); },
       input,
       {"config.json"}},
      {"TruncatedConfig",
       "mamba1-hf",
       [](const Folder& f) { truncate(f / "config.json", 200); },
       input,
       {"config.json:"}},
      {"DeepConfig",
       "mamba1-hf",
       [](const Folder& f) { core::write_file(f / "config.json", std::string(100000, '[')); },
       input,
       {"config.json"}},
      {"NewerFormat",
       "mamba1-hf",
       [](const Folder& f) { change_config(f, "exactmamba_format_version", 2); },
       input,
       {"exactmamba_format_version is 2", "use a newer exactmamba"}},
      {"NegativeSize",
       "mamba1-hf",
       [](const Folder& f) { change_config(f, "state_size", -8); },
       input,
       {"state_size is -8"}},
      {"NoWeights",
       "mamba1-hf",
       [](const Folder& f) { std::filesystem::remove(f / "model.safetensors"); },
       io,
       {"no weights"}},
      {"TruncatedWeights",
       "mamba1-hf",
       [](const Folder& f) { truncate(f / "model.safetensors", 5000); },
       input,
       {"model.safetensors", "byte"}},
      {"Missing",
       "mamba1-hf",
       [](const Folder& f) { change_weights(f, [](Tensors& t) { t.erase(kConvBias); }); },
       input,
       {std::string(kConvBias) + " is missing"}},
      {"Unexpected",
       "mamba1-hf",
       [](const Folder& f) { change_weights(f, [](Tensors& t) { t["extra.weight"] = at::zeros({2}); }); },
       input,
       {"extra.weight is unexpected"}},
      {"Shape",
       "mamba1-hf",
       [](const Folder& f) { change_weights(f, [](Tensors& t) { t[kConvBias] = at::zeros({65}); }); },
       input,
       {"has shape [65]", "makes it [64]"}},
      {"Transposed",
       "mamba1-hf",
       [](const Folder& f) {
         change_weights(f, [](Tensors& t) {
           at::Tensor& weight = t["backbone.layers.0.mixer.in_proj.weight"];
           weight = weight.t().contiguous();
         });
       },
       input,
       {"has shape [32, 128]", "makes it [128, 32]"}},
      {"Dtype",
       "mamba1-hf",
       [](const Folder& f) {
         change_weights(f, [](Tensors& t) { t[kConvBias] = at::zeros({64}, at::kLong); });
       },
       input,
       {kConvBias, "has dtype int64"}},
      {"ManyProblems",
       "mamba1-hf",
       [](const Folder& f) { change_config(f, "state_size", 9); },
       input,
       {"6 tensor(s) do not fit", "has shape [64, 8], but config.json makes it [64, 9]", "and 1 more"}},
      {"OtherLayerCount",
       "mamba1-hf",
       [](const Folder& f) { change_config(f, "num_hidden_layers", 2); },
       input,
       {"is unexpected", "and 5 more"}},
      {"HugeModel",
       "mamba1-hf",
       [](const Folder& f) { change_config(f, "vocab_size", 200000000); },
       input,
       {"200000000"}},
      {"ForeignNames",
       "mamba1-hf",
       [](const Folder& f) {
         change_weights(f, [](Tensors& t) {
           t["wte"] = t["backbone.embeddings.weight"];
           t.erase("backbone.embeddings.weight");
         });
       },
       input,
       {"backbone.embeddings.weight is missing", "wte is unexpected", "--names"}},
      {"Vocabulary",
       "mamba1-hf",
       [](const Folder& f) { change_config(f, "vocab_size", 101); },
       input,
       {"has 104 vocabulary rows, but config.json says 101"}},
      {"PaddedVocabulary",
       "mamba1-ss",
       [](const Folder& f) { change_config(f, "pad_vocab_size_multiple", 16); },
       input,
       {"has 104 vocabulary rows, but config.json says 112 (vocab_size 101, padded)"}},
      {"NaN",
       "mamba1-hf",
       [](const Folder& f) {
         change_weights(f, [](Tensors& t) { t["backbone.layers.2.mixer.A_log"][3][5] = NAN; });
       },
       numerical,
       {"model.safetensors: backbone.layers.2.mixer.A_log", "[3, 5] is nan"}},
      {"Infinity",
       "mamba1-hf-fp16",
       [](const Folder& f) { change_weights(f, [](Tensors& t) { t[kConvBias][7] = -INFINITY; }); },
       numerical,
       {kConvBias, "[7] is -inf"}},
      {"TooLargeForFloat",
       "mamba1-hf",
       [](const Folder& f) {
         change_weights(f, [](Tensors& t) {
           t[kConvBias] = t[kConvBias].to(at::kDouble);
           t[kConvBias][0] = 1e300;
         });
       },
       numerical,
       {kConvBias, "[0] is inf"}},
      {"TiedHeadDiffers",
       "mamba1-hf",
       [](const Folder& f) {
         change_weights(f, [](Tensors& t) { t["lm_head.weight"] = t["backbone.embeddings.weight"] + 1; });
       },
       input,
       {"lm_head.weight differs from backbone.embeddings.weight", "tie_word_embeddings"}},
      {"BothSpellings",
       "mamba1-hf",
       [](const Folder& f) {
         change_weights(f,
                        [](Tensors& t) { t["backbone.embedding.weight"] = t["backbone.embeddings.weight"]; });
       },
       input,
       {"'backbone.embedding.weight'", "both the tensor"}},
      {"MissingShard",
       "mamba1-hf-sharded",
       [](const Folder& f) { std::filesystem::remove(f / "model-00002-of-00003.safetensors"); },
       io,
       {"model-00002-of-00003.safetensors is missing", "index.json"}},
      {"ShardAbove",
       "mamba1-hf-sharded",
       [](const Folder& f) { change_index(f, "../model.safetensors"); },
       input,
       {"\"../model.safetensors\"", "inside the same folder"}},
      {"AbsoluteShard",
       "mamba1-hf-sharded",
       [](const Folder& f) { change_index(f, "/etc/passwd.safetensors"); },
       input,
       {"inside the same folder"}},
      {"ShardIsAFolder",
       "mamba1-hf-sharded",
       [](const Folder& f) { change_index(f, ".."); },
       input,
       {"inside the same folder"}},
      {"ShardIsNoText",
       "mamba1-hf-sharded",
       [](const Folder& f) {
         change_json(f / "model.safetensors.index.json", [](core::Json& j) { j["weight_map"]["x"] = 3; });
       },
       input,
       {"weight_map['x'] is 3"}},
      {"NoWeightMap",
       "mamba1-hf-sharded",
       [](const Folder& f) { core::write_file(f / "model.safetensors.index.json", "{}"); },
       input,
       {"no 'weight_map'"}},
      {"TensorInTwoShards",
       "mamba1-hf-sharded",
       [](const Folder& f) {
         const core::SafetensorsFile first(f / "model-00001-of-00003.safetensors");
         core::write_safetensors(f / "again.safetensors",
                                 {{first.names()[0], first.tensor(first.names()[0]).clone()}});
         change_index(f, "again.safetensors");
       },
       input,
       {"both the tensor"}},
      {"TruncatedBin",
       "mamba1-ss",
       [](const Folder& f) { truncate(f / "pytorch_model.bin", 3000); },
       input,
       {"pytorch_model.bin"}},
  };
}

class BadFolders : public ::testing::TestWithParam<BadFolder> {};

TEST_P(BadFolders, AreRefusedInOneLine) {
  const BadFolder& bad = GetParam();
  const TemporaryFolder temporary;
  const Folder folder = temporary / "model";
  std::filesystem::copy(golden("models") / bad.base, folder);
  bad.change(folder);
  try {
    load_model(folder);
    FAIL() << "it was loaded";
  } catch (const core::Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.exit_code(), static_cast<int>(bad.code)) << message;
    for (const std::string& part : bad.parts) EXPECT_CONTAINS(message, part);
    EXPECT_CONTAINS(message, folder.string());
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_LE(message.size(), 1000u) << message;
  }
}

INSTANTIATE_TEST_SUITE_P(, BadFolders, ::testing::ValuesIn(bad_folders()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(BadFolder, DoesNotExist) {
  EXPECT_CONTAINS(testing::error_of<core::IoError>([] { load_model("/nonexistent/model"); }),
                  "/nonexistent/model");
}

// ---- name tables ----

std::string table_error(const std::string& toml) {
  const TemporaryFolder temporary;
  core::write_file(temporary / "map.toml", toml);
  return testing::error_of<core::InputError>([&] {
    load_model(golden("models/mamba1-hf"), {at::kFloat, temporary / "map.toml"});
  });
}

TEST(BadNameTable, SaysWhere) {
  EXPECT_CONTAINS(table_error("\n\"a\" = 3\n"), "map.toml:2:1: 'a' is an integer");
  EXPECT_CONTAINS(table_error("\"a.*\" = \"b\"\n"), "map.toml:1:1: 'a.*' = 'b' must have one *");
  EXPECT_CONTAINS(table_error("a.b = \"c\"\n"), "names with dots need quotes");
  EXPECT_CONTAINS(table_error("\"a\" = "), "map.toml:1:");
}

// ---- writing ----

TEST(BadTarget, ValuesThatTheStorageCannotHold) {
  const TemporaryFolder folder;
  MambaLM model = load_model(golden("models/mamba1-hf"));
  model.parameters().parameter(kConvBias)[2] = 1e6;
  const auto save = [&] { save_model(model, folder.path(), at::kHalf); };
  EXPECT_CONTAINS(testing::error_of<core::NumericalError>(save), "stored as float16: element [2] is inf");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(BadTarget, StateSpacesCannotHoldAnotherActivation) {
  const TemporaryFolder folder;
  MambaLM model = load_model(golden("models/mamba1-hf"));
  model.set_activation({ActivationKind::kRelu, 1.0});
  EXPECT_CONTAINS(testing::error_of<core::InputError>([&] { save_state_spaces(model, folder.path()); }),
                  "relu");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(BadTarget, NoSpaceLeft) {
  ASSERT_TRUE(std::filesystem::exists("/dev/full"));
  const TemporaryFolder folder;
  std::filesystem::create_symlink("/dev/full", folder / "pytorch_model.bin");
  const MambaLM model = load_model(golden("models/mamba1-hf"));
  EXPECT_CONTAINS(testing::error_of<core::IoError>([&] { save_state_spaces(model, folder.path()); }),
                  "No space left");
}

TEST(BadTarget, FolderDoesNotExist) {
  const MambaLM model = load_model(golden("models/mamba1-hf"));
  EXPECT_CONTAINS(testing::error_of<core::IoError>([&] { save_model(model, "/nonexistent/x"); }),
                  "/nonexistent/x");
  EXPECT_CONTAINS(testing::error_of<core::IoError>([&] { save_state_spaces(model, "/nonexistent/x"); }),
                  "/nonexistent/x");
}

}  // namespace
}  // namespace exactmamba::models
