#include "data/tolerance.h"

#include "core/log.h"
#include "core/utf8.h"

namespace exactmamba::data {

OnInvalidUtf8 on_invalid_utf8(const std::string& name) {
  return core::enum_from_name<OnInvalidUtf8>(kOnInvalidUtf8Names, name, "on_invalid_utf8");
}

OnBadRecord on_bad_record(const std::string& name) {
  return core::enum_from_name<OnBadRecord>(kOnBadRecordNames, name, "on_bad_record");
}

Tolerance counting(LeftOut& left_out, OnInvalidUtf8 on_invalid, OnBadRecord on_bad_record) {
  Tolerance tolerance = counting_quietly(left_out, on_invalid, on_bad_record);
  if (tolerance.skip)
    tolerance.skip = [&left_out, count = tolerance.skip](const std::string& problem) {
      if (left_out.bad_records == 0)
        core::log_warning(fmt::format("{} (left out: data.on_bad_record, --on-bad-record)", problem));
      count(problem);
    };
  return tolerance;
}

Tolerance counting_quietly(LeftOut& left_out, OnInvalidUtf8 on_invalid, OnBadRecord on_bad_record) {
  Tolerance tolerance(on_invalid);
  tolerance.null = [&left_out](const std::string&) { ++left_out.nulls; };
  if (on_bad_record == OnBadRecord::kSkip)
    tolerance.skip = [&left_out](const std::string& problem) {
      if (left_out.bad_records++ == 0) left_out.first_bad = problem;
    };
  return tolerance;
}

void log_left_out(const LeftOut& left_out, const std::string& name) {
  if (left_out.bad_records > 0)
    core::log_warning(fmt::format("{}: {} bad records are left out (data.on_bad_record, --on-bad-record)",
                                  name, left_out.bad_records));
  if (left_out.nulls > 0)
    core::log_info(fmt::format("{}: {} rows without a text (null) are left out", name, left_out.nulls));
}

std::string left_out_text(std::vector<std::pair<int64_t, std::string>> others, const LeftOut& left_out) {
  others.emplace_back(left_out.nulls, "without a text (null)");
  others.emplace_back(left_out.bad_records, "bad, the first: " + left_out.first_bad);
  std::string text;
  for (const auto& [count, what] : others)
    if (count > 0) text += fmt::format("{}{} {}", text.empty() ? ": left out are " : ", ", count, what);
  return text;
}

std::string LengthLimits::text() const {
  return fmt::format("data.min_characters = {}, data.max_characters = {}", min_characters, max_characters);
}

bool LengthLimits::allow(std::string_view text) const {
  if (min_characters == 0 && max_characters == 0) return true;
  const auto characters = static_cast<int64_t>(core::count_characters(text));
  return characters >= min_characters && (max_characters == 0 || characters <= max_characters);
}

}  // namespace exactmamba::data
