// How a column's values are shown: the same in the terminal, in Markdown and on the page.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace exactmamba::eval {

struct Column {
  std::string key, title, unit, better, help;
  int digits = 3;

  std::string heading() const { return unit.empty() ? title : title + " (" + unit + ")"; }
  /// "98.5" for 0.985 in %, "2.1e-16" for what the digits would hide, "28.3 ± 0.7" where the row has half an
  /// interval, "–" for a missing value.
  std::string cell(const core::Json& row) const;
};

std::vector<Column> columns_of(const core::Json& report);
/// The value, or NaN when the row has none.
double value_of(const core::Json& row, const std::string& key);
/// How the best value of a column is shown; "" where no direction is better, or all values look the same.
std::string best_cell(const core::Json& report, const Column& column);

}  // namespace exactmamba::eval
