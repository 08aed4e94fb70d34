// The entries of a zip archive in memory, as torch.save writes them: stored, not compressed.
// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (4.3 and 4.5.3: zip64)
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace exactmamba::core {

class ZipFile {
 public:
  /// Reads the directory at the end of `bytes`, which must outlive the object; `where` (a file name) leads
  /// every message. @throws InputError
  ZipFile(std::string_view bytes, std::string where);

  /// Of the entry that lies first in the directory.
  const std::string& first_name() const { return first_name_; }
  bool contains(const std::string& name) const { return entries_.count(name) != 0; }
  /// The bytes of an entry, their CRC-32 checked (at about 1 GB/s, on every call).
  /// @throws InputError when it is missing, compressed, encrypted, outside the file, or not as it was written
  std::string_view entry(const std::string& name) const;
  /// The same without the CRC-32: nothing of them is read.
  std::string_view unread_entry(const std::string& name) const;

 private:
  struct Entry {
    uint64_t header, size;  // `header`: byte where its local header begins
    uint32_t crc;
    bool stored;
  };
  struct Directory {
    uint64_t begin, entries;
  };
  const Entry& find(const std::string& name) const;
  std::string_view part(uint64_t begin, uint64_t size, const char* what) const;
  template <class T>
  T number(uint64_t position) const;
  Directory find_directory() const;
  uint64_t add_entry(uint64_t position);
  void read_zip64(std::string_view extra, uint64_t position, Entry& entry) const;

  std::string_view bytes_;
  std::string where_, first_name_;
  std::map<std::string, Entry> entries_;  // [name]
};

}  // namespace exactmamba::core
