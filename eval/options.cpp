#include "eval/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "decomp/options.h"
#include "eval/alignment/files.h"
#include "eval/alignment/symmetrise.h"
#include "eval/alignment/word_map.h"

namespace exactmamba::eval {
namespace {

/// An option of [evaluate.alignment], which has a meaning where there are sentences to align.
core::Option& alignment_option(core::Schema& schema, const std::string& name, core::Option::Target target) {
  return schema.option("evaluate.alignment." + name, target)
      .only_with("data.task", {"translation"})
      .only_with("evaluate.alignment.sentences");
}

void bind_gold(core::Schema& schema, AlignmentOptions& options) {
  schema.option("evaluate.alignment.sentences", &options.sentences)
      .only_with("data.task", {"translation"})
      .help(
          "Tokenised sentence pairs, as in data.train (e.g. test.{de,en}); a word is what blanks and tabs "
          "separate. Empty: no alignments.");
  alignment_option(schema, "gold", &options.gold).help("Gold links of these pairs.");
  alignment_option(schema, "gold_format", &options.gold_format)
      .choices({"talp", "naacl"})
      .help("talp: a line a pair, 3-4 sure, 3p4 possible; naacl: a line a link, as 1 3 4 S.");
  alignment_option(schema, "gold_base", &options.gold_base)
      .choices({"0", "1"})
      .help("Number of the first word in gold; it has to be said.");
  alignment_option(schema, "gold_target_first", &options.gold_target_first)
      .help("Gold has the target's word first, as when the model translates the other way.");
  alignment_option(schema, "dev_pairs", &options.dev_pairs)
      .range(0, 1e9)
      .unit("pairs")
      .help("The first pairs are a development part: layers are chosen by them, and no score counts them.");
  alignment_option(schema, "dev_sentences", &options.dev_sentences)
      .help("Other pairs as the development part.");
  alignment_option(schema, "dev_gold", &options.dev_gold)
      .only_with("evaluate.alignment.dev_sentences")
      .help("Their gold, in the form of gold.");
}

void bind_alignment(core::Schema& schema, AlignmentOptions& options) {
  schema.table("evaluate.alignment",
               "Word alignments of a translation model: its target given, each target word linked to the "
               "source word that [decompose]'s approximations, bias and dtype say it hears most of.");
  bind_gold(schema, options);
  alignment_option(schema, "methods", &options.methods)
      .choices(core::choices_of(decomp::kMethodNames))
      .help("Maps that links are read from, of every layer.");
  alignment_option(schema, "rows", &options.rows)
      .choices(core::choices_of(kAlignmentRowsNames))
      .help("Row of a target word: awo, of the step that emits it; awi, of the step that consumes it.");
  alignment_option(schema, "reverse_model", &options.reverse_model)
      .help("Folder of a model that translates the other way; its own tokenizer reads the sentences.");
  alignment_option(schema, "symmetrise", &options.symmetrise)
      .choices(core::choices_of(kSymmetrisationNames))
      .only_with("evaluate.alignment.reverse_model")
      .help("How the links of both models become one alignment.");
  // Each with the key that is to be changed, where --set may stand, and the one that asks for it.
  const auto rule = [&](const std::string& key, const std::string& asking, const std::string& problem,
                        std::function<bool()> is_wrong) {
    schema.rule({"evaluate.alignment." + key, "evaluate.alignment." + asking},
                [&options, problem, is_wrong = std::move(is_wrong)] {
                  return !options.sentences.empty() && is_wrong() ? problem : "";
                });
  };
  rule("gold", "sentences", "alignments are scored against evaluate.alignment.gold, which is empty",
       [&options] { return options.gold.empty(); });
  rule("gold_base", "sentences",
       "say whether the words of the gold links count from 0 or 1: evaluate.alignment.gold_base",
       [&options] { return options.gold_base.empty(); });
  rule("methods", "sentences", "evaluate.alignment.methods is empty",
       [&options] { return options.methods.empty(); });
  rule("dev_gold", "dev_sentences", "evaluate.alignment.dev_sentences has no evaluate.alignment.dev_gold",
       [&options] { return !options.dev_sentences.empty() && options.dev_gold.empty(); });
  rule("dev_pairs", "dev_sentences",
       "the development part is either evaluate.alignment.dev_sentences or dev_pairs",
       [&options] { return !options.dev_sentences.empty() && options.dev_pairs > 0; });
}

/// NaN: it is none.
double number_of(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
  return whole ? value : std::nan("");
}

bool is_citation(const std::string& text) {
  const std::string dash = "–";
  const size_t middle = text.find(dash);
  if (middle == std::string::npos) return text.empty() || !std::isnan(number_of(text));
  return number_of(text.substr(0, middle)) < number_of(text.substr(middle + dash.size()));
}

std::string repeated(const std::vector<std::string>& names) {
  for (auto name = names.begin(); name != names.end(); ++name)
    if (std::find(names.begin(), name, *name) != name) return fmt::format("'{}' stands there twice", *name);
  return "";
}

std::string citation_problem(const PublishedOptions& options) {
  const size_t runs = options.runs.size(), columns = options.columns.size();
  if (options.values.size() != runs * columns)
    return fmt::format("{} values do not fill a table of {} × {}: one for every run and column",
                       options.values.size(), runs, columns);
  for (const std::string& value : options.values) {
    if (!is_citation(value))
      return fmt::format("'{}' is no number, no range from less to more (0.44–0.52), and not empty", value);
  }
  const std::string problem = repeated(options.columns);
  return problem.empty() ? repeated(options.runs) : problem;
}

}  // namespace

void bind(core::Schema& schema, EvaluateOptions& options) {
  schema.table("evaluate", "What a trained model is measured by.");
  schema.option("evaluate.batch_size", &options.batch_size)
      .range(1, 65536)
      .unit("rows")
      .help("Rows evaluated at a time.")
      .cosmetic();
  schema.option("evaluate.max_rows", &options.max_rows)
      .range(0, 1e12)
      .unit("rows")
      .help("Rows of the validation data to use; 0: all.");
  schema.option("evaluate.free_running", &options.free_running)
      .only_with("data.task", {"copy"})
      .help("Also measure copies that the model generates from its own characters.");
  schema.option("evaluate.bleu", &options.bleu)
      .only_with("data.task", {"translation"})
      .help("Translate data.valid and the test sets, and score them by BLEU and chrF.");
  schema.option("evaluate.test", &options.test)
      .only_with("data.task", {"translation"})
      .only_with("evaluate.bleu", {"true"})
      .help("Test sets to translate beside data.valid, named as data.train names its pairs.");
  schema.option("evaluate.beam", &options.beam)
      .range(1, 1024)
      .only_with("data.task", {"translation"})
      .only_with("evaluate.bleu", {"true"})
      .help("Translations that are followed at a time; 1: the most likely token again and again.");
  schema.option("evaluate.length_penalty", &options.length_penalty)
      .range(-100, 100)
      .only_with("data.task", {"translation"})
      .only_with("evaluate.bleu", {"true"})
      .help("A translation's score is divided by its length to this power.");
  schema.option("evaluate.max_ratio", &options.max_ratio)
      .range(1e-3, 1e6)
      .only_with("data.task", {"translation"})
      .only_with("evaluate.bleu", {"true"})
      .help("Most tokens of a translation for each of its source.");
  schema.option("evaluate.comet_model", &options.comet_model)
      .only_with("data.task", {"translation"})
      .only_with("evaluate.bleu", {"true"})
      .only_with("evaluate.test")
      .help(
          "COMET model folder (of the kind of wmt22-comet-da, as `exactmamba score comet` takes it) that "
          "scores the test sets, in float32 on run.device. Empty: reports show – for COMET.");
  bind_alignment(schema, options.alignment);
}

void bind(core::Schema& schema, ReportOptions& options) {
  schema.table("report", "What the report shows; never changes a result.");
  schema.option("report.title", &options.title).help("Heading of the report; empty: the run's name.");
  schema.option("report.columns", &options.columns)
      .help(
          "Columns of the tables, in this order, by their keys in report.json; the first parts of a key "
          "stand for all that begin with them (error, bleu). All columns are in report.html and report.json. "
          "Empty: published.columns, or all.");
  schema.option("report.map_rows", &options.map_rows)
      .range(0, 1000)
      .unit("rows")
      .help("Texts whose interaction maps the page shows; of pairs with gold alignments at most 4.");
  schema.option("report.max_map_tokens", &options.max_map_tokens)
      .range(1, 512)
      .unit("tokens")
      .help("Maps of longer texts are cut to their first positions.");
}

core::Json PublishedOptions::of_run(const std::string& label) const {
  core::Json result = core::Json::object();
  const auto run = static_cast<size_t>(std::find(runs.begin(), runs.end(), label) - runs.begin());
  for (size_t k = 0; k < columns.size() && run < runs.size(); ++k) {
    const std::string& value = values[run * columns.size() + k];
    if (!value.empty()) result[columns[k]] = value;
  }
  return result;
}

void bind(core::Schema& schema, PublishedOptions& options) {
  schema.table("published",
               "What others have published of such runs, to stand beside ours in the tables: each of these "
               "columns becomes two.");
  schema.option("published.source", &options.source).help("Who published it, and where.");
  schema.option("published.columns", &options.columns)
      .only_with("published.source")
      .help("Columns of the published table, by their keys in report.json.");
  schema.option("published.runs", &options.runs)
      .only_with("published.source")
      .help("Its rows, by the labels of this recipe's runs.");
  schema.option("published.values", &options.values)
      .only_with("published.source")
      .help(
          "Its cells, row by row, as they are printed there: a number, a range of two with an en dash "
          "between, or nothing.");
  schema.rule({"published.values", "published.columns", "published.runs"},
              [&options] { return citation_problem(options); });
}

}  // namespace exactmamba::eval
