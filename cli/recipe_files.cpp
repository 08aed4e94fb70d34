#include "cli/recipe_files.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>

#include "cli/alignment.h"
#include "cli/model_origin.h"
#include "cli/problems.h"
#include "cli/run_folder.h"
#include "core/distributed/job.h"
#include "core/environment.h"
#include "core/error.h"
#include "core/log.h"
#include "data/byte_source.h"
#include "data/datasets.h"
#include "data/parallel_text.h"
#include "data/tolerance.h"
#include "eval/alignment/alignment_task.h"
#include "eval/comet/comet_model.h"
#include "eval/translation_scores.h"

namespace exactmamba::cli {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

void require_file(const fs::path& file) {
  core::require<core::IoError>(fs::is_regular_file(file), "{}: {}", file.string(),
                               fs::is_directory(file) ? "is a folder, and not a file" : "no such file");
}

/// What a name stands for.
Names files_of(const std::string& name, bool pairs) {
  const std::string path = core::expand_environment(name).string();
  return pairs ? data::pair_files(path) : Names{path};
}

/// Of one run.
class Checker {
 public:
  /// `new_data`: no run before has the same, which takes long to read.
  Checker(const RecipeRun& run, ReadThrough what, bool new_data, Problems& problems, Problems& warnings)
      : run_(run), what_(what), new_data_(new_data), problems_(problems), warnings_(warnings) {}

  void check() {
    const size_t before = problems_.lines().size();
    check_model();
    check_tokenizer();
    const data::DataOptions& data = run_.recipe.data;
    const bool all = what_ == ReadThrough::kAll;
    check_cache();
    check_data("data.train", data.train, all);
    check_data("data.valid", data.valid, true);
    check_data("data.exclude", data.exclude, all);
    if (all && new_data_ && data.task != "copy" && problems_.lines().size() == before) check_content();
    check_evaluation();
  }

 private:
  std::string place(const std::string& key) const { return place_of(run_, key); }
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
    problems_.attempt(place(key), [&] { files = files_of(name, pairs); });
    return !files.empty() && are_there(key, files);
  }

  /// Runs `check` of options that must fit each other; its place is that of the decisive one.
  template <class Check>
  void attempt_together(Names keys, const Check& check) {
    std::erase_if(keys, [this](const std::string& key) { return run_.schema.at(key).is_left_out(); });
    problems_.attempt(place(run_.schema.decisive(keys).key()), check,
                      " [" + run_.schema.values_text(keys) + "]");
  }

  /// Of several files one may be empty, but that is said.
  void check_data(const std::string& key, const Names& names, bool read_through) {
    if (!applies(key) || names.empty()) return;
    bool all_there = true;
    Names empty;
    for (const std::string& name : names) {
      const bool there = is_there(key, name, has_pairs());
      all_there = all_there && there;
      if (!there) continue;
      problems_.attempt(place(key), [&] {
        if (is_empty(name))
          empty.push_back(name);
        else if (read_through && has_pairs())
          check_pairs(key, name);
      });
    }
    if (!all_there || empty.empty()) return;
    const std::string message = fmt::format("{}: there is nothing in {}", place(key), fmt::join(empty, ", "));
    empty.size() == names.size() ? problems_.add(message) : warnings_.add(message);
  }

  bool is_empty(const std::string& name) const {
    const Names files = files_of(name, has_pairs());
    return std::all_of(files.begin(), files.end(), data::is_empty);
  }

  /// Sides of different lengths, and no pair at all.
  void check_pairs(const std::string& key, const std::string& name) {
    const data::DataOptions& options = run_.recipe.data;
    const bool may_skip = key.starts_with("data.") && key != "data.exclude";
    data::LeftOut left_out;
    const data::Tolerance tolerance = data::counting_quietly(
        left_out, data::on_invalid_utf8(options.on_invalid_utf8),
        may_skip ? data::on_bad_record(options.on_bad_record) : data::OnBadRecord::kFail);
    problems_.attempt(place(key), [&] {
      int64_t pairs = 0;
      const std::string path = core::expand_environment(name).string();
      data::read_pairs(path, tolerance, [&pairs](const data::SentencePair&, const std::string&) { ++pairs; });
      core::require(pairs > 0, "{}: there is no pair of sentences in it{}", path,
                    data::left_out_text({}, left_out));
    });
  }

