#include "data/byte_source.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <poll.h>
#include <unistd.h>
#include <vector>
#include <zstd.h>

#include <lzma.h>
#include <zlib.h>

#include "core/error.h"

namespace exactmamba::data {
namespace {

constexpr size_t kChunk = size_t{1} << 16;
constexpr uint64_t kXzMemory = uint64_t{1} << 30;  // more than any preset of xz needs to decompress
constexpr int kZstdWindowLog = 30;                 // of zstd --long=30; more could fill the memory

class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(const std::filesystem::path& file)
      : name_(file == kStdin ? "stdin" : file.string()),
        file_(file == kStdin ? stdin : std::fopen(file.c_str(), "rb")) {
    core::require<core::IoError>(file_ != nullptr, "{}: {}", name_, std::strerror(errno));
  }
  size_t read(char* to, size_t size) override {
    const ssize_t count = ::read(::fileno(file_.get()), to, size);  // a pipe's, as soon as they are there
    core::require<core::IoError>(count >= 0, "{}: {}", name_, std::strerror(errno));
    return static_cast<size_t>(count);
  }
  bool is_ready(int milliseconds) override {
    pollfd input{.fd = ::fileno(file_.get()), .events = POLLIN, .revents = 0};
    int ready = 0;
    do ready = ::poll(&input, 1, milliseconds);
    while (ready < 0 && errno == EINTR);
    return ready != 0;  // an error is read()'s to report
  }
  const std::string& name() const { return name_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const {
      if (file != stdin) std::fclose(file);
    }
  };
  std::string name_;
  std::unique_ptr<std::FILE, Close> file_;
};

/// The compressed bytes, a chunk at a time.
class Input {
 public:
  explicit Input(const std::filesystem::path& file) : source_(file), chunk_(kChunk) {}
  /// The next chunk; empty at the end.
  size_t refill() {
    begin_ += size_;
    size_ = source_.read(chunk_.data(), chunk_.size());
    return size_;
  }
  unsigned char* data() { return reinterpret_cast<unsigned char*>(chunk_.data()); }
  template <class... Args>
  [[noreturn]] void fail(size_t left, fmt::format_string<Args...> format, Args&&... args) const {
    throw core::InputError(fmt::format("{}: byte {} of the compressed data: {}", source_.name(),
                                       begin_ + size_ - left,
                                       fmt::format(format, std::forward<Args>(args)...)));
  }

 private:
  PlainSource source_;
  std::vector<char> chunk_;
  size_t begin_ = 0, size_ = 0;
};

class GzipSource final : public ByteSource {
 public:
  explicit GzipSource(const std::filesystem::path& file) : input_(file) {
    const int status = inflateInit2(&stream_, MAX_WBITS + 16);  // gzip only
    core::require<core::IoError>(status == Z_OK, "{}: zlib cannot start (status {})", file.string(), status);
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  size_t read(char* to, size_t size) override {
    stream_.next_out = reinterpret_cast<Bytef*>(to);
    stream_.avail_out = static_cast<uInt>(size);
    while (stream_.avail_out == size && !ended_) step();
    return size - stream_.avail_out;
  }

 private:
  void refill() {
    if (stream_.avail_in > 0) return;
    stream_.avail_in = static_cast<uInt>(input_.refill());
    stream_.next_in = input_.data();
  }

  void step() {
    refill();
    if (stream_.avail_in == 0) {
      if (!between_members_) input_.fail(0, "the gzip data are cut short");
      ended_ = true;
      return;
    }
    if (between_members_ && members_ > 0) {
      if (*stream_.next_in == 0) return skip_zero();
      inflateReset(&stream_);
    }
    between_members_ = false;
    decompress();
  }

  /// gzip allows zero bytes after the last member (tapes), and nothing after them but more of them.
  void skip_zero() {
    ++stream_.next_in;
    --stream_.avail_in;
  }

  void decompress() {
    const int status = inflate(&stream_, Z_NO_FLUSH);
    if (status == Z_STREAM_END) {
      between_members_ = true;
      ++members_;
      return;
    }
    if (status != Z_OK)
      input_.fail(stream_.avail_in, "these are no valid gzip data ({})",
                  stream_.msg ? stream_.msg : "zlib error");
  }

  Input input_;
  z_stream stream_{};
  bool between_members_ = false, ended_ = false;
  int64_t members_ = 0;
};

const char* describe(lzma_ret status) {
  switch (status) {
    case LZMA_FORMAT_ERROR:
      return "these are no xz data";
    case LZMA_OPTIONS_ERROR:
      return "the xz data use an option that is not supported";
    case LZMA_DATA_ERROR:
      return "the xz data are corrupt";
    case LZMA_BUF_ERROR:
      return "the xz data are cut short";
    case LZMA_MEMLIMIT_ERROR:
      return "the xz data need more than 1 GiB to decompress";
    case LZMA_MEM_ERROR:
      return "there is no memory left to decompress";
    default:
      return "liblzma reports an error";
  }
}

class XzSource final : public ByteSource {
 public:
  explicit XzSource(const std::filesystem::path& file) : input_(file) {
    const lzma_ret status = lzma_stream_decoder(&stream_, kXzMemory, LZMA_CONCATENATED);
    core::require<core::IoError>(status == LZMA_OK, "{}: {}", file.string(), describe(status));
  }
  ~XzSource() override { lzma_end(&stream_); }
  XzSource(const XzSource&) = delete;
  XzSource& operator=(const XzSource&) = delete;

