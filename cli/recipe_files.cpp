#include "cli/recipe_files.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>

#include "cli/alignment.h"
#include "cli/model_origin.h"
#include "cli/problems.h"
#include "core/environment.h"
#include "core/error.h"
#include "data/datasets.h"
#include "data/parallel_text.h"
#include "data/tolerance.h"
#include "eval/alignment/alignment_task.h"
#include "eval/comet/comet_model.h"
#include "eval/translation_scores.h"
#include "models/checkpoint.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

void require_file(const fs::path& file) {
  core::require<core::IoError>(fs::is_regular_file(file), "{}: {}", file.string(),
                               fs::is_directory(file) ? "is a folder, and not a file" : "no such file");
}

/// Of one run.
class Checker {
 public:
  Checker(const RecipeRun& run, ReadThrough what, Problems& problems)
      : run_(run), what_(what), problems_(problems) {}

  void check() {
    check_model();
    check_tokenizer();
    const data::DataOptions& data = run_.recipe.data;
    const bool all = what_ == ReadThrough::kAll;
    check_data("data.train", data.train, all);
    check_data("data.valid", data.valid, true);
    check_data("data.exclude", data.exclude, all);
    check_evaluation();
  }

 private:
  /// "r.toml:3:9: data.train"
  std::string place(const std::string& key) const {
    return fmt::format("{}: {}", run_.schema.at(key).origin(), key);
  }
  bool applies(const std::string& key) const { return run_.schema.applies(key); }
  bool has_pairs() const { return run_.recipe.data.task == "translation"; }

  bool are_there(const std::string& key, const Names& files) {
    bool all = true;
    for (const std::string& file : files) {
      problems_.attempt(place(key), [&] {
        all = all && fs::is_regular_file(file);
        require_file(file);
      });
    }
    return all;
  }

  /// The files that a name stands for, when it is well-formed and they are there.
  bool is_there(const std::string& key, const std::string& name, bool pairs) {
    Names files;
    problems_.attempt(place(key), [&] {
      const std::string path = core::expand_environment(name).string();
      files = pairs ? data::pair_files(path) : Names{path};
    });
    return !files.empty() && are_there(key, files);
  }

  void check_data(const std::string& key, const Names& names, bool read_through) {
    if (!applies(key) || names.empty()) return;
    bool all_there = true;
    for (const std::string& name : names) {
      const bool there = is_there(key, name, has_pairs());
      all_there = all_there && there;
      if (there && read_through && has_pairs()) check_pairs(key, name);
    }
    const auto is_empty = [](const std::string& name) {
      return fs::file_size(core::expand_environment(name)) == 0;
    };
    if (all_there && !has_pairs() && std::all_of(names.begin(), names.end(), is_empty))
      problems_.add(fmt::format("{}: there is nothing in {}", place(key), fmt::join(names, ", ")));
  }

  /// Sides of different lengths, and no pair at all.
  void check_pairs(const std::string& key, const std::string& name) {
    const data::DataOptions& options = run_.recipe.data;
    data::Tolerance tolerance(data::on_invalid_utf8(options.on_invalid_utf8));
    const bool skips = key.starts_with("data.") && key != "data.exclude" &&
                       data::on_bad_record(options.on_bad_record) == data::OnBadRecord::kSkip;
    if (skips) tolerance.skip = [](const std::string&) {};
    problems_.attempt(place(key), [&] {
      int64_t pairs = 0;
      const std::string path = core::expand_environment(name).string();
      data::read_pairs(path, tolerance, [&pairs](const data::SentencePair&, const std::string&) { ++pairs; });
      core::require(pairs > 0, "{}: there is no pair of sentences in it", path);
    });
  }

  void check_model() {
    if (run_.base != nullptr || run_.recipe.model.from.empty()) return;
    problems_.attempt(place("model.from"), [this] {
      const fs::path checkpoint = run_.recipe.model.checkpoint();
      refuse_run_folder(checkpoint);
      models::load_config(checkpoint);
    });
  }

  void check_tokenizer() {
    if (!applies("data.tokenizer")) return;
    problems_.attempt(place("data.tokenizer"), [this] { data::vocabulary_of(run_.recipe.data); });
  }

  void check_evaluation() {
    const eval::EvaluateOptions& options = run_.recipe.evaluate;
    if (applies("evaluate.test"))
      problems_.attempt(place("evaluate.test"), [&] { eval::check_test_names(options.test); });
    for (const std::string& name : options.test) {
      if (applies("evaluate.test") && is_there("evaluate.test", name, true))
        check_pairs("evaluate.test", name);
    }
    if (aligns(run_)) check_alignment(options.alignment);
    if (!options.comet_model.empty())
      problems_.attempt(place("evaluate.comet_model"),
                        [&] { eval::check_comet_files(core::expand_environment(options.comet_model)); });
  }

  void check_alignment(const eval::AlignmentOptions& options) {
    bool all = true;
    const auto look = [&](const std::string& key, const std::string& name, bool pairs) {
      if (!name.empty()) all = is_there("evaluate.alignment." + key, name, pairs) && all;
    };
    look("sentences", options.sentences, true);
    look("gold", options.gold, false);
    look("dev_sentences", options.dev_sentences, true);
    look("dev_gold", options.dev_gold, false);
    if (all) check_alignment_task(options);
    if (!options.reverse_model.empty())
      problems_.attempt(place("evaluate.alignment.reverse_model"),
                        [&] { models::load_config(core::expand_environment(options.reverse_model)); });
  }

  /// Runs `check` of options of [evaluate.alignment] that must fit each other; the place is that of the
  /// decisive one.
  template <class Check>
  void attempt_together(const Names& names, const Check& check) {
    Names keys;
    for (const std::string& name : names)
      if (run_.schema.at("evaluate.alignment." + name).is_set()) keys.push_back("evaluate.alignment." + name);
    problems_.attempt(place(run_.schema.decisive(keys).key()), check,
                      " [" + run_.schema.values_text(keys) + "]");
  }

  void check_alignment_task(const eval::AlignmentOptions& options) {
    if (!options.dev_sentences.empty())
      attempt_together({"dev_gold", "dev_sentences", "gold_base", "gold_format", "gold_target_first"},
                       [&] { eval::read_aligned_pairs(options.dev_sentences, options.dev_gold, options); });
    std::optional<eval::AlignmentTask> task;
    attempt_together({"gold", "sentences", "gold_base", "gold_format", "gold_target_first"},
                     [&] { task = eval::read_aligned_pairs(options.sentences, options.gold, options); });
    if (task)
      attempt_together({"dev_pairs", "sentences"}, [&] { eval::check_dev_pairs(options, task->size()); });
  }

  const RecipeRun& run_;
  ReadThrough what_;
  Problems& problems_;
};

}  // namespace

void check_files(const RecipeFile& file, ReadThrough what) {
  Problems problems;
  std::set<std::string> checked;
  for (const auto& run : file.runs) {
    if (checked.insert(run->schema.canonical({"model", "data", "evaluate"}).dump()).second)
      Checker(*run, what, problems).check();
  }
  problems.throw_if_any();
}

}  // namespace exactmamba::cli
