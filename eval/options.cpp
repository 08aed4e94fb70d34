#include "eval/options.h"

namespace exactmamba::eval {

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
      .help("Test sets to translate beside data.valid, named as data.train names its pairs.");
  schema.option("evaluate.beam", &options.beam)
      .range(1, 1024)
      .only_with("data.task", {"translation"})
      .help("Translations that are followed at a time; 1: the most likely token again and again.");
  schema.option("evaluate.length_penalty", &options.length_penalty)
      .range(-100, 100)
      .only_with("data.task", {"translation"})
      .help("A translation's score is divided by its length to this power.");
  schema.option("evaluate.max_ratio", &options.max_ratio)
      .range(1e-3, 1e6)
      .only_with("data.task", {"translation"})
      .help("Most tokens of a translation for each of its source.");
}

void bind(core::Schema& schema, ReportOptions& options) {
  schema.table("report", "What the report shows; never changes a result.");
  schema.option("report.title", &options.title).help("Heading of the report; empty: the run's name.");
  schema.option("report.map_rows", &options.map_rows)
      .range(0, 1000)
      .unit("rows")
      .help("Texts whose interaction maps the page shows.");
  schema.option("report.max_map_tokens", &options.max_map_tokens)
      .range(1, 512)
      .unit("tokens")
      .help("Maps of longer texts are cut to their first positions.");
}

}  // namespace exactmamba::eval