  /// Whether options and content fit each other, which is known when all pairs or examples are read, or first
  /// documents.
  void check_content() {
    const data::DataOptions& data = run_.recipe.data;
    const auto [training, validation] = keys_of_content();
    attempt_together(training, [&] { data::check_training_files(data); });
    if (!data.valid.empty()) attempt_together(validation, [&] { data::check_validation_files(data); });
  }

  /// What decides on it in data.train, and in data.valid.
  std::pair<Names, Names> keys_of_content() const {
    if (run_.recipe.data.task == "tokens")
      return {{"data.train", "data.vocab_size", "data.context", "data.weights"},
              {"data.valid", "data.vocab_size", "data.context"}};
    Names training = {"data.train", "data.text_key", "data.min_characters", "data.max_characters",
                      "data.weights"},
          validation = {"data.valid", "data.text_key"};
    if (has_pairs()) {
      training = {"data.train",          "data.tokenizer",      "data.context",
                  "data.on_long_pair",   "data.min_characters", "data.max_characters",
                  "data.max_pair_ratio", "data.exclude",        "data.weights"};
      validation = {"data.valid", "data.context"};
    }
    for (Names* keys : {&training, &validation})
      keys->insert(keys->end(), {"data.on_bad_record", "data.on_invalid_utf8"});
    return {training, validation};
  }

  void check_model() {
    if (run_.base != nullptr || run_.recipe.model.from.empty()) return;
    problems_.attempt(place("model.from"), [this] { config_of_named_model(run_.recipe.model.checkpoint()); });
  }

  /// A folder, or what may become one.
  void check_cache() {
    const std::string& name = run_.recipe.data.cache;
    if (!applies("data.cache") || name.empty()) return;
    problems_.attempt(place("data.cache"), [&name] { require_makeable(core::expand_environment(name)); });
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
                        [&] { config_of_named_model(core::expand_environment(options.reverse_model)); });
  }

  void check_alignment_task(const eval::AlignmentOptions& options) {
    const auto with_form = [](const std::string& gold, const std::string& sentences) {
      const std::string table = "evaluate.alignment.";
      return Names{table + gold, table + sentences, table + "gold_base", table + "gold_format",
                   table + "gold_target_first"};
    };
    if (!options.dev_sentences.empty())
      attempt_together(with_form("dev_gold", "dev_sentences"),
                       [&] { eval::read_aligned_pairs(options.dev_sentences, options.dev_gold, options); });
    std::optional<eval::AlignmentTask> task;
    attempt_together(with_form("gold", "sentences"),
                     [&] { task = eval::read_aligned_pairs(options.sentences, options.gold, options); });
    if (task)
      attempt_together({"evaluate.alignment.dev_pairs", "evaluate.alignment.sentences"},
                       [&] { eval::check_dev_pairs(options, task->size()); });
  }

  const RecipeRun& run_;
  ReadThrough what_;
  bool new_data_;
  Problems &problems_, &warnings_;
};

}  // namespace

std::string place_of(const RecipeRun& run, const std::string& key) {
  return fmt::format("{}: {}", run.schema.at(key).origin(), key);
}

void check_files(const RecipeFile& file, ReadThrough what, Warnings warnings_are) {
  Problems problems, warnings;
  std::set<std::string> checked, read;
  for (const auto& run : file.runs) {
    if (!checked.insert(run->schema.canonical({"model", "data", "evaluate"}).dump()).second) continue;
    const bool new_data = read.insert(run->schema.canonical({"data"}).dump()).second;
    Checker(*run, what, new_data, problems, warnings).check();
  }
  problems.throw_if_any();
  if (warnings_are == Warnings::kSaidByOthers || core::job_of_this_process().rank > 0) return;
  for (const std::string& warning : warnings.lines()) core::log_warning(warning);
}

void check_files_of(const RecipeRun& run) {
  Problems problems, said;  // the warnings by check_files()
  Checker(run, ReadThrough::kAll, /*new_data=*/true, problems, said).check();
  problems.throw_if_any();
}

}  // namespace exactmamba::cli
