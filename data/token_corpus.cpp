#include "data/token_corpus.h"

#include <cstddef>
#include <cstring>
#include <functional>
#include <utility>

#include "core/error.h"
#include "core/file_lock.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/mapped_file.h"
#include "data/encode_batch.h"

namespace exactmamba::data {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBatchBytes = size_t{8} << 20;  // bytes of text that the threads share
constexpr size_t kBlock = size_t{1} << 20;       // bytes hashed at once
constexpr char kMagic[16] = "exactmamba ids4";

/// The last bytes of a corpus: before it are the ids, zeros up to a multiple of 8 bytes, and where documents
/// begin.
struct Footer {
  char magic[16];
  int64_t id_bytes, tokens, documents;
  int64_t bad_records, nulls, empty, unfit;  // left out
  char hash[32];                             // of all bytes before it
};

std::string_view before_hash(const Footer& footer) {
  return {reinterpret_cast<const char*>(&footer), offsetof(Footer, hash)};
}

/// A hash of bytes that come in pieces, whatever the pieces.
class BlockHash {
 public:
  void add(std::string_view bytes) {
    while (!bytes.empty()) {
      const std::string_view part = bytes.substr(0, kBlock - block_.size());
      block_.append(part);
      bytes.remove_prefix(part.size());
      if (block_.size() == kBlock) end_block();
    }
  }
  std::string finish() {
    end_block();
    return state_;
  }

