// What readers do about what is wrong in a file, and which texts are wanted.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/names.h"

namespace exactmamba::data {

/// kReplace: U+FFFD takes its place. kRefuse: as kFail where there is no option to choose, which a message
/// would name.
enum class OnInvalidUtf8 { kFail, kReplace, kRefuse };
inline constexpr core::Names<2> kOnInvalidUtf8Names = {"fail", "replace"};
OnInvalidUtf8 on_invalid_utf8(const std::string& name);  // @throws InputError for another name
inline constexpr const char* kHowToReplace =
    "have what is wrong replaced (data.on_invalid_utf8, --on-invalid-utf8)";

enum class OnBadRecord { kFail, kSkip };
inline constexpr core::Names<2> kOnBadRecordNames = {"fail", "skip"};
OnBadRecord on_bad_record(const std::string& name);  // @throws InputError for another name

/// A line, or a row of a table, that cannot be used, while those behind it can.
class BadRecord : public core::InputError {
 public:
  using InputError::InputError;
};

struct Tolerance {
  using Skip = std::function<void(const std::string& problem)>;
  Tolerance(OnInvalidUtf8 invalid = OnInvalidUtf8::kFail, Skip told = {})
      : on_invalid_utf8(invalid), skip(std::move(told)) {}

  /// Runs `read`. A BadRecord that it throws goes to `skip`, if there is one.
  template <class Read>
  void attempt(const Read& read) const {
    try {
      read();
    } catch (const BadRecord& problem) {
      if (!skip) throw;
      skip(problem.what());
    }
  }

  OnInvalidUtf8 on_invalid_utf8;
  Skip skip;  // told of every bad record, which is then left out; empty: the first one ends the reading
  /// Told of every row of a table without a text, which is left out. It may throw a BadRecord. [nullable]
  std::function<void(const std::string& where)> null;
};

/// What reading leaves out.
struct LeftOut {
  int64_t bad_records = 0, nulls = 0;
  std::string first_bad = {};  // what is wrong with it, and where
};

/// To read with while `left_out` lives: counts there, and warns of the first bad record if they are skipped.
Tolerance counting(LeftOut& left_out, OnInvalidUtf8 on_invalid, OnBadRecord on_bad_record);
/// The same without a word, for what is only looked at, or read once more.
Tolerance counting_quietly(LeftOut& left_out, OnInvalidUtf8 on_invalid, OnBadRecord on_bad_record);
/// The counts that are not 0, of the data called `name`.
void log_left_out(const LeftOut& left_out, const std::string& name);
/// Why nothing is left, behind a message that says so: ": left out are 2 empty, 3 bad, the first: …", or ""
/// when every count is 0. `others`: beside what `left_out` has.
std::string left_out_text(std::vector<std::pair<int64_t, std::string>> others, const LeftOut& left_out);

/// Texts of other lengths are not wanted.
struct LengthLimits {
  int64_t min_characters = 0, max_characters = 0;  // 0: no limit

  bool allow(std::string_view text) const;  // valid UTF-8
  std::string text() const;                 // "data.min_characters = 5, data.max_characters = 0"
};

}  // namespace exactmamba::data
