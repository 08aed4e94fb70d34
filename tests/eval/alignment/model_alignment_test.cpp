// Alignments of models: links of stored maps (golden/decomposition), and the scores of an alignment task.
#include "eval/alignment/model_alignment.h"

#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/safetensors.h"
#include "data/byte_tokenizer.h"
#include "eval/alignment/files.h"
#include "eval/alignment/symmetrise.h"
#include "models/checkpoint.h"
#include "tests/support/files.h"
#include "tests/support/random_model.h"
#include "tests/support/tensors.h"

namespace exactmamba::eval {
namespace {

using core::Json;

decomp::DecomposeOptions in_double(const std::vector<std::string>& methods) {
  decomp::DecomposeOptions options;
  options.methods = methods;
  options.dtype = "float64";
  return options;
}

models::MambaLM two_layers(models::Architecture architecture) {
  models::ModelConfig config;
  config.architecture = architecture;
  config.vocab_size = config.vocab_rows = 258;  // bytes, <SEP> and <EOS>
  config.d_model = 16;
  config.n_layer = 2;
  config.d_state = 4;
  config.dt_rank = 2;
  config.headdim = 8;
  return testing::random_model(config, at::kDouble, 0.2, 7);
}

/// The row `single` of a golden model, as if its first tokens were a source of five words.
TEST(ModelLinks, AreThoseOfTheStoredMaps) {
  const auto folder = testing::golden("decomposition/mamba2-g2-silu");
  models::LoadOptions load;
  load.dtype = at::kDouble;
  const models::MambaLM model = models::load_model(folder, load);
  AlignmentRow row;
  row.ids = core::read_json(folder / "meta.json")["rows"]["single"]["input_ids"].get<std::vector<int64_t>>();
  ASSERT_EQ(row.ids.size(), 17u);
  row.words = {{0, 0, 1, 2, 3, 3, 4}, {0, 1, 1, 2, 3, 4, 4, 5}, {5, 6}};
  const core::SafetensorsFile maps(folder / "maps.safetensors");
  int compared = 0;
  for (const AlignmentRows rows : {AlignmentRows::kAwo, AlignmentRows::kAwi}) {
    const MapLinks links = model_links(model, row, 0, in_double({"l1", "l2", "alti", "rollout"}), rows);
    const auto stored_words = [&](const std::string& method, int64_t layer) {
      return word_map(maps.tensor(fmt::format("single.layer{}.activation.{}", layer, method)), row.words,
                      rows);
    };
    for (const std::string method : {"l1", "l2", "alti", "rollout"})
      for (int64_t layer = 0; layer < 3; ++layer, ++compared)
        EXPECT_EQ(links.at({method, "activation", layer}), best_links(stored_words(method, layer), 5));
    EXPECT_EQ(links.at({"rollout", "activation", decomp::kWholeModel}),
              best_links(stored_words("rollout", 2), 5));
    EXPECT_EQ(links.at({"l2", "activation", kLayerMean}),
              best_links(stored_words("l2", 0) + stored_words("l2", 1) + stored_words("l2", 2), 5));
    EXPECT_FALSE(links.contains({"rollout", "activation", kLayerMean}));
  }
  EXPECT_EQ(compared, 24);
}

TEST(AlignmentRow, IsTheRowOfTraining) {
  const data::ByteTokenizer bytes;
  const AlignmentRow row = alignment_row(bytes, 'S', 'E', {"a bS c", "dE"});  // S and E are no part of a text
  EXPECT_EQ(row.ids, (std::vector<int64_t>{'a', ' ', 'b', ' ', 'c', 'S', 'd', 'E'}));
  EXPECT_EQ(row.words.source_words, (std::vector<int64_t>{0, 1, 1, 2, 2}));
  EXPECT_EQ(row.words.target_words, (std::vector<int64_t>{0}));
  EXPECT_EQ(row.words.lengths.source, 3);
  EXPECT_EQ(row.words.target_begin(), 6);
}

/// Four pairs in files, the first two of them a development part.
class AlignmentTaskTest : public ::testing::Test {
 protected:
  AlignmentTaskTest() {
    put("test.de", "ein Haus\ndas Boot ist rot\nja\ndie Katze\n");
    put("test.en", "a house\nthe boat is red\nyes\nthe cat\n");
    put("gold", "1-1 2-2\n1-1 2p2 3-3 4-4\n1-1\n1-1 2-2\n");
    options_.sentences = (folder_ / "test.{de,en}").string();
    options_.gold = (folder_ / "gold").string();
    options_.gold_base = "1";
    options_.dev_pairs = 2;
  }
  void put(const std::string& name, const std::string& text) { testing::put_file(folder_ / name, text); }
  std::string refusal() const {
    return testing::error_of<core::InputError>([this] { read_alignment_task(options_); });
  }
  std::vector<MapLinks> aligned(const models::MambaLM& model, const AlignmentTask& task, Direction direction,
                                const std::filesystem::path& parts = {}) const {
    return align({model, bytes_, 256, 257}, task, direction,
                 in_double({"l2", "alti_logit", "mamba_attention"}), AlignmentRows::kAwo, parts);
  }

