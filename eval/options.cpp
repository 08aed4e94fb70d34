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