 private:
  void end_block() { state_ = core::hash_hex(state_ + core::hash_hex(std::exchange(block_, ""))); }
  std::string block_, state_;
};

template <class T>
std::string_view bytes_of(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

using Write = std::function<void(std::string_view bytes)>;

/// Documents on their way to `write`, in the form that Footer describes.
class Writer {
 public:
  Writer(const Tokenizer& tokenizer, Write write)
      : tokenizer_(tokenizer),
        eos_id_(tokenizer.eos_id()),
        narrow_(tokenizer.vocab_size() <= int64_t{UINT16_MAX} + 1),
        write_(std::move(write)),
        batch_(
            kBatchBytes, [this](Document& document) { encode(document); },
            [this](std::span<Document> documents) {
              for (const Document& document : documents) put(document);
            }) {}
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void take(const std::string& text, const std::string& where) { batch_.add({text, where, {}}, text.size()); }

  void finish(const LeftOut& left_out, const UnwantedTexts& unwanted) {
    batch_.flush();
    const int64_t id_bytes = narrow_ ? sizeof(uint16_t) : sizeof(int32_t);
    put(std::string(static_cast<size_t>(-tokens_ * id_bytes & 7), '\0'));
    put(bytes_of(std::span<const int64_t>(document_begins_)));
    const auto documents = static_cast<int64_t>(document_begins_.size());
    Footer footer{{},
                  id_bytes,
                  tokens_,
                  documents,
                  left_out.bad_records,
                  left_out.nulls,
                  unwanted.empty,
                  unwanted.unfit,
                  {}};
    std::memcpy(footer.magic, kMagic, sizeof kMagic);
    hash_.add(before_hash(footer));
    std::memcpy(footer.hash, hash_.finish().data(), sizeof footer.hash);
    write_({reinterpret_cast<const char*>(&footer), sizeof footer});
  }

 private:
  struct Document {
    std::string text, where;
    std::vector<int64_t> ids;
  };

  void encode(Document& document) const {
    document.ids = tokenizer_.encode(document.text);
    document.ids.push_back(eos_id_);
  }

  void put(const Document& document) {
    document_begins_.push_back(tokens_);
    tokens_ += static_cast<int64_t>(document.ids.size());
    narrow_ ? put_ids<uint16_t>(document.ids) : put_ids<int32_t>(document.ids);
  }

  template <class Id>
  void put_ids(const std::vector<int64_t>& ids) {
    const std::vector<Id> stored(ids.begin(), ids.end());
    put(bytes_of(std::span<const Id>(stored)));
  }

  void put(std::string_view bytes) {
    hash_.add(bytes);
    write_(bytes);
  }

  const Tokenizer& tokenizer_;
  int64_t eos_id_;
  bool narrow_;
  Write write_;
  EncodeBatch<Document> batch_;
  BlockHash hash_;
  int64_t tokens_ = 0;
  std::vector<int64_t> document_begins_;
};

void write_corpus(const TextSource& source, const Tokenizer& tokenizer, Write write) {
  Writer writer(tokenizer, std::move(write));
  LeftOut left_out;
  const Tolerance tolerance = counting(left_out, source.on_invalid, source.on_bad_record);
  bool any = false;
  const UnwantedTexts unwanted =
      read_wanted(source, tolerance, [&](const std::string& text, const std::string& where) {
        any = true;
        writer.take(text, where);
      });
  require_text(any, source, left_out, unwanted);
  writer.finish(left_out, unwanted);
}

std::string cache_name(const TextSource& source, const Tokenizer& tokenizer) {
  std::string identity = fmt::format(
      "tokens 4; tokenizer {}; end {}; invalid {}; bad {}; characters {} {}; key {}", tokenizer.name(),
      tokenizer.eos_id(), static_cast<int>(source.on_invalid), static_cast<int>(source.on_bad_record),
      source.lengths.min_characters, source.lengths.max_characters, source.text_key);
  for (const fs::path& file : source.files)
    identity += fmt::format("; {} {}", is_json_lines(file), core::hash_file_hex(file));
  return core::hash_hex(identity) + ".ids";
}

/// A document that is not is counted.
bool is_wanted(const std::string& text, const LengthLimits& lengths, UnwantedTexts& unwanted) {
  if (!text.empty() && lengths.allow(text)) return true;
  ++(text.empty() ? unwanted.empty : unwanted.unfit);
  return false;
}

/// One process of the machine makes a file at a time.
core::FileLock lock_to_make(const fs::path& file) {
  const fs::path lock = file.string() + ".lock";
  if (auto free = core::FileLock::try_lock(lock)) return std::move(*free);
  core::log_info(fmt::format("waiting for the process that makes {}", file.string()));
  return core::FileLock::lock(lock);
}

}  // namespace

UnwantedTexts read_wanted(const TextSource& source, const Tolerance& tolerance, const TakeText& take) {
  UnwantedTexts unwanted;
  for (const fs::path& file : source.files) {
    read_documents(file, source.text_key, tolerance, [&](const std::string& text, const std::string& where) {
      if (is_wanted(text, source.lengths, unwanted)) take(text, where);
    });
  }
  return unwanted;
}

void require_text(bool any, const TextSource& source, const LeftOut& left_out,
                  const UnwantedTexts& unwanted) {
  core::require(any, "there is no text in {}{}", file_names(source.files),
                left_out_text({{unwanted.empty, "empty"},
                               {unwanted.unfit, fmt::format("of other lengths ({})", source.lengths.text())}},
                              left_out));
}

void check_text(const TextSource& source) {
  struct Enough {};  // ends the reading of a file
  LeftOut left_out;
  const Tolerance tolerance = counting_quietly(left_out, source.on_invalid, source.on_bad_record);
  UnwantedTexts unwanted;
  bool any = false;
  const auto look_at = [&](const std::string& text, const std::string&) {
    any = any || is_wanted(text, source.lengths, unwanted);
    if (any) throw Enough();
  };
  for (const fs::path& file : source.files) {
    try {
      read_documents(file, source.text_key, tolerance, look_at);
    } catch (const Enough&) {  // on to the next
    }
  }
  require_text(any, source, left_out, unwanted);
}

TokenCorpus::TokenCorpus(const TextSource& source, const Tokenizer& tokenizer, const fs::path& cache) {
  cache.empty() ? make_in_memory(source, tokenizer) : find_or_make_in(cache, source, tokenizer);
  log_left_out(source);
}

void TokenCorpus::make_in_memory(const TextSource& source, const Tokenizer& tokenizer) {
  const auto bytes = std::make_shared<std::string>();
  write_corpus(source, tokenizer, [&](std::string_view part) { bytes->append(part); });
  memory_ = bytes;
  open(*bytes);
}

void TokenCorpus::find_or_make_in(const fs::path& cache, const TextSource& source,
                                  const Tokenizer& tokenizer) {
  std::error_code error;
  fs::create_directories(cache, error);
  core::require<core::IoError>(!error, "{}: cannot make the folder: {}", cache.string(), error.message());
  const fs::path file = cache / cache_name(source, tokenizer);
  if (fs::exists(file, error) && open_file(file)) return;
  const core::FileLock lock = lock_to_make(file);
  const bool exists = fs::exists(file, error);  // another process may have made it just now
  if (exists && open_file(file)) return;
  if (exists) core::log_warning(fmt::format("{} is damaged and made anew", file.string()));
  core::AtomicFile out(file);
  write_corpus(source, tokenizer, [&](std::string_view part) { out.write(part); });
  out.commit();
  core::require<core::IoError>(open_file(file), "{}: is not as it was written", file.string());
}

void TokenCorpus::log_left_out(const TextSource& source) const {
  const std::string name = file_names(source.files);
  data::log_left_out(left_out_, name);
  if (unwanted_.empty > 0)
    core::log_info(fmt::format("{}: {} empty documents are left out", name, unwanted_.empty));
  if (unwanted_.unfit > 0)
    core::log_info(fmt::format("{}: {} documents are left out, {} are kept ({})", name, unwanted_.unfit,
                               document_begins_.size(), source.lengths.text()));
}

bool TokenCorpus::open_file(const fs::path& file) {
  const core::MappedFile mapped(file);
  memory_ = mapped.mapping();
  return open(mapped.bytes());
}

bool TokenCorpus::open(std::string_view bytes) {
  Footer footer;
  if (bytes.size() < sizeof footer) return false;
  const std::string_view content = bytes.substr(0, bytes.size() - sizeof footer);
  std::memcpy(&footer, bytes.data() + content.size(), sizeof footer);
  BlockHash hash;
  hash.add(content);
  hash.add(before_hash(footer));
  hash_ = hash.finish();
  if (std::memcmp(footer.magic, kMagic, sizeof kMagic) != 0 || footer.documents == 0 ||
      hash_ != std::string_view(footer.hash, sizeof footer.hash))
    return false;
  const auto tokens = static_cast<size_t>(footer.tokens), documents = static_cast<size_t>(footer.documents);
  if (footer.id_bytes == sizeof(uint16_t)) {
    ids_ = std::span(reinterpret_cast<const uint16_t*>(content.data()), tokens);
  } else {
    ids_ = std::span(reinterpret_cast<const int32_t*>(content.data()), tokens);
  }
  left_out_ = {footer.bad_records, footer.nulls};
  unwanted_ = {footer.empty, footer.unfit};
  const char* begins = content.data() + content.size() - documents * sizeof(int64_t);
  document_begins_ = {reinterpret_cast<const int64_t*>(begins), documents};
  return true;
}

int64_t TokenCorpus::size() const {
  return std::visit([](const auto& ids) { return static_cast<int64_t>(ids.size()); }, ids_);
}

std::vector<int64_t> TokenCorpus::slice(int64_t begin, int64_t end) const {
  return std::visit(
      [&](const auto& ids) { return std::vector<int64_t>(ids.begin() + begin, ids.begin() + end); }, ids_);
}

}  // namespace exactmamba::data