  testing::TemporaryFolder folder_;
  AlignmentOptions options_;
  data::ByteTokenizer bytes_;
};

TEST_F(AlignmentTaskTest, ReadsPairsWithTheirGold) {
  const AlignmentTask task = read_alignment_task(options_);
  ASSERT_EQ(task.size(), 4u);
  EXPECT_EQ(task.pairs[1].source, "das Boot ist rot");
  EXPECT_EQ(task.gold[1].sure, (Links{{0, 0}, {2, 2}, {3, 3}}));
  EXPECT_EQ(task.development, 2u);
  EXPECT_EQ(test_sanity_rows(task)[0].score.links, 3);  // of two pairs
  put("gold", "1-1 2-2\n1-1 2-2 3-3 4-4\n1-1\n1-1 2-2\n");
  EXPECT_NE(gold_fingerprint(read_alignment_task(options_)), gold_fingerprint(task));
  EXPECT_EQ(sentence_fingerprint(read_alignment_task(options_)), sentence_fingerprint(task));
}

TEST_F(AlignmentTaskTest, TheDevelopmentPartMayBeAFileOfItsOwn) {
  put("dev.de", "so\n");
  put("dev.en", "thus\n");
  put("dev.gold", "1-1\n");
  options_.dev_pairs = 0;
  options_.dev_sentences = (folder_ / "dev.{de,en}").string();
  options_.dev_gold = (folder_ / "dev.gold").string();
  const AlignmentTask task = read_alignment_task(options_);
  EXPECT_EQ(task.size(), 5u);
  EXPECT_EQ(task.development, 1u);
  EXPECT_EQ(task.file_begin, 1u);
  EXPECT_EQ(task.pairs[0].target, "thus");
  const auto links = aligned(two_layers(models::Architecture::kMamba2), task, Direction::kForward);
  EXPECT_EQ(load_links(folder_.path(), task, save_links(folder_.path(), task, links)), links);
}

TEST_F(AlignmentTaskTest, KeepsItsParts) {
  const AlignmentTask task = read_alignment_task(options_);
  const std::filesystem::path parts = folder_ / "parts";
  for (const Direction direction : {Direction::kForward, Direction::kReverse}) {
    std::filesystem::remove_all(parts);
    const auto links = aligned(two_layers(models::Architecture::kMamba2), task, direction, parts);
    EXPECT_EQ(links, aligned(two_layers(models::Architecture::kMamba2), task, direction));
    const auto kept = aligned(two_layers(models::Architecture::kMamba1), task, direction, parts);
    EXPECT_EQ(kept, links);  // another model had nothing to do
  }
}

TEST_F(AlignmentTaskTest, RefusesGoldThatDoesNotFit) {
  options_.dev_pairs = 4;
  EXPECT_CONTAINS(refusal(), "dev_pairs = 4, but");
  options_.dev_pairs = 0;
  options_.gold_base = "0";
  EXPECT_CONTAINS(refusal(), "gold:1:5: '2-2' has source word 2, but sentence 1 in " + options_.sentences);
  EXPECT_CONTAINS(refusal(), "has 2 words, counted from 0, as evaluate.alignment.gold_base says");
  options_.gold_base = "1";
  put("gold", "1-1\n");
  EXPECT_CONTAINS(refusal(), "1 lines for 4 sentence pairs in " + options_.sentences);
  put("gold", "\n\n\n\n");
  EXPECT_CONTAINS(refusal(), "gold: there is no link in it");
}

TEST_F(AlignmentTaskTest, ScoresEveryMapAndWritesItsLinks) {
  const AlignmentTask task = read_alignment_task(options_);
  const models::MambaLM model = two_layers(models::Architecture::kMamba2);
  const std::vector<MapLinks> links = aligned(model, task, Direction::kForward);
  const Json scores = map_scores(task, links);
  const auto layers = static_cast<size_t>(model.config().n_layer);
  ASSERT_EQ(scores.size(), 4u);  // alti_logit of a layer, and mixed
  for (const char* name : {"l2 · activation", "mamba_attention"}) {
    SCOPED_TRACE(name);
    const Json& of_map = scores[name];
    ASSERT_EQ(of_map["layers"].size(), layers);
    ASSERT_EQ(of_map["development_aer"].size(), layers);
    const auto best = of_map["best_layer"].get<size_t>();
    for (size_t layer = 0; layer < layers; ++layer)
      EXPECT_GE(of_map["development_aer"][layer].get<double>(),
                of_map["development_aer"][best].get<double>());
    EXPECT_EQ(of_map["best"], of_map["layers"][best]);
    EXPECT_TRUE(of_map.contains("layer_mean"));
  }
  EXPECT_TRUE(scores["alti_logit · activation"].contains("whole_model"));

  EXPECT_EQ(load_links(folder_ / "links", task, save_links(folder_ / "links", task, links)), links);
  const auto file = folder_ / "links/l2.activation.layer0.pharaoh";
  const auto written = read_links(file, {AlignmentFormat::kPharaoh, 0}, {4, task.lengths});
  AlignmentScore score;
  for (size_t n = 2; n < 4; ++n) score += alignment_score(written[n], task.gold[n]);
  EXPECT_EQ(alignment_score_json(score), scores["l2 · activation"]["layers"][0]);

  const std::string text =
      alignment_markdown({{"about", "Four pairs."}, {"sanity", sanity_scores(task)}, {"maps", scores}});
  EXPECT_CONTAINS(text, "| scaled_diagonal | no model | 0.0000 | 1.0000 | 1.0000 | 3 |");
  EXPECT_CONTAINS(text, "| AER of layer | 0 |");
}

TEST_F(AlignmentTaskTest, WithoutADevelopmentPartNoLayerIsChosen) {
  options_.dev_pairs = 0;
  const AlignmentTask task = read_alignment_task(options_);
  const models::MambaLM model = two_layers(models::Architecture::kMamba1);
  const Json scores = map_scores(task, aligned(model, task, Direction::kForward));
  for (const char* key : {"best", "best_layer", "development_aer"})
    EXPECT_FALSE(scores["l2 · activation"].contains(key)) << key;
}

/// Links are the best words of their rows.
void expect_links_of(const Json& map, const Links& links) {
  const auto columns = map["columns"].size();
  for (const Link& link : links) {
    const Json& row = map["values"][static_cast<size_t>(link.target)];
    ASSERT_EQ(row.size(), columns);
    for (const Json& value : row) EXPECT_LE(value, row[static_cast<size_t>(link.source)]);
  }
}

TEST_F(AlignmentTaskTest, HeatMapsShowTheLinksOfTheBestLayer) {
  const AlignmentTask task = read_alignment_task(options_);
  const models::MambaLM model = two_layers(models::Architecture::kMamba2);
  const std::vector<MapLinks> links = aligned(model, task, Direction::kForward);
  const auto options = in_double({"l2", "alti_logit", "mamba_attention"});
  const AlignmentModel with_bytes{model, bytes_, 256, 257};
  const Json maps = heat_maps(with_bytes, task, links, options, AlignmentRows::kAwo);
  const Json scores = map_scores(task, links);
  ASSERT_EQ(maps.size(), 8u);  // two pairs, four maps
  EXPECT_EQ(maps[7]["rows"], Json({"the", "cat"}));
  EXPECT_EQ(maps[7]["columns"], Json({"die", "Katze"}));
  EXPECT_EQ(maps[7]["sure"], Json::parse("[[0, 0], [1, 1]]"));
  const int64_t layer = scores["l2 · activation"]["best_layer"];
  const std::string title = fmt::format("l2 · activation, layer {}, pair 1", layer);
  const auto of_l2 =
      std::find_if(maps.begin(), maps.end(), [&](const Json& m) { return m["title"] == title; });
  ASSERT_NE(of_l2, maps.end());
  expect_links_of(*of_l2, links[3].at({"l2", "activation", layer}));

  AlignmentTask no_development = task;
  no_development.development = 0;
  const Json of_means = heat_maps(with_bytes, no_development, links, options, AlignmentRows::kAwo);
  ASSERT_EQ(of_means.size(), 16u);  // four pairs, three means and a whole model
  EXPECT_EQ(of_means[5]["possible"], Json::parse("[[0, 0], [1, 1], [2, 2], [3, 3]]"));
  EXPECT_EQ(of_means[5]["sure"].size(), 3u);
  EXPECT_CONTAINS(of_means[3]["title"].get<std::string>(), "mamba_attention, mean of layers, pair 0");
  expect_links_of(of_means[5], links[1].at({"alti_logit", "activation", decomp::kWholeModel}));
}

/// A model of the other direction reads pairs the other way round, and its links are turned back.
TEST_F(AlignmentTaskTest, BothDirections) {
  const AlignmentTask task = read_alignment_task(options_);
  const models::MambaLM model = two_layers(models::Architecture::kMamba2);
  const auto forward = aligned(model, task, Direction::kForward),
             reverse = aligned(model, task, Direction::kReverse);
  AlignmentTask swapped = task;
  for (data::SentencePair& pair : swapped.pairs) std::swap(pair.source, pair.target);
  const auto turned = aligned(model, swapped, Direction::kForward);
  const MapKey key{"l2", "activation", 1};
  for (const Link& link : turned[1].at(key))
    EXPECT_TRUE(reverse[1].at(key).contains({link.target, link.source}));
  EXPECT_EQ(turned[1].at(key).size(), reverse[1].at(key).size());

  const Json scores = symmetrised_scores(task, forward, reverse, {"intersection", "union"});
  const auto best = [&](const std::vector<MapLinks>& links) {
    return MapKey{"l2", "activation",
                  map_scores(task, links)["l2 · activation"]["best_layer"].get<int64_t>()};
  };
  AlignmentScore expected;
  for (size_t n = 2; n < 4; ++n)
    expected += alignment_score(
        symmetrise(forward[n].at(best(forward)), reverse[n].at(best(reverse)), Symmetrisation::kUnion),
        task.gold[n]);
  EXPECT_EQ(scores["l2 · activation, best layers"]["union"], alignment_score_json(expected));
  EXPECT_TRUE(scores.contains("l2 · activation, layer_mean"));
}

}  // namespace
}  // namespace exactmamba::eval
