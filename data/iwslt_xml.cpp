#include "data/iwslt_xml.h"

#include <expat.h>

#include "core/error.h"
#include "core/utf8.h"
#include "data/tokenizers/unicode_classes.h"

namespace exactmamba::data {
namespace {

std::string attribute(const XML_Char** attributes, std::string_view name) {
  for (; *attributes; attributes += 2)
    if (attributes[0] == name) return attributes[1];
  return "";
}

/// Exceptions must not cross the C code of expat: a problem is kept, and thrown by add().
class SegmentParser {
 public:
  explicit SegmentParser(std::string file) : file_(std::move(file)) {
    core::require(parser_ != nullptr, "{}: there is no memory to read it", file_);
    XML_SetUserData(parser_.get(), this);
    XML_SetElementHandler(parser_.get(), start_element, end_element);
    XML_SetCharacterDataHandler(parser_.get(), character_data);
    XML_SetSkippedEntityHandler(parser_.get(),
                                skipped_entity);  // undefined here, maybe not in a DTD elsewhere
  }

  void add(std::string_view text, bool last) {
    const XML_Status status = XML_Parse(parser_.get(), text.data(), static_cast<int>(text.size()), last);
    if (status == XML_STATUS_OK) return;
    if (problem_.empty()) keep_problem(line(), XML_ErrorString(XML_GetErrorCode(parser_.get())));
    throw core::InputError(problem_);
  }

  std::vector<Segment> finish() {
    add("", true);
    core::require(!segments_.empty(), "{}: there is no <seg> element", file_);
    return std::move(segments_);
  }

 private:
  struct Free {
    void operator()(XML_Parser parser) const { XML_ParserFree(parser); }
  };

  int64_t line() const { return static_cast<int64_t>(XML_GetCurrentLineNumber(parser_.get())); }

  void keep_problem(int64_t line, const std::string& what) {
    problem_ = fmt::format("{}:{}: this is not well-formed XML: {}", file_, line, what);
    XML_StopParser(parser_.get(), XML_FALSE);
  }

  static void start_element(void* self, const XML_Char* name, const XML_Char** attributes) {
    static_cast<SegmentParser*>(self)->start(name, attributes);
  }
  static void end_element(void* self, const XML_Char* name) { static_cast<SegmentParser*>(self)->end(name); }
  static void character_data(void* self, const XML_Char* text, int size) {
    auto* parser = static_cast<SegmentParser*>(self);
    if (parser->in_segment_) parser->segments_.back().text.append(text, static_cast<size_t>(size));
  }
  static void skipped_entity(void* self, const XML_Char* name, int) {
    auto* parser = static_cast<SegmentParser*>(self);
    parser->keep_problem(parser->line(), fmt::format("undefined entity &{};", name));
  }

  void start(std::string_view name, const XML_Char** attributes) {
    if (name == "doc") document_ = attribute(attributes, "docid");
    if (name != "seg") return;
    if (in_segment_) return keep_problem(segments_.back().line, "a <seg> without </seg>");
    in_segment_ = true;
    segments_.push_back({document_, attribute(attributes, "id"), "", line()});
  }

  void end(std::string_view name) {
    if (name != "seg") return;
    in_segment_ = false;
    segments_.back().text = squeeze_space(segments_.back().text);
  }

  std::string file_, document_, problem_;
  std::unique_ptr<XML_ParserStruct, Free> parser_{XML_ParserCreate("UTF-8")};
  std::vector<Segment> segments_;
  bool in_segment_ = false;
};

}  // namespace

std::string squeeze_space(std::string_view text) {
  std::string squeezed;
  bool space = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t character = core::next_code_point(text, at);
    if (character_class(character) == CharacterClass::kSpace) {
      space = true;
      continue;
    }
    if (space && !squeezed.empty()) squeezed.push_back(' ');
    space = false;
    core::append_utf8(squeezed, character);
  }
  return squeezed;
}

std::vector<Segment> read_segments(const std::filesystem::path& file, OnInvalidUtf8 on_invalid) {
  LineReader lines(file, on_invalid);
  SegmentParser parser(lines.file());
  std::string line;
  while (lines.next(line)) parser.add(line + '\n', false);
  return parser.finish();
}

}  // namespace exactmamba::data
