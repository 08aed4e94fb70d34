// The subcommands. Results go to stdout, progress and messages to stderr; failures are thrown (core/error.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/translation.h"

namespace exactmamba::cli {

/// More would take minutes to begin, on any machine.
inline constexpr int64_t kMostThreads = 1024;

struct CommonArguments {
  bool quiet = false;
  bool json = false;
  int64_t threads = 0;  // 0: all
};

/// A recipe and what to change in it.
struct RecipeArguments {
  CommonArguments common;
  std::string file;               // "-": stdin
  std::vector<std::string> sets;  // "train.lr=1e-3"
  bool overwrite = false;         // use an output folder that has other files in it
};

/// Of commands that train, in one process or in several.
struct TrainingArguments {
  RecipeArguments recipe;
  int64_t processes = 0;  // 0: this one
  std::string gpus;       // a number or "all", a process each; "": none are started
  std::vector<std::string> command_line;
};

/// Token ids for one row.
struct TokenArguments {
  std::string ids;         // "1,2,3"; "-": stdin
  std::string text;        // for `tokenizer`
  std::string tokenizer;   // data::open_tokenizer; "": the model's own, or bytes
  std::string cu_seqlens;  // "0,3,7"; "": one sequence
};

/// A model and tokens to feed it.
struct ModelArguments {
  CommonArguments common;
  std::string model;  // what model_of() takes, as for every command
  TokenArguments tokens;
  std::string dtype = "float32";          // "float32" | "float64"
  std::string device = "auto";            // core::kDeviceNames
  std::string compute_dtype = "float32";  // models::kGpuComputeNames
  std::string output;                     // "-": stdout
  bool overwrite = false;
};

void run(const TrainingArguments& arguments);
void train(const TrainingArguments& arguments);
void report(const RecipeArguments& arguments);

struct EvaluateArguments {
  RecipeArguments recipe;
  std::string model;  // instead of the recipe's own runs
};
void evaluate(const EvaluateArguments& arguments);

struct DecomposeArguments {
  RecipeArguments recipe;
  ModelArguments model;               // `model` set: one row through one model instead of a recipe
  std::string targets = "predicted";  // "predicted" | "next" | ids, "1,2,3"
  bool full = false;
};
void decompose(const DecomposeArguments& arguments);

struct ValidateArguments {
  RecipeArguments recipe;
  bool reference = false;
};
void validate(const ValidateArguments& arguments);

struct InspectArguments {
  CommonArguments common;
  std::string path;
};
void inspect(const InspectArguments& arguments);

struct ConvertArguments {
  CommonArguments common;
  std::string model, to = "hf", names, output;
  std::string dtype;    // "": as the model is stored
  std::string licence;  // as model hubs spell it; "": not stated
  bool overwrite = false;
};
void convert(const ConvertArguments& arguments);

struct GenerateArguments {
  ModelArguments model;
  std::string prompts;  // a file with one each line, "-": stdin; "": that of model.tokens
  int64_t batch = 32;   // of these, continued together
  std::string on_invalid_utf8 = "fail";
  int64_t max_new_tokens = 100;
  std::optional<double> max_ratio;  // to the tokens of the prompt
  std::optional<int64_t> stop;      // -1: none; unset: the tokenizer's end token, or the model's
  bool bfloat16_states = false;
  std::optional<int64_t> beam;               // beam search
  std::optional<double> length_penalty;      // of it
  std::optional<double> temperature, top_p;  // any of these three: sampling
  std::optional<int64_t> top_k, seed;        // seed: of sampling
  int64_t n_best = 1;                        // results of either
};
void generate(const GenerateArguments& arguments);

struct TranslateArguments {
  ModelArguments model;
  eval::TranslateOptions options;
  std::optional<int64_t> window;  // most lines; unset: 1 from a terminal, else 1000
  std::string on_invalid_utf8 = "fail";
};
void translate(const TranslateArguments& arguments);

struct ForwardArguments {
  ModelArguments model;
  bool blocks = false;
};
void forward(const ForwardArguments& arguments);

/// Of commands that read texts.
struct TextArguments {
  std::vector<std::string> files;
  std::string text_key = "text";         // of JSON lines
  std::string on_invalid_utf8 = "fail";  // data::kOnInvalidUtf8Names
  std::string on_bad_record = "fail";    // data::kOnBadRecordNames
};

struct TokenizeArguments {
  CommonArguments common;
  TextArguments in;       // no files: stdin
  std::string tokenizer;  // data::open_tokenizer
  bool decode = false;
  bool skip_special = false;
};
void tokenize(const TokenizeArguments& arguments);

struct TrainTokenizerArguments {
  CommonArguments common;
  TextArguments in;
  int64_t vocab_size = 0, min_frequency = 0;
  std::vector<std::string> special;
  bool nfc = false;
  std::string output;  // "-": stdout
  bool overwrite = false;
};
void train_tokenizer(const TrainTokenizerArguments& arguments);

/// Of commands that score translations, line by line.
struct ScoreArguments {
  CommonArguments common;
  std::string hypotheses = "-";  // "-": stdin
  std::vector<std::string> references;
  bool sentence_level = false;
  std::string compare;       // other hypotheses; "": none
  int64_t resamples = 1000;  // eval::BootstrapOptions
  uint32_t seed = 12345;
  int digits = 1;  // after the point
};

struct ScoreBleuArguments {
  ScoreArguments score;
  std::string tokenizer = "13a";  // eval::kBleuTokenizerNames
  std::string smoothing = "exp";  // eval::kSmoothingNames
  std::optional<double> smooth_value;
  bool lowercase = false;
};
void score_bleu(const ScoreBleuArguments& arguments);

struct ScoreChrfArguments {
  ScoreArguments score;
  size_t char_order = 6, word_order = 0, beta = 2;
  bool lowercase = false, whitespace = false, eps_smoothing = false;
};
void score_chrf(const ScoreChrfArguments& arguments);

struct ScoreTerArguments {
  ScoreArguments score;
  bool normalized = false, no_punct = false, asian_support = false, case_sensitive = false;
};
void score_ter(const ScoreTerArguments& arguments);

struct ScoreAerArguments {
  CommonArguments common;
  std::vector<std::string> alignments;
  std::string format = "pharaoh", base;  // eval::kAlignmentFormatNames; "0" | "1"
  bool target_first = false;
  std::string gold, gold_format = "talp", gold_base;
  bool gold_target_first = false;
  std::string reverse;  // of the other direction; "": none
  bool reverse_target_first = false;
  std::vector<std::string> symmetrise;  // eval::kSymmetrisationNames
  std::string sentences;                // as data::read_pairs; "": unknown
  std::string output;                   // "": nowhere
};
void score_aer(const ScoreAerArguments& arguments);

struct ScoreCometArguments {
  CommonArguments common;
  std::string model;  // a COMET model folder
  std::string hypotheses = "-", source, reference;
  std::string dtype = "float32";  // eval::kCometDtypeNames
  std::string device = "auto";    // core::kDeviceNames
  bool sentence_level = false;
  int digits = 4;  // after the point
};
void score_comet(const ScoreCometArguments& arguments);

void print_version();

}  // namespace exactmamba::cli
