// Against unbabel-comet 2.2.7 (tests/golden/comet/README.md): two tiny random models in the layout of
// wmt22-comet-da.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "eval/comet/comet_model.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::eval {
namespace {

using core::Json;
using testing::absolute_difference;
using testing::error_of;
using testing::golden;
using testing::TemporaryFolder;

struct Case {
  std::string name;
  CometSegment segment;
  Json expected;
};

std::vector<Case> cases_of(const std::filesystem::path& folder) {
  std::vector<Case> cases;
  const Json document = core::read_json(folder / "expected.json");
  for (const Json& row : document["cases"])
    cases.push_back({row["name"], {row["src"], row["mt"], row["ref"]}, row});
  return cases;
}

std::vector<CometSegment> segments_of(const std::vector<Case>& cases) {
  std::vector<CometSegment> segments;
  for (const Case& one : cases) segments.push_back(one.segment);
  return segments;
}

PackedTexts packed(const at::Tensor& ids) {
  return {{ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + ids.numel()}, {ids.numel()}};
}

class CometGolden : public ::testing::TestWithParam<std::string> {
 protected:
  CometGolden() : folder_(golden("comet/" + GetParam())), cases_(cases_of(folder_)) {}
  CometModel model(at::ScalarType dtype) const { return CometModel(folder_, at::kCPU, dtype); }
  /// The largest difference from the scores under `key`.
  double difference(const std::vector<double>& scores, const char* key) const {
    double most = 0;
    for (size_t i = 0; i < cases_.size(); ++i)
      most = std::max(most, std::abs(scores[i] - cases_[i].expected[key].get<double>()));
    return most;
  }

