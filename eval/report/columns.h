// How a column's values are shown: the same in the terminal, in Markdown and on the page.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace exactmamba::eval {

struct Column {
  std::string key, title, unit, better, help;
  int digits = 3;
  bool published = false;  // of what is published, not of values

  std::string heading() const { return unit.empty() ? title : title + " (" + unit + ")"; }
  /// "98.5" for 0.985 in %, "2.1e-16" for what the digits would hide, "28.3 ± 0.7" where the row has half an
  /// interval, "–" for a missing value, the row's state where it has none at all.
  std::string cell(const core::Json& row) const;
  /// What the cell is sorted by: NaN where it has none; of a published range the first.
  double value(const core::Json& row) const;
};

/// The columns that tables show, or all; what is published of one stands in front of it.
enum class Which { kShown, kAll };
std::vector<Column> columns_of(const core::Json& report, Which which = Which::kShown);
/// How the best value of a column is shown; "" where no direction is better, or all values look the same.
std::string best_cell(const core::Json& report, const Column& column);

}  // namespace exactmamba::eval
