// The comparison that a run ends in: one row per model, one JSON document as the source, Markdown, CSV, LaTeX
// and HTML made from it.
//
// report.json:
//   format_version, program, title, recipe (TOML text), provenance {name: text}
//   columns [{key, title, unit ("%": values are fractions), better ("higher" | "lower" | ""), digits, help}]
//   shown   [keys]: the columns of the tables, in this order; all where it is missing or empty
//   rows    [{label, settings {name: text},
//             values  {column key: number | null},
//             published {column key: text}, as the provenance's "published values" has it printed
//             state   why there are no values: "not run"
//             half_widths {column key: half of the value's 95 % interval}, where there is one
//             curves  {name: {x: [steps], y: [numbers]}},            e.g. "loss", "string accuracy"
//             error_curves {approximation: {measure, steps,
//                                           alpha: [one per evaluation of the training],
//                                           layers: [one list per layer]}}, with train.eval_error only
//             layers  {measure: {series: [one number per layer]}},
//                     e.g. "approximation error (l2_mean)": {"activation": […]}
//             maps    [{title, method, text, layer, rows [labels], columns [labels], values [[numbers]]}]
//             alignments [{title, text, rows [target words], columns [source words], values [[numbers]],
//                          sure, possible: gold [[row, column]]}], with [evaluate.alignment] only}]
// rows[i] without label and settings is what evaluation (evaluation.h) returns for one model.
#pragma once

#include <filesystem>
#include <limits>
#include <string>

#include "core/json.h"

namespace exactmamba::eval {

/// Refuses documents that lack the parts above or have a newer format_version. @throws InputError naming
/// `where`
void check_report(const core::Json& report, const std::string& where);

/// The comparison table alone: aligned text. What is wider than `width` characters is wrapped, then cut into
/// blocks of columns below each other.
std::string report_table(const core::Json& report, size_t width = std::numeric_limits<size_t>::max());
std::string report_markdown(const core::Json& report);
/// A line a model: its label, and its values and half widths as they are in report.json, under the columns'
/// keys.
std::string report_csv(const core::Json& report);
/// A tabular of the package booktabs: what the text has, the best of a column in bold.
std::string report_latex(const core::Json& report);
/// One self-contained page: no network, opens from a file, no script but ours runs (Content-Security-Policy
/// with a nonce).
std::string report_html(const core::Json& report);

/// @throws InputError when `folder` has a report.json of a newer format_version, which must not be replaced
void refuse_newer_report(const std::filesystem::path& folder);
/// report.json, .md, .csv, .tex and .html in `folder`, each atomic. @throws IoError; InputError as above
void write_report(const std::filesystem::path& folder, const core::Json& report);

}  // namespace exactmamba::eval
