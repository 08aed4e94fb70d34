// A file's bytes in memory, read only, paged in when touched.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

namespace exactmamba::core {

class MappedFile {
 public:
  /// @throws IoError when `file` cannot be read or is no regular file.
  explicit MappedFile(const std::filesystem::path& file);

  std::string_view bytes() const { return {static_cast<const char*>(mapping_.get()), size_}; }
  /// Keeps the mapping alive; null for an empty file.
  const std::shared_ptr<void>& mapping() const { return mapping_; }

 private:
  std::shared_ptr<void> mapping_;
  size_t size_ = 0;
};

}  // namespace exactmamba::core