  std::filesystem::path folder_;
  std::vector<Case> cases_;
};

TEST_P(CometGolden, TokenIdsAreThoseOfTheFastTokenizer) {
  const CometModel comet = model(at::kFloat);
  const core::SafetensorsFile tensors(folder_ / "tensors.safetensors");
  for (const Case& one : cases_) {
    const auto& [source, hypothesis, reference] = one.segment;
    size_t i = 0;
    for (const auto& [side, text] :
         {std::pair{".src", &source}, {".mt", &hypothesis}, {".ref", &reference}}) {
      const std::vector<int64_t> ids = comet.ids(*text);
      EXPECT_EQ(static_cast<int64_t>(ids.size()), one.expected["tokens"][i++].get<int64_t>())
          << one.name << side;
      if (!one.expected.contains("tensors")) continue;
      const at::Tensor wanted = tensors.tensor(one.expected["tensors"].get<std::string>() + side + ".ids");
      EXPECT_EQ(ids, packed(wanted).ids) << one.name << side;
    }
  }
}

TEST_P(CometGolden, TokenIdsAreThoseOfThePaddedBatch) {
  const CometModel comet = model(at::kFloat);
  const core::SafetensorsFile tensors(folder_ / "tensors.safetensors");
  const Json names = core::read_json(folder_ / "expected.json")["padded_batch"];
  ASSERT_EQ(names.size(), 5u);
  for (size_t row = 0; row < names.size(); ++row) {
    const auto found =
        std::find_if(cases_.begin(), cases_.end(), [&](const Case& one) { return one.name == names[row]; });
    ASSERT_NE(found, cases_.end());
    const auto& [source, hypothesis, reference] = found->segment;
    for (const auto& [side, text] : {std::pair{"src", &source}, {"mt", &hypothesis}, {"ref", &reference}}) {
      const auto part = [&, side = side](const char* name) {
        return tensors.tensor(fmt::format("batch.{}_{}", side, name)).select(0, static_cast<int64_t>(row));
      };
      const int64_t length = part("attention_mask").sum().item<int64_t>();
      EXPECT_EQ(comet.ids(*text), packed(part("input_ids").narrow(0, 0, length)).ids)
          << found->name << " " << side;
    }
  }
}

TEST_P(CometGolden, ScoresAreEqual) {
  ASSERT_EQ(cases_.size(), 60u);
  const std::vector<double> in_double = model(at::kDouble).scores(segments_of(cases_));
  EXPECT_LE(difference(in_double, "score_fp64"), 1e-12);
  const std::vector<double> in_float = model(at::kFloat).scores(segments_of(cases_));
  for (const char* key : {"score_fp64", "score_fp32_alone", "score_fp32_batch16"})
    EXPECT_LE(difference(in_float, key), 2e-6) << key;
  // 8 bits of fraction in the encoder: a few hundredths, where scores spread over seven tenths.
  EXPECT_LE(difference(model(at::kBFloat16).scores(segments_of(cases_)), "score_fp64"), 0.05);
}

TEST_P(CometGolden, LayersAndVectorsAreEqual) {
  const core::SafetensorsFile tensors(folder_ / "tensors.safetensors");
  const XlmrConfig config = read_xlmr_config(folder_ / "encoder" / "config.json");
  const CheckpointTensors weights(folder_ / "checkpoints" / "model.ckpt");
  for (const auto& [dtype, tolerance] : {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 2e-5}}) {
    const CometModel comet = model(dtype);
    const XlmrEncoder encoder(config, weights, at::kCPU, dtype);
    for (const std::string& name : tensors.names()) {
      if (!name.ends_with(".ids")) continue;
      const std::string side = name.substr(0, name.size() - 4);
      const PackedTexts text = packed(tensors.tensor(name));
      const at::Tensor layers = tensors.tensor(side + ".layers");
      encoder.forward(text, [&](int64_t index, const at::Tensor& hidden) {
        EXPECT_LE(absolute_difference(hidden, layers.select(0, index)), tolerance)
            << side << " layer " << index;
      });
      EXPECT_LE(absolute_difference(comet.mixed(text), tensors.tensor(side + ".mixed")), tolerance) << side;
      EXPECT_LE(absolute_difference(comet.pooled(text).squeeze(0), tensors.tensor(side + ".pooled")),
                tolerance)
          << side;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(LayerMix, CometGolden, ::testing::Values("softmax", "sparsemax"));

TEST(Comet, TextsOfOneBatchDoNotSeeEachOther) {
  const CometModel comet(golden("comet/softmax"), at::kCPU, at::kDouble);
  const PackedTexts alone = {{0, 7, 1, 9, 2}, {5}};
  const PackedTexts together = {{0, 5, 2, 0, 7, 1, 9, 2, 0, 7, 7, 8, 2, 0, 2}, {3, 5, 5, 2}};
  EXPECT_LE(absolute_difference(comet.pooled(together).narrow(0, 1, 1), comet.pooled(alone)), 1e-14);
}

TEST(Comet, ScoresAreTheSameTwice) {
  const std::vector<CometSegment> segments = segments_of(cases_of(golden("comet/softmax")));
  const CometModel comet(golden("comet/softmax"), at::kCPU, at::kFloat);
  int64_t calls = 0, last = -1;
  const auto first = comet.scores(segments, [&](int64_t texts, int64_t total) {
    ++calls;
    EXPECT_GT(texts, last);
    last = texts;
    EXPECT_LE(texts, total);
  });
  EXPECT_GT(calls, 1);
  EXPECT_EQ(first, comet.scores(segments));
  EXPECT_TRUE(comet.scores({}).empty());
}

/// A copy of the golden folder in which one file is another.
class ChangedFolder {
 public:
  explicit ChangedFolder(const std::string& file, const std::string& from = "", const std::string& to = "") {
    std::filesystem::copy(golden("comet/softmax"), folder_ / "m", std::filesystem::copy_options::recursive);
    if (from.empty()) {
      std::filesystem::remove(path() / file);
      return;
    }
    std::string text = core::read_file(path() / file);
    text.replace(text.find(from), from.size(), to);
    testing::put_file(path() / file, text);
  }
  std::filesystem::path path() const { return folder_ / "m"; }
  template <class E = core::InputError>
  std::string error() const {
    return error_of<E>([this] { CometModel(path(), at::kCPU, at::kFloat); });
  }

 private:
  TemporaryFolder folder_;
};

TEST(Comet, SaysWhatToPutWhere) {
  const ChangedFolder folder("encoder/sentencepiece.bpe.model");
  const std::string message = folder.error<core::IoError>();
  EXPECT_CONTAINS(message,
                  "missing " + (folder.path() / "encoder/sentencepiece.bpe.model").string() + ". Put there");
  EXPECT_CONTAINS(message, "huggingface.co/Unbabel/wmt22-comet-da");
  EXPECT_CONTAINS(message, "huggingface.co/FacebookAI/xlm-roberta-large");
}

TEST(Comet, RefusesOtherModels) {
  const auto hparams = [](const std::string& from, const std::string& to) {
    return ChangedFolder("hparams.yaml", from, to).error();
  };
  EXPECT_CONTAINS(
      hparams("regression_metric", "unified_metric"),
      "hparams.yaml:3:19: class_identifier is unified_metric, but only regression_metric is computed");
  EXPECT_CONTAINS(hparams("layer: mix", "layer: 7"), "layer is 7, but only mix");
  EXPECT_CONTAINS(hparams("layer_norm: false", "layer_norm: true"), "layer_norm is true");
  EXPECT_CONTAINS(hparams("layer_transformation: softmax", "layer_transformation: sparse_max"),
                  "hparams.yaml:14:23: layer_transformation is sparse_max, but only softmax and sparsemax");
  EXPECT_CONTAINS(hparams("pool: avg\n", ""), "has no key 'pool'");
  EXPECT_CONTAINS(hparams("- 48", "- many"), "hparams.yaml:");
  EXPECT_CONTAINS(hparams("- 48", "- -48"), "hidden_sizes has -48");
  EXPECT_CONTAINS(hparams("- 48", "- 40"), "estimator.ff.0.weight has shape [48, 192], but");
  EXPECT_CONTAINS(hparams("layer: mix", "layer: [mix"), "hparams.yaml:");
  const auto config = [](const std::string& from, const std::string& to) {
    return ChangedFolder("encoder/config.json", from, to).error();
  };
  EXPECT_CONTAINS(config("\"xlm-roberta\"", "\"bert\""), "model_type is \"bert\"");
  EXPECT_CONTAINS(config("\"num_attention_heads\": 4", "\"num_attention_heads\": 5"),
                  "no multiple of num_attention_heads 5");
  EXPECT_CONTAINS(config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4"),
                  "has no tensor encoder.model.encoder.layer.3");
  EXPECT_CONTAINS(config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2"),
                  "has encoder.model.encoder.layer.2.output.dense.weight, but the encoder's config.json says "
                  "num_hidden_layers 2");
  EXPECT_CONTAINS(config("\"vocab_size\": 1002", "\"vocab_size\": 1003"), "says vocab_size 1003");
  EXPECT_CONTAINS(config("\"vocab_size\": 1002", "\"vocab_size\": -3"),
                  "vocab_size is missing, or no whole number");
}

TEST(Comet, ACheckpointIsLookedIntoWithoutReadingIt) {
  EXPECT_NO_THROW(check_comet_files(golden("comet/softmax")));
  EXPECT_NO_THROW(check_comet_files(golden("comet/sparsemax")));
  const auto problem = [](const ChangedFolder& folder) {
    const std::string message = error_of<core::InputError>([&] { check_comet_files(folder.path()); });
    EXPECT_EQ(message, folder.error());  // of the model itself
    return message;
  };
  const ChangedFolder cut("hparams.yaml", "mse", "mse");
  const std::filesystem::path checkpoint = cut.path() / "checkpoints/model.ckpt";
  std::filesystem::resize_file(checkpoint, std::filesystem::file_size(checkpoint) / 2);
  EXPECT_CONTAINS(problem(cut),
                  "model.ckpt: damaged zip file: its directory, which is at the end, is missing");
  EXPECT_CONTAINS(problem(ChangedFolder("hparams.yaml", "- 48", "- 40")),
                  "estimator.ff.0.weight has shape [48, 192], but");
  EXPECT_CONTAINS(
      problem(ChangedFolder("encoder/config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4")),
      "has no tensor encoder.model.encoder.layer.3");
}

TEST(Comet, ReadsThePublishedHparams) {
  const std::filesystem::path data = testing::external_data();
  if (data.empty()) GTEST_SKIP() << "EXACTMAMBA_DATA is not set";
  const CometConfig config = read_comet_config(data / "comet-metric" / "wmt22-comet-da.hparams.yaml");
  EXPECT_EQ(config.hidden_sizes, (std::vector<int64_t>{3072, 1024}));
  EXPECT_TRUE(config.sparsemax);
  EXPECT_CONTAINS(error_of<core::InputError>(
                      [&] { read_comet_config(data / "comet-metric" / "wmt22-cometkiwi-da.hparams.yaml"); }),
                  "class_identifier is unified_metric");
}

}  // namespace
}  // namespace exactmamba::eval