  size_t read(char* to, size_t size) override {
    stream_.next_out = reinterpret_cast<uint8_t*>(to);
    stream_.avail_out = size;
    while (stream_.avail_out == size && !ended_) step();
    return size - stream_.avail_out;
  }

 private:
  void step() {
    if (stream_.avail_in == 0 && action_ == LZMA_RUN) {
      stream_.avail_in = input_.refill();
      stream_.next_in = input_.data();
      if (stream_.avail_in == 0) action_ = LZMA_FINISH;
    }
    const lzma_ret status = lzma_code(&stream_, action_);
    if (status == LZMA_STREAM_END) {
      ended_ = true;
    } else if (status != LZMA_OK) {
      input_.fail(stream_.avail_in, "{}", describe(status));
    }
  }

  Input input_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  lzma_action action_ = LZMA_RUN;
  bool ended_ = false;
};

class ZstdSource final : public ByteSource {
 public:
  explicit ZstdSource(const std::filesystem::path& file) : input_(file), stream_(ZSTD_createDStream()) {
    core::require<core::IoError>(stream_ != nullptr, "{}: there is no memory left to decompress",
                                 file.string());
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, kZstdWindowLog);
  }

  size_t read(char* to, size_t size) override {
    ZSTD_outBuffer out{to, size, 0};
    while (out.pos == 0 && !ended_) step(out);
    return out.pos;
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };

  void step(ZSTD_outBuffer& out) {
    if (in_.pos == in_.size) in_ = {input_.data(), input_.refill(), 0};
    const bool no_more = in_.size == 0;
    ended_ = no_more && frames_ > 0 && between_frames_;
    if (ended_) return;
    const size_t status = ZSTD_decompressStream(stream_.get(), &out, &in_);
    if (ZSTD_isError(status))
      input_.fail(in_.size - in_.pos, "these are no valid zstd data ({})", ZSTD_getErrorName(status));
    between_frames_ = status == 0;
    frames_ += between_frames_;
    // Without input it may still have had output to give.
    if (no_more && out.pos == 0 && !between_frames_) input_.fail(0, "the zstd data are cut short");
  }

  Input input_;
  std::unique_ptr<ZSTD_DStream, Free> stream_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool between_frames_ = false, ended_ = false;
  int64_t frames_ = 0;
};

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& file) {
  const std::string ending = file.extension().string();
  if (ending == ".gz") return std::make_unique<GzipSource>(file);
  if (ending == ".xz") return std::make_unique<XzSource>(file);
  if (ending == ".zst") return std::make_unique<ZstdSource>(file);
  for (const char* other : {".bz2", ".lz4", ".zip", ".7z"}) {
    core::require(ending != other, "{}: files ending in {} are not read; recompress it as .gz, .xz or .zst",
                  file.string(), other);
  }
  return std::make_unique<PlainSource>(file);
}

bool is_empty(const std::filesystem::path& file) {
  char first = 0;
  return open_bytes(file)->read(&first, 1) == 0;
}

std::filesystem::path uncompressed_name(const std::filesystem::path& file) {
  const std::string ending = file.extension().string();
  if (ending != ".gz" && ending != ".xz" && ending != ".zst") return file;
  return std::filesystem::path(file).replace_extension();
}

}  // namespace exactmamba::data
