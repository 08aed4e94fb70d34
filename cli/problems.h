// What is wrong with a recipe and the files that it names, told together.
#pragma once

#include <string>
#include <vector>

#include "core/error.h"

namespace exactmamba::cli {

/// Lines, each once.
class Problems {
 public:
  /// A line each of `message`.
  void add(const std::string& message);
  /// Runs `check`; what it throws is a problem of `place`. `behind`: of the message, as " [key = value]".
  template <class Check>
  void attempt(const std::string& place, const Check& check, const std::string& behind = "") {
    collect(place + ": ", check, behind);
  }
  /// Runs `check`, which says itself where a problem is.
  template <class Check>
  void attempt(const Check& check) {
    collect("", check, "");
  }
  bool empty() const { return lines_.empty(); }
  const std::vector<std::string>& lines() const { return lines_; }
  /// @throws IoError when a check threw one, else InputError, unless there is no line
  void throw_if_any() const;

 private:
  template <class Check>
  void collect(const std::string& before, const Check& check, const std::string& behind) {
    try {
      check();
    } catch (const core::IoError& error) {
      any_missing_ = true;
      add(before + error.what() + behind);
    } catch (const core::InputError& error) {
      add(before + error.what() + behind);
    }
  }

  std::vector<std::string> lines_;
  bool any_missing_ = false;
};

/// Runs `make`; what it throws is thrown with `place` in front.
template <class Make>
void at_place(const std::string& place, const Make& make) {
  Problems problems;
  problems.attempt(place, make);
  problems.throw_if_any();
}

}  // namespace exactmamba::cli
