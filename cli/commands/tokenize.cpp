#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "core/error.h"
#include "data/encode_batch.h"
#include "data/text_reader.h"
#include "data/token_rows.h"
#include "data/tokenizers/open_tokenizer.h"

namespace exactmamba::cli {
namespace {

constexpr size_t kBatch =
    size_t{1} << 20;  // bytes of text that the threads share, or of output written at once

/// {"ids": […], "offsets": [[begin, end], …]}
std::string encoded_line(const data::Encoding& encoding) {
  std::string line = fmt::format("{{\"ids\": [{}], \"offsets\": [", fmt::join(encoding.ids, ", "));
  for (size_t i = 0; i < encoding.offsets.size(); ++i)
    fmt::format_to(std::back_inserter(line), "{}[{}, {}]", i > 0 ? ", " : "", encoding.offsets[i].begin,
                   encoding.offsets[i].end);
  return line + "]}\n";
}

std::vector<std::string> files_of(const TextArguments& in) {
  return in.files.empty() ? std::vector<std::string>{data::kStdin} : in.files;
}

/// A row without a text would have no line, so that lines were no rows any more.
data::Tolerance tolerance_of(const TextArguments& in, data::LeftOut& left_out) {
  const data::OnBadRecord on_bad_record = data::on_bad_record(in.on_bad_record);
  data::Tolerance tolerance =
      data::counting(left_out, data::on_invalid_utf8(in.on_invalid_utf8), on_bad_record);
  if (on_bad_record == data::OnBadRecord::kFail)
    tolerance.null = [](const std::string& where) {
      throw data::BadRecord(where + ": there is no text (null); --on-bad-record skip leaves such rows out");
    };
  return tolerance;
}

void encode_files(const TokenizeArguments& arguments, const data::Tokenizer& tokenizer) {
  struct Text {
    std::string text, where;  // the text becomes its line
  };
  data::EncodeBatch<Text> batch(
      kBatch, [&](Text& text) { text.text = encoded_line(tokenizer.encode_with_offsets(text.text)); },
      [](std::span<const Text> texts) {
        std::string lines;
        for (const Text& text : texts) lines += text.text;
        write_result(lines);
      });
  for (const std::string& file : files_of(arguments.in)) {
    data::LeftOut left_out;
    data::read_texts(file, arguments.in.text_key, tolerance_of(arguments.in, left_out),
                     [&](const std::string& text, const std::string& where) {
                       batch.add({text, where}, text.size());
                     });
    data::log_left_out(left_out, file);
  }
  batch.flush();
}

std::string decoded(const TokenizeArguments& arguments, const data::Tokenizer& tokenizer,
                    const core::Json& object, const std::string& where) {
  const auto special = arguments.skip_special ? data::SpecialTokens::kSkip : data::SpecialTokens::kKeep;
  core::require(object.contains("ids"), "{}: there is no key 'ids'", where);
  const std::vector<int64_t> ids = data::token_ids_of(object["ids"], "ids", where);
  try {
    const std::string text = tokenizer.decode(ids, special);
    if (!arguments.common.json) return text + "\n";
    return json_line({{"text", text}});
  } catch (const core::InputError& error) {
    throw core::InputError(fmt::format("{}: {}", where, error.what()));
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
