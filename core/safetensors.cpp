#include "core/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include "core/dtype.h"
#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"

namespace exactmamba::core {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kLargestHeader = 100'000'000;
constexpr int kHeaderDepth = 4;  // {name: {key: [numbers]}}

struct DtypeName {
  const char* name;
  at::ScalarType dtype;
};
constexpr DtypeName kDtypes[] = {
    {"F64", at::kDouble},          {"F32", at::kFloat},        {"F16", at::kHalf},
    {"BF16", at::kBFloat16},       {"I64", at::kLong},         {"I32", at::kInt},
    {"I16", at::kShort},           {"I8", at::kChar},          {"U8", at::kByte},
    {"BOOL", at::kBool},           {"U16", at::kUInt16},       {"U32", at::kUInt32},
    {"U64", at::kUInt64},          {"C64", at::kComplexFloat}, {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E5M2", at::kFloat8_e5m2},
};

/// The header's text, after its length has been checked.
std::string_view header_text(const std::filesystem::path& file, std::string_view bytes) {
  require(bytes.size() >= kLengthBytes,
          "{}: byte 0: the file has {} bytes, but a safetensors file begins with {} bytes of header length",
          file.string(), bytes.size(), kLengthBytes);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  const std::string_view rest = bytes.substr(kLengthBytes);
  require(length <= kLargestHeader,
          "{}: byte 0: the header is said to have {} bytes; more than {} are refused", file.string(), length,
          kLargestHeader);
  require(length <= rest.size(),
          "{}: byte 0: the header is said to have {} bytes, but only {} follow (truncated file?)",
          file.string(), length, rest.size());
  require(rest.substr(0, length).starts_with('{'), "{}: byte {}: the header does not begin with '{{'",
          file.string(), kLengthBytes);
  return rest.substr(0, length);
}

/// Reads one entry of the header; messages begin with "file: tensor 'name'".
class EntryReader {
 public:
  EntryReader(const std::filesystem::path& file, const std::string& name, size_t data_begin, size_t file_size)
      : where_(fmt::format("{}: tensor '{}'", file.string(), printable(name))),
        data_begin_(data_begin),
        file_size_(file_size) {}

  SafetensorsFile::Entry read(const Json& value) const {
    require(value.is_object(), "{}: expected an object with dtype, shape and data_offsets", where_);
    for (const auto& [key, unused] : value.items()) {
      require(key == "dtype" || key == "shape" || key == "data_offsets", "{}: unknown key '{}'", where_,
              printable(key));
    }
    SafetensorsFile::Entry entry{};
    entry.dtype = dtype(value);
    entry.shape = shape(value);
    read_offsets(value, entry);
    return entry;
  }

 private:
  const Json& member(const Json& value, const char* key) const {
    const auto found = value.find(key);
    require(found != value.end(), "{}: '{}' is missing", where_, key);
    return *found;
  }

  at::ScalarType dtype(const Json& value) const {
    const Json& name = member(value, "dtype");
    for (const DtypeName& known : kDtypes) {
      if (name == known.name) return known.dtype;
    }
    throw InputError(fmt::format("{}: unknown dtype {}", where_, printable(json_text(name))));
  }

  std::vector<uint64_t> numbers(const Json& value, const char* key) const {
    const Json& list = member(value, key);
    const bool valid = list.is_array() && std::all_of(list.begin(), list.end(),
                                                      [](const Json& n) { return n.is_number_unsigned(); });
    require(valid, "{}: '{}' must be a list of whole numbers, found {}", where_, key,
            printable(json_text(list)));
    return list.get<std::vector<uint64_t>>();
  }

  std::vector<int64_t> shape(const Json& value) const {
    const std::vector<uint64_t> sizes = numbers(value, "shape");
    int64_t product = 1;  // without zeros, so that no stride overflows either
    for (const uint64_t size : sizes) {
      const bool fits =
          size <= INT64_MAX &&
          !__builtin_mul_overflow(product, static_cast<int64_t>(std::max<uint64_t>(size, 1)), &product);
      require(fits, "{}: the product of the shape {} overflows", where_,
              printable(json_text(value["shape"])));
    }
    return {sizes.begin(), sizes.end()};
  }

  void read_offsets(const Json& value, SafetensorsFile::Entry& entry) const {
    const std::vector<uint64_t> offsets = numbers(value, "data_offsets");
    require(offsets.size() == 2 && offsets[0] <= offsets[1],
            "{}: data_offsets must be [begin, end], found {}", where_,
            printable(json_text(value["data_offsets"])));
    const size_t available = file_size_ - data_begin_;
    require(offsets[1] <= available,
            "{}: data_offsets end at {}, but the file holds {} bytes of data from byte {} (truncated file?)",
            where_, offsets[1], available, data_begin_);
    entry.begin = data_begin_ + offsets[0];
    entry.end = data_begin_ + offsets[1];
    uint64_t needed = at::elementSize(entry.dtype);
    bool overflow = false;
    for (const int64_t size : entry.shape)
      overflow |= __builtin_mul_overflow(needed, static_cast<uint64_t>(size), &needed);
    require(!overflow && needed == entry.end - entry.begin,
            "{}: byte {}: dtype {} and shape {} need {} bytes, but data_offsets give {}", where_, entry.begin,
            value["dtype"].get<std::string>(), printable(json_text(value["shape"])),
            overflow ? "too many" : std::to_string(needed), entry.end - entry.begin);
  }

  std::string where_;
  size_t data_begin_, file_size_;
};

std::map<std::string, std::string> read_metadata(const Json& value, const std::filesystem::path& file) {
  require(value.is_object(), "{}: __metadata__ must be an object", file.string());
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    require(text.is_string(), "{}: __metadata__ '{}' must be a string", file.string(), printable(key));
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

/// The data must be covered without gaps and overlap.
void check_coverage(const std::filesystem::path& file,
                    const std::map<std::string, SafetensorsFile::Entry>& entries, size_t data_begin,
                    size_t file_size) {
  struct Range {
    size_t begin, end;
    const std::string* name;
  };
  std::vector<Range> ranges;
  for (const auto& [name, entry] : entries) ranges.push_back({entry.begin, entry.end, &name});
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  size_t position = data_begin;
  for (const Range& range : ranges) {
    require(range.begin >= position,
            "{}: byte {}: tensor '{}' overlaps the one before it, which ends at byte {}", file.string(),
            range.begin, printable(*range.name), position);
    require(range.begin == position, "{}: byte {}: {} bytes before tensor '{}' belong to no tensor",
            file.string(), position, range.begin - position, printable(*range.name));
    position = range.end;
  }
  require(position == file_size, "{}: byte {}: {} bytes after the last tensor belong to no tensor",
          file.string(), position, file_size - position);
}

const char* format_name(at::ScalarType dtype) {
  for (const DtypeName& known : kDtypes) {
    if (known.dtype == dtype) return known.name;
  }
  throw InputError(fmt::format("safetensors has no dtype {}", dtype_text(dtype)));
}

std::string make_header(const NamedTensors& tensors, const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string> names = {"__metadata__"};
  size_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    require(names.insert(name).second, "two tensors are called '{}'", printable(name));
    const size_t end = offset + tensor.nbytes();
    header[name] = {{"dtype", format_name(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = json_text(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins on a multiple of 8 bytes
  return text;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& file) : path_(file) {
  const MappedFile mapped(file);
  mapping_ = mapped.mapping();
  const size_t size = mapped.bytes().size();
  const std::string_view text = header_text(file, mapped.bytes());
  const Json header =
      parse_json(text, file.string() + ": header (from byte 8)", kHeaderDepth, 1, BareWords::kRefused);
  const size_t data_begin = kLengthBytes + text.size();
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      metadata_ = read_metadata(value, file);
      continue;
    }
    entries_.emplace(name, EntryReader(file, name, data_begin, size).read(value));
    names_.push_back(name);
  }
  check_coverage(file, entries_, data_begin, size);
}

const SafetensorsFile::Entry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  require(found != entries_.end(), "{}: there is no tensor '{}'", path_.string(), printable(name));
  return found->second;
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const Entry& e = entry(name);
  const auto options = at::TensorOptions().dtype(e.dtype);
  char* data = static_cast<char*>(mapping_.get()) + e.begin;
  const bool aligned = e.begin % at::elementSize(e.dtype) == 0;
  if (aligned && e.begin != e.end)
    return at::from_blob(
        data, e.shape, [keep = mapping_](void*) {}, options);
  at::Tensor copy = at::empty(e.shape, options);
  if (e.begin != e.end) std::memcpy(copy.mutable_data_ptr(), data, e.end - e.begin);
  return copy;
}

void write_safetensors(const std::filesystem::path& file, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata, Durable durable) {
  const std::string header = make_header(tensors, metadata);
  const uint64_t length = header.size();
  AtomicFile out(file, durable);
  out.write({reinterpret_cast<const char*>(&length), sizeof length});
  out.write(header);
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor plain = tensor.cpu().contiguous();
    out.write({static_cast<const char*>(plain.const_data_ptr()), plain.nbytes()});
  }
  out.commit();
}

}  // namespace exactmamba::core
