#include "core/safetensors.h"

#include <cstring>
#include <sys/stat.h>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/files.h"

namespace exactmamba::core {
namespace {

using testing::error_of;
using testing::TemporaryFolder;

/// A file with this header and `data` bytes after it.
std::string file_with(const std::string& header, const std::string& data = "") {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

class Safetensors : public ::testing::Test {
 protected:
  std::string message(const std::string& bytes) {
    testing::put_file(file_, bytes);
    const std::string text = error_of<InputError>([&] { SafetensorsFile opened(file_); });
    EXPECT_TRUE(text.starts_with(file_.string() + ": ")) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    return text;
  }
  TemporaryFolder folder_;
  std::filesystem::path file_ = folder_ / "m.safetensors";
};

TEST_F(Safetensors, EveryDtypeComesBack) {
  NamedTensors tensors;
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt,
                                     at::kShort, at::kChar, at::kByte, at::kBool}) {
    tensors.emplace_back(std::string("t.") + c10::toString(dtype), at::arange(7).remainder(3).to(dtype));
  }
  tensors.emplace_back("scalar", at::ones({}, at::kDouble));
  tensors.emplace_back("empty", at::ones({3, 0, 2}, at::kFloat));
  tensors.emplace_back("transposed", at::arange(6, at::kDouble).view({2, 3}).t());
  write_safetensors(file_, tensors, {{"format", "pt"}, {"ü", "\"x\"\n"}});
  const SafetensorsFile read(file_);
  ASSERT_EQ(read.names().size(), tensors.size());
  EXPECT_EQ(read.metadata().at("format"), "pt");
  EXPECT_EQ(read.metadata().at("ü"), "\"x\"\n");
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(read.names()[i], tensors[i].first);
    EXPECT_EQ(read.tensor(tensors[i].first).scalar_type(), tensors[i].second.scalar_type());
    EXPECT_TRUE(at::equal(read.tensor(tensors[i].first), tensors[i].second)) << tensors[i].first;
  }
}

TEST_F(Safetensors, TheTensorKeepsTheMappingAlive) {
  write_safetensors(file_, {{"x", at::arange(1000, at::kDouble)}});
  at::Tensor view;
  {
    const SafetensorsFile read(file_);
    view = read.tensor("x");
    std::filesystem::remove(file_);
  }
  EXPECT_TRUE(at::equal(view, at::arange(1000, at::kDouble)));
}

TEST_F(Safetensors, DataOffAlignmentIsCopied) {
  const double values[2] = {1.5, -2.5};
  std::string data(1, '\1');
  data.append(reinterpret_cast<const char*>(values), sizeof values);
  write_file(
      file_,
      file_with(
          R"({"b":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"F64","shape":[2],"data_offsets":[1,17]}})",
          data));
  const at::Tensor x = SafetensorsFile(file_).tensor("x");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(x.const_data_ptr()) % alignof(double), 0u);
  EXPECT_EQ(x[0].item<double>(), 1.5);
  EXPECT_EQ(x[1].item<double>(), -2.5);
}

TEST_F(Safetensors, TheLayoutOfTheFile) {
  write_safetensors(file_, {{"a", at::ones({2}, at::kFloat)}});
  const std::string bytes = read_file(file_);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(bytes.substr(8, length), R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  )");
  EXPECT_EQ(bytes.size(), 8 + length + 8);
}

TEST_F(Safetensors, BadLengths) {
  EXPECT_CONTAINS(message(""), "byte 0: the file has 0 bytes");
  EXPECT_CONTAINS(message("1234567"), "byte 0: the file has 7 bytes");
  EXPECT_CONTAINS(message(std::string(8, '\0')), "byte 8: the header does not begin");
  EXPECT_CONTAINS(message(std::string(8, '\xff') + "{}"), "18446744073709551615 bytes");
  EXPECT_CONTAINS(message(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10)),
                  "100000001 bytes; more than 100000000 are refused");
  EXPECT_CONTAINS(message(file_with("{}").substr(0, 9)), "only 1 follow");
  EXPECT_CONTAINS(message(file_with(" {}")), "byte 8: the header does not begin");
}

