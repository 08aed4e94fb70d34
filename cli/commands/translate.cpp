#include <unistd.h>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/model_device.h"
#include "cli/model_origin.h"
#include "cli/output.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "core/stop_signal.h"
#include "data/line_reader.h"

namespace exactmamba::cli {
namespace {

constexpr int64_t kWindow = 1000;

/// Lines of the input and what is written for them, a window at a time.
class Translator {
 public:
  explicit Translator(const TranslateArguments& arguments)
      : Translator(arguments, model_of(arguments.model.model)) {}

  void run() {
    data::LineReader reader(data::kStdin, data::on_invalid_utf8(arguments_.on_invalid_utf8));
    const auto window =
        static_cast<size_t>(arguments_.window.value_or(::isatty(STDIN_FILENO) == 1 ? 1 : kWindow));
    for (auto lines = reader.next_lines(window); !lines.empty(); lines = reader.next_lines(window))
      flush(lines);
  }

 private:
  Translator(const TranslateArguments& arguments, const std::filesystem::path& folder)
      : arguments_(arguments),
        tokenizer_(data::TranslationTokenizer::load(folder)),
        model_(load_model_on_device(arguments.model, folder)) {
    model_.set_vocab_size(tokenizer_.tokenizer()->vocab_size());
  }

  /// A stop that is asked for meanwhile waits for the end of a batch; what is written is whole windows.
  void flush(const std::vector<std::string>& lines) {
    const core::StopHandler handler;
    write_result(output_of(lines));
    written_ += static_cast<int64_t>(lines.size());
  }

  std::string output_of(const std::vector<std::string>& lines) {
    std::optional<core::Progress> progress;
    if (core::terminal_columns(STDERR_FILENO) > 0 && ::isatty(STDOUT_FILENO) == 0)
      progress.emplace(fmt::format("from line {}", written_ + 1), static_cast<int64_t>(lines.size()), "line");
    const auto told = [&](int64_t done) {
      if (progress) progress->update(done, static_cast<double>(done));
      const int signal = core::stop_requested();
      if (signal != 0)
        throw core::Interrupted(signal,
                                fmt::format("stopped while translating; {} lines are done", written_));
    };
    std::string output;
    if (arguments_.options.n_best == 1 && !arguments_.model.common.json) {
      for (const std::string& text : eval::translate(model_, tokenizer_, lines, arguments_.options, told))
        output += text + '\n';
      return output;
    }
    int64_t number = written_;
    for (const auto& found : eval::n_best_translations(model_, tokenizer_, lines, arguments_.options, told))
      output += arguments_.model.common.json ? json_line(found) : moses_lines(found, number++);
    return output;
  }

  static std::string json_line(const std::vector<eval::Translation>& found) {
    core::Json translations = core::Json::array();
    for (const eval::Translation& each : found)
      translations.push_back({{"text", each.text}, {"score", each.score}});
    return core::json_text({{"translations", translations}}) + "\n";
  }

  /// `number`: of the input line, from 0.
  static std::string moses_lines(const std::vector<eval::Translation>& found, int64_t number) {
    std::string lines;
    for (const eval::Translation& each : found)
      lines += fmt::format("{} ||| {} ||| {:.6f}\n", number, each.text, each.score);
    return lines;
  }

  const TranslateArguments& arguments_;
  data::TranslationTokenizer tokenizer_;
  models::MambaLM model_;
  int64_t written_ = 0;  // lines of the input
};

}  // namespace

void translate(const TranslateArguments& arguments) {
  eval::check(arguments.options);
  Translator(arguments).run();
}

}  // namespace exactmamba::cli
