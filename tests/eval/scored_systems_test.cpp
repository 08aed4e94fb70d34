// Whole test sets with real systems' outputs, whose scores others published (EXACTMAMBA_DATA).
#include <map>
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "data/line_reader.h"
#include "tests/eval/metric_cases.h"

namespace exactmamba::eval {
namespace {

using core::Json;

std::vector<std::string> lines_of(const std::filesystem::path& file) {
  std::vector<std::string> lines;
  data::LineReader reader(file, data::OnInvalidUtf8::kFail, data::kLongestLine, data::ByteOrderMark::kKeep);
  for (std::string line; reader.next(line);) lines.push_back(line);
  return lines;
}

References single(const std::vector<std::string>& lines) {
  References references;
  for (const std::string& line : lines) references.push_back({line});
  return references;
}

TEST(ScoredSystems, Wmt17EnglishGerman) {
  const auto folder = testing::external_data() / "sacrebleu-wmt17-en-de";
  if (testing::external_data().empty()) GTEST_SKIP() << "EXACTMAMBA_DATA is not set";
  const References references = single(lines_of(folder / "reference.de.xz"));
  const Json golden = core::read_json(testing::golden("metrics/wmt17_corpus.json"))["systems"];
  ASSERT_EQ(golden.size(), 8u);
  for (const Json& system : golden) {
    const std::string name = system["system"].get<std::string>();
    const auto hypotheses = lines_of(folder / (name + ".en-de.hyp.de.xz"));
    const auto expect_row = [&](const CorpusMetric& metric, const Json& row) {
      SCOPED_TRACE(name + " " + metric.name() + row["options"].dump());
      expect_golden(metric, SegmentStatistics(metric, hypotheses, references).sums(), references, row);
    };
    for (const Json& row : system["BLEU"]) expect_row(Bleu(bleu_options(row["options"])), row);
    for (const Json& row : system["chrF"]) expect_row(Chrf(chrf_options(row["options"])), row);
    for (const Json& row : system["TER"]) expect_row(Ter(ter_options(row["options"])), row);
  }
}

TEST(ScoredSystems, PublishedBleu) {
  const auto folder = testing::external_data() / "mt-testsets-scored";
  if (testing::external_data().empty()) GTEST_SKIP() << "EXACTMAMBA_DATA is not set";
  size_t systems = 0;
  for (const std::string& line : lines_of(folder / "scores.tsv")) {
    std::vector<std::string> fields;
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, '\t');) fields.push_back(cell);
    if (fields.size() < 8 || fields[7] == "hypothesis_file") continue;
    SCOPED_TRACE(fields[7]);
    const std::string language = fields[0].substr(3);
    // Each pair's two sides are stored once, under the direction into English.
    const std::string pair = language == "en" ? fields[0] : language + "-en";
    const References references =
        single(lines_of(folder / (fields[1] + "." + pair + "." + language + ".xz")));
    const Bleu bleu;
    const SegmentStatistics statistics(bleu, lines_of(folder / fields[7]), references);
    EXPECT_EQ(fmt::format("{:.2f}", bleu.score(statistics.sums())), fields[5]);
    EXPECT_NEAR(bleu.score(statistics.sums()), std::stod(fields[4]), 0.05 + 1e-9);
    ++systems;
  }
  EXPECT_EQ(systems, 23u);
}

}  // namespace
}  // namespace exactmamba::eval
