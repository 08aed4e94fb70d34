#include "data/parquet_text.h"

#include <algorithm>
#include <array>
#include <arrow/io/file.h>
#include <memory>
#include <parquet/column_reader.h>
#include <parquet/exception.h>
#include <parquet/file_reader.h>
#include <parquet/properties.h>
#include <parquet/schema.h>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/utf8.h"

namespace exactmamba::data {
namespace {

constexpr int64_t kRowsAtOnce = 256;
constexpr int64_t kBuffer = int64_t{1} << 20;  // bytes of a column read at once
constexpr int kMostColumnsNamed = 16;

std::string one_line(std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  return core::printable(message);
}

/// Runs `read`, whose exceptions are Arrow's, and throws E with the place.
template <class E, class Read>
auto at_place(const std::string& where, const Read& read) {
  try {
    return read();
  } catch (const parquet::ParquetException& error) {
    throw E(fmt::format("{}: this is no valid Parquet file ({})", where, one_line(error.what())));
  }
}

std::unique_ptr<parquet::ParquetFileReader> open_parquet(const std::string& file) {
  auto opened = arrow::io::ReadableFile::Open(file);
  core::require<core::IoError>(opened.ok(), "{}: {}", file, one_line(opened.status().message()));
  parquet::ReaderProperties properties;
  properties.enable_buffered_stream();
  properties.set_buffer_size(kBuffer);
  properties.set_page_checksum_verification(true);
  return at_place<core::InputError>(
      file, [&] { return parquet::ParquetFileReader::Open(opened.MoveValueUnsafe(), properties); });
}

std::string column_names(const parquet::schema::GroupNode& columns) {
  std::string names;
  for (int i = 0; i < columns.field_count() && i < kMostColumnsNamed; ++i)
    names += fmt::format("{}'{}'", i == 0 ? "" : ", ", core::printable(columns.field(i)->name()));
  if (columns.field_count() > kMostColumnsNamed) names += ", …";
  return names.empty() ? "no columns at all" : names;
}

bool holds_strings(const parquet::schema::Node& node) {
  if (!node.is_primitive() || node.is_repeated()) return false;
  const auto& primitive = static_cast<const parquet::schema::PrimitiveNode&>(node);
  const auto& logical = primitive.logical_type();
  return primitive.physical_type() == parquet::Type::BYTE_ARRAY &&
         (logical->is_string() || logical->is_none() || logical->is_enum() || logical->is_JSON());
}

/// The number of the leaf that is the top-level column `name`.
int find_column(const parquet::SchemaDescriptor& schema, const std::string& name, const std::string& file) {
  const parquet::schema::GroupNode& columns = *schema.group_node();
  const int field = columns.FieldIndex(name);
  core::require(field >= 0,
                "{}: there is no column '{}' but {}; name the one with the text (data.text_key, --text-key)",
                file, name, column_names(columns));
  const parquet::schema::Node& node = *columns.field(field);
  core::require(
      holds_strings(node), "{}: the column '{}' holds {}, not strings", file, name,
      node.is_group()
          ? "a list or group"
          : parquet::TypeToString(static_cast<const parquet::schema::PrimitiveNode&>(node).physical_type()));
  return schema.ColumnIndex(node);
}

/// The texts of one row group, a batch of rows at a time.
class RowGroup {
 public:
  RowGroup(parquet::ParquetFileReader& file, int group, int column, std::string where)
      : where_(std::move(where)) {
    at_place<BadRecord>(where_, [&] {
      const auto reader = file.RowGroup(group);
      rows_ = reader->metadata()->num_rows();
      column_ = std::static_pointer_cast<parquet::ByteArrayReader>(reader->Column(column));
    });
  }

  /// Calls take(text, row) for those that are not null, pass(row) for the others.
  template <class Take, class Pass>
  void read(const Take& take, const Pass& pass) {
    while (row_ < rows_) {
      int64_t present = 0;
      const int64_t levels = at_place<BadRecord>(where_, [&] {
        return column_->HasNext()
                   ? column_->ReadBatch(kRowsAtOnce, definitions_.data(), nullptr, values_.data(), &present)
                   : 0;
      });
      core::require<BadRecord>(levels > 0, "{}: there are {} rows instead of {}", where_, row_, rows_);
      const bool nullable = column_->descr()->max_definition_level() > 0;
      const parquet::ByteArray* value = values_.data();
      for (int64_t i = 0; i < levels; ++i, ++row_) {
        if (nullable && definitions_[i] == 0) {
          pass(row_);
          continue;
        }
        take(std::string(reinterpret_cast<const char*>(value->ptr), value->len), row_);
        ++value;
      }
    }
  }

 private:
  std::string where_;
  int64_t rows_ = 0, row_ = 0;
  std::shared_ptr<parquet::ByteArrayReader> column_;
  std::array<int16_t, kRowsAtOnce> definitions_{};  // 0: null
  std::array<parquet::ByteArray, kRowsAtOnce> values_{};
};

std::string checked(const std::string& text, OnInvalidUtf8 on_invalid, const std::string& where) {
  const std::optional<size_t> wrong = core::find_invalid_utf8(text);
  if (!wrong) return text;
  core::require<BadRecord>(on_invalid == OnInvalidUtf8::kReplace,
                           "{}: this is not UTF-8: byte {} of the text is 0x{:02x}; convert it, or {}", where,
                           *wrong, static_cast<unsigned char>(text[*wrong]), kHowToReplace);
  return core::replace_invalid_utf8(text);
}

}  // namespace

void read_parquet(const std::filesystem::path& file, const std::string& column, const Tolerance& tolerance,
                  const std::function<void(const std::string& text, const std::string& where)>& take) {
  const std::string name = file.string();
  const std::unique_ptr<parquet::ParquetFileReader> reader = open_parquet(name);
  const int index = find_column(*reader->metadata()->schema(), column, name);
  for (int group = 0; group < reader->metadata()->num_row_groups(); ++group) {
    const std::string group_name = fmt::format("{}: row group {}", name, group);
    const auto place = [&group_name](int64_t row) { return fmt::format("{}, row {}", group_name, row); };
    const auto take_row = [&](const std::string& text, int64_t row) {
      const std::string where = place(row);
      tolerance.attempt([&] { take(checked(text, tolerance.on_invalid_utf8, where), where); });
    };
    const auto pass_null = [&](int64_t row) {
      if (tolerance.null) tolerance.attempt([&] { tolerance.null(place(row)); });
    };
    tolerance.attempt([&] { RowGroup(*reader, group, index, group_name).read(take_row, pass_null); });
  }
}

}  // namespace exactmamba::data
