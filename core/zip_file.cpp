#include "core/zip_file.h"

#include <algorithm>
#include <cstring>

#include <zlib.h>

#include "core/error.h"
#include "core/json.h"

namespace exactmamba::core {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50, kDirectoryEntry = 0x02014b50, kEnd = 0x06054b50,
                   kZip64End = 0x06064b50, kZip64Locator = 0x07064b50;
constexpr uint64_t kLocalHeaderSize = 30, kDirectoryEntrySize = 46, kEndSize = 22, kZip64LocatorSize = 20;
constexpr uint64_t kLongestComment = 0xFFFF;
constexpr uint32_t kInZip64 = 0xFFFFFFFF;  // the value is in the zip64 extra field
constexpr uint16_t kZip64Extra = 1, kEncrypted = 1, kMethodStored = 0;

}  // namespace

ZipFile::ZipFile(std::string_view bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {
  const Directory directory = find_directory();
  uint64_t position = directory.begin;
  for (uint64_t i = 0; i < directory.entries; ++i) position = add_entry(position);
}

std::string_view ZipFile::part(uint64_t begin, uint64_t size, const char* what) const {
  require(begin <= bytes_.size() && size <= bytes_.size() - begin,
          "{}: damaged zip file: {} of {} bytes at byte {} leaves the file of {} bytes", where_, what, size,
          begin, bytes_.size());
  return bytes_.substr(begin, size);
}

/// Little-endian, as this program's machines are.
template <class T>
T ZipFile::number(uint64_t position) const {
  T value = 0;
  std::memcpy(&value, part(position, sizeof value, "a number").data(), sizeof value);
  return value;
}

/// From the end record: the last bytes of the file but for a comment.
ZipFile::Directory ZipFile::find_directory() const {
  const std::string_view signature(reinterpret_cast<const char*>(&kEnd), sizeof kEnd);
  const size_t tail = bytes_.size() - std::min<uint64_t>(bytes_.size(), kEndSize + kLongestComment);
  const size_t found = bytes_.substr(tail).rfind(signature);
  require(found != std::string_view::npos && bytes_.size() - tail - found >= kEndSize,
          "{}: damaged zip file: its directory, which is at the end, is missing (truncated file?)", where_);
  const uint64_t end = tail + found;
  const bool zip64 = end >= kZip64LocatorSize && number<uint32_t>(end - kZip64LocatorSize) == kZip64Locator;
  if (!zip64) return {number<uint32_t>(end + 16), number<uint16_t>(end + 10)};
  const auto zip64_end = number<uint64_t>(end - kZip64LocatorSize + 8);
  require(number<uint32_t>(zip64_end) == kZip64End,
          "{}: damaged zip file: no zip64 end record at byte {}, where its locator says", where_, zip64_end);
  part(zip64_end, 56, "the zip64 end record");
  return {number<uint64_t>(zip64_end + 48), number<uint64_t>(zip64_end + 32)};
}

/// Reads one entry of the directory; returns where the next one begins.
uint64_t ZipFile::add_entry(uint64_t position) {
  part(position, kDirectoryEntrySize, "an entry of its directory");
  require(number<uint32_t>(position) == kDirectoryEntry,
          "{}: damaged zip file: no entry of its directory at byte {}", where_, position);
  const uint64_t name_size = number<uint16_t>(position + 28), extra_size = number<uint16_t>(position + 30),
                 comment_size = number<uint16_t>(position + 32);
  const uint64_t name_begin = position + kDirectoryEntrySize, extra_begin = name_begin + name_size;
  const std::string name(part(name_begin, name_size, "a name in its directory"));
  Entry entry{};
  entry.header = number<uint32_t>(position + 42);
  entry.size = number<uint32_t>(position + 24);
  entry.crc = number<uint32_t>(position + 16);
  entry.stored =
      (number<uint16_t>(position + 8) & kEncrypted) == 0 && number<uint16_t>(position + 10) == kMethodStored;
  read_zip64(part(extra_begin, extra_size, "an extra field of its directory"), extra_begin, entry);
  require(entries_.emplace(name, entry).second, "{}: damaged zip file: '{}' is in it twice", where_,
          printable(name));
  if (entries_.size() == 1) first_name_ = name;
  return extra_begin + extra_size + comment_size;
}

/// Replaces those of the size and place that do not fit 32 bits. `position`: of `extra` in the file.
void ZipFile::read_zip64(std::string_view extra, uint64_t position, Entry& entry) const {
  const uint64_t end = position + extra.size();
  while (position + 4 <= end) {
    const auto id = number<uint16_t>(position);
    uint64_t field = position + 4;
    position = field + number<uint16_t>(position + 2);
    if (id != kZip64Extra) continue;
    if (entry.size == kInZip64) {
      entry.size = number<uint64_t>(field);
      field += 16;  // and the compressed size, which is the same
    }
    if (entry.header == kInZip64) entry.header = number<uint64_t>(field);
  }
}

const ZipFile::Entry& ZipFile::find(const std::string& name) const {
  const auto found = entries_.find(name);
  require(found != entries_.end(), "{}: '{}' is missing in the zip file", where_, printable(name));
  return found->second;
}

std::string_view ZipFile::unread_entry(const std::string& name) const {
  const Entry& entry = find(name);
  require(entry.stored, "{}: '{}' is compressed or encrypted, which torch.save never does", where_,
          printable(name));
  part(entry.header, kLocalHeaderSize, "the header of an entry");
  require(number<uint32_t>(entry.header) == kLocalHeader,
          "{}: damaged zip file: '{}' does not begin at byte {}, where the directory says", where_,
          printable(name), entry.header);
  const uint64_t begin = entry.header + kLocalHeaderSize + number<uint16_t>(entry.header + 26) +
                         number<uint16_t>(entry.header + 28);
  return part(begin, entry.size, "an entry");
}

std::string_view ZipFile::entry(const std::string& name) const {
  const std::string_view bytes = unread_entry(name);
  const Entry& entry = find(name);
  const auto crc =
      static_cast<uint32_t>(::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
  require(crc == entry.crc,
          "{}: '{}' is damaged: the CRC-32 of its {} bytes from byte {} is {:08x}, but {:08x} was written; "
          "get the file again",
          where_, printable(name), entry.size, bytes.data() - bytes_.data(), crc, entry.crc);
  return bytes;
}

}  // namespace exactmamba::core
