#include <optional>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "core/error.h"
#include "data/text_reader.h"
#include "data/token_rows.h"
#include "data/tokenizers/open_tokenizer.h"

namespace exactmamba::cli {
namespace {

constexpr size_t kBatch =
    size_t{1} << 20;  // bytes of text that the threads share, or of output written at once

std::string at_place(const std::string& where, const char* problem) {
  return fmt::format("{}: {}", where, problem);
}

/// {"ids": […], "offsets": [[begin, end], …]}
std::string json_line(const data::Encoding& encoding) {
  std::string line = fmt::format("{{\"ids\": [{}], \"offsets\": [", fmt::join(encoding.ids, ", "));
  for (size_t i = 0; i < encoding.offsets.size(); ++i)
    fmt::format_to(std::back_inserter(line), "{}[{}, {}]", i > 0 ? ", " : "", encoding.offsets[i].begin,
                   encoding.offsets[i].end);
  return line + "]}\n";
}

/// Texts on their way to JSON lines: the threads encode a batch of them at a time.
class Encoder {
 public:
  explicit Encoder(const data::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void take(const std::string& text, const std::string& where) {
    batch_.push_back({text, where, {}});
    bytes_ += text.size();
    if (bytes_ >= kBatch || batch_.size() >= kBatch / sizeof(Text)) flush();
  }

  /// @throws InputError of the first text that cannot be encoded, when those before it are written
  void flush() {
    at::parallel_for(0, static_cast<int64_t>(batch_.size()), 1, [this](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) encode(batch_[i]);
    });
    std::string lines;
    std::string problem;
    for (const Text& text : batch_) {
      if (text.problem) problem = *text.problem;
      if (text.problem) break;
      lines += text.text;
    }
    write_result(lines);
    core::require(problem.empty(), "{}", problem);
    batch_.clear();
    bytes_ = 0;
  }

 private:
  struct Text {
    std::string text, where;
    std::optional<std::string> problem;
  };

  void encode(Text& text) const {
    try {
      text.text = json_line(tokenizer_.encode_with_offsets(text.text));
    } catch (const core::InputError& error) {
      text.problem = at_place(text.where, error.what());
    }
  }

  const data::Tokenizer& tokenizer_;
  std::vector<Text> batch_;
  size_t bytes_ = 0;
};

std::vector<std::string> files_of(const TextArguments& in) {
  return in.files.empty() ? std::vector<std::string>{data::kStdin} : in.files;
}

void encode_files(const TokenizeArguments& arguments, const data::Tokenizer& tokenizer) {
  Encoder encoder(tokenizer);
  for (const std::string& file : files_of(arguments.in)) {
    data::read_texts(file, arguments.in.text_key, data::on_invalid_utf8(arguments.in.on_invalid_utf8),
                     [&](const std::string& text, const std::string& where) { encoder.take(text, where); });
  }
  encoder.flush();
}

std::string decoded(const TokenizeArguments& arguments, const data::Tokenizer& tokenizer,
                    const core::Json& object, const std::string& where) {
  const auto special = arguments.skip_special ? data::SpecialTokens::kSkip : data::SpecialTokens::kKeep;
  core::require(object.contains("ids"), "{}: there is no key 'ids'", where);
  const std::vector<int64_t> ids = data::token_ids_of(object["ids"], "ids", where);
  try {
    const std::string text = tokenizer.decode(ids, special);
    if (!arguments.common.json) return text + "\n";
    return core::Json{{"text", text}}.dump(-1, ' ', false, core::Json::error_handler_t::replace) + "\n";
  } catch (const core::InputError& error) {
    throw core::InputError(at_place(where, error.what()));
  }
}

void decode_files(const TokenizeArguments& arguments, const data::Tokenizer& tokenizer) {
  std::string lines;
  for (const std::string& file : files_of(arguments.in)) {
    data::JsonLineReader reader(file);
    core::Json object;
    while (reader.next(object)) {
      lines += decoded(arguments, tokenizer, object, reader.where());
      if (lines.size() >= kBatch) write_result(std::exchange(lines, ""));
    }
  }
  write_result(lines);
}

}  // namespace

void tokenize(const TokenizeArguments& arguments) {
  const auto tokenizer = data::open_tokenizer(arguments.tokenizer);
  arguments.decode ? decode_files(arguments, *tokenizer) : encode_files(arguments, *tokenizer);
}

}  // namespace exactmamba::cli