TEST_F(Safetensors, BadHeaders) {
  const auto entry = [&](const std::string& json, size_t data = 8) {
    return message(file_with(json, std::string(data, '\0')));
  };
  EXPECT_CONTAINS(entry("{\"a\":"), "header (from byte 8):1:");
  EXPECT_CONTAINS(entry("{\"a\xff\":{}}"), "UTF-8");
  EXPECT_CONTAINS(entry("{} x"), "header");
  EXPECT_CONTAINS(entry(R"({"a":NaN})"), "header (from byte 8):1:");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,8]}})"),
                  "header (from byte 8):1:");
  EXPECT_CONTAINS(entry("{\"a\":" + std::string(100000, '[')), "nested deeper");
  EXPECT_CONTAINS(
      entry(
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"),
      "the key 'a' is given twice");
  EXPECT_CONTAINS(entry(R"({"a":1})"), "tensor 'a': expected an object");
  EXPECT_CONTAINS(entry(R"({"a":{"shape":[2],"data_offsets":[0,8]}})"), "'dtype' is missing");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,8]}})"), "unknown dtype \"F4\"");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":7,"shape":[2],"data_offsets":[0,8]}})"), "unknown dtype 7");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})"), "'shape' is missing");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})"),
                  "'shape' must be a list of whole numbers");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})"),
                  "'shape' must be a list of whole numbers");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":"2","data_offsets":[0,8]}})"),
                  "'shape' must be a list of whole numbers");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[2]}})"), "'data_offsets' is missing");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4,8]}})"),
                  "data_offsets must be [begin, end]");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})"),
                  "data_offsets must be [begin, end]");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})"),
                  "unknown key 'x'");
  EXPECT_CONTAINS(entry(R"({"__metadata__":1})"), "__metadata__ must be an object");
  EXPECT_CONTAINS(entry(R"({"__metadata__":{"a":1}})"), "__metadata__ 'a' must be a string");
}

TEST_F(Safetensors, BadOffsetsAndSizes) {
  const auto entry = [&](const std::string& json, size_t data = 8) {
    return message(file_with(json, std::string(data, '\0')));
  };
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7),
                  "the file holds 7 bytes of data from byte 62");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}})"),
                  "18446744073709551615");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 9),
                  "byte 70: 1 bytes after the last tensor");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})"),
                  "need 12 bytes, but data_offsets give 8");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})"),
                  "overflows");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[4611686018427387904,2,0],"data_offsets":[0,0]}})"),
                  "overflows");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})"),
                  "overflows");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0]}})"),
                  "need too many bytes");
  EXPECT_CONTAINS(
      entry(
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})"),
      "overlaps");
  EXPECT_CONTAINS(entry(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"),
                  "4 bytes before tensor 'a' belong to no tensor");
}

TEST_F(Safetensors, FilesThatCannotBeRead) {
  const auto io_message = [](const std::filesystem::path& path) {
    return error_of<IoError>([&] { SafetensorsFile opened(path); });
  };
  EXPECT_CONTAINS(io_message(folder_ / "none"), "No such file or directory");
  EXPECT_CONTAINS(io_message(folder_.path()), "no regular file");
  const std::filesystem::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_CONTAINS(io_message(pipe), "no regular file");
  write_safetensors(file_, {{"x", at::zeros({1})}});
  EXPECT_CONTAINS(error_of<InputError>([&] { SafetensorsFile(file_).tensor("y"); }),
                  "there is no tensor 'y'");
}

TEST_F(Safetensors, RefusesToWriteWhatCannotBeRead) {
  const at::Tensor x = at::zeros({1});
  EXPECT_CONTAINS(error_of<InputError>([&] {
                    write_safetensors(file_, {{"x", x}, {"x", x}});
                  }),
                  "two tensors are called 'x'");
  EXPECT_CONTAINS(error_of<InputError>([&] {
                    write_safetensors(file_, {{"__metadata__", x}});
                  }),
                  "__metadata__");
  EXPECT_CONTAINS(error_of<InputError>([&] {
                    write_safetensors(file_, {{"x", x.to(at::kComplexDouble)}});
                  }),
                  "no dtype complex128");
  EXPECT_CONTAINS(error_of<InputError>([&] { write_safetensors(file_, {{"\xff", x}}); }), "UTF-8");
  EXPECT_CONTAINS(error_of<IoError>([&] {
                    write_safetensors(folder_ / "none" / "f", {{"x", x}});
                  }),
                  "No such file");
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

}  // namespace
}  // namespace exactmamba::core
