#include "core/torch_file.h"

#include <caffe2/serialize/inline_container.h>
#include <cstring>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/safetensors.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::core {
namespace {

using testing::error_of;
using testing::golden;
using testing::TemporaryFolder;
using Kind = PickleValue::Kind;

// ---- files made by torch.save

/// Golden weights in state-spaces form against the same weights as safetensors; `dtype` is what they were
/// rounded to.
void expect_same_weights(const std::string& bin_folder, const std::string& hf_folder, at::ScalarType dtype) {
  const auto tensors = read_torch_state_dict(golden("models/" + bin_folder + "/pytorch_model.bin"));
  const SafetensorsFile reference(golden("models/" + hf_folder + "/model.safetensors"));
  ASSERT_EQ(tensors.size(), reference.names().size() + 1);  // and the tied head
  for (const auto& [name, tensor] : tensors) {
    const bool embedding = name == "lm_head.weight" || name == "backbone.embedding.weight";
    const at::Tensor expected = reference.tensor(embedding ? "backbone.embeddings.weight" : name);
    EXPECT_EQ(tensor.scalar_type(), dtype) << name;
    EXPECT_TRUE(at::equal(tensor, expected.to(dtype))) << name;
  }
  EXPECT_EQ(tensors.front().first, "backbone.embedding.weight");
  EXPECT_EQ(tensors.back().first, "lm_head.weight");
  EXPECT_TRUE(tensors.front().second.is_alias_of(tensors.back().second));
}

TEST(TorchFile, ZipOfMamba1) { expect_same_weights("mamba1-ss", "mamba1-hf", at::kFloat); }
TEST(TorchFile, ZipOfMamba2) { expect_same_weights("mamba2-ss", "mamba2-hf", at::kFloat); }
TEST(TorchFile, LegacyOfMamba1) { expect_same_weights("mamba1-ss-legacy", "mamba1-hf", at::kHalf); }
TEST(TorchFile, LegacyOfMamba2) { expect_same_weights("mamba2-ss-legacy", "mamba2-hf", at::kHalf); }

TEST(TorchFile, ATrainingCheckpointFromElsewhere) {
  if (testing::external_data().empty()) GTEST_SKIP() << "EXACTMAMBA_DATA is not set";
  const auto folder = testing::external_data() / "mamba1-tiny-lm";
  const PickleValue root = read_torch_file(folder / "model.pth");
  EXPECT_EQ(root.at("epoch").kind, Kind::kInt);
  EXPECT_EQ(root.at("scheduler_state").kind, Kind::kDict);
  const PickleValue& optimizer = root.at("optimizer_state");
  EXPECT_EQ(optimizer.at("param_groups").items.size(), 1u);
  EXPECT_EQ(optimizer.at("state").entries[0].second.at("exp_avg").kind, Kind::kTensor);
  const auto tensors = read_torch_state_dict(folder / "model.pth");
  const SafetensorsFile reference(folder / "model.safetensors");
  size_t compared = 0;
  for (const auto& [name, tensor] : tensors) {
    if (!reference.contains(name)) continue;
    EXPECT_TRUE(at::equal(tensor, reference.tensor(name))) << name;
    ++compared;
  }
  EXPECT_EQ(compared, reference.names().size());
}

std::filesystem::path made_by_torch(const std::string& name) { return golden("torch_files/" + name); }

TEST(TorchFile, ValuesInEveryProtocol) {
  for (const char* name : {"values-2.zip", "values-3.zip", "values-4.zip", "values-5.zip", "values.legacy"}) {
    SCOPED_TRACE(name);
    const PickleValue root = read_torch_file(made_by_torch(name));
    EXPECT_EQ(root.at("none").kind, Kind::kNone);
    EXPECT_TRUE(root.at("true").boolean);
    EXPECT_FALSE(root.at("false").boolean);
    const std::vector<std::pair<std::string, int64_t>> numbers = {
        {"small", 7},     {"byte", 255},         {"word", 65535},
        {"negative", -1}, {"lowest", INT64_MIN}, {"long", (int64_t{1} << 62) + 1}};
    for (const auto& [key, number] : numbers) EXPECT_EQ(root.at(key).integer, number) << key;
    EXPECT_EQ(root.at("float").real, -3.25);
    EXPECT_EQ(root.at("text").text, "grüße\n");
    EXPECT_EQ(root.at("empty").kind, Kind::kString);
    EXPECT_EQ(root.at("list").kind, Kind::kList);
    EXPECT_EQ(root.at("list").items.at(1).items.at(1).text, "x");
    EXPECT_EQ(root.at("tuple").kind, Kind::kTuple);
    EXPECT_EQ(root.at("tuple").items.at(3).items.at(3).integer, 4);
    EXPECT_EQ(root.at("ordered").entries.at(0).first.text, "b");
    EXPECT_EQ(root.at("ordered").at("a").integer, 2);
    EXPECT_EQ(root.at("size").items.at(1).integer, 3);
    EXPECT_EQ(root.at("shared").items.at(1).items.at(0).text, "the same list");
    for (const auto& [key, value] : root.entries) {
      if (key.kind != Kind::kString) {
        EXPECT_EQ(key.integer, 5);
        EXPECT_EQ(value.text, "number as key");
      }
    }
  }
}

TEST(TorchFile, ForeignObjectsAreOpaque) {
  for (const char* name : {"values-2.zip", "values-3.zip", "values-4.zip", "values-5.zip", "values.legacy"}) {
    SCOPED_TRACE(name);
    const PickleValue root = read_torch_file(made_by_torch(name));
    const std::vector<std::pair<std::string, std::string>> names = {{"opaque", "argparse.Namespace"},
                                                                    {"date", "datetime.date"},
                                                                    {"dtype", "torch.float32"},
                                                                    {"huge", "builtins.int"},
                                                                    {"default", "collections.defaultdict"}};
    for (const auto& [key, text] : names) {
      EXPECT_EQ(root.at(key).kind, Kind::kOpaque) << key;
      EXPECT_EQ(root.at(key).text, text);
      EXPECT_TRUE(root.at(key).items.empty() && root.at(key).entries.empty());
    }
    for (const char* key : {"set", "frozen", "bytes", "class"})
      EXPECT_EQ(root.at(key).kind, Kind::kOpaque) << key;
  }
}

TEST(TorchFile, TensorsOfEveryDtypeAndLayout) {
  for (const char* name : {"tensors.zip", "tensors.legacy"}) {
    SCOPED_TRACE(name);
    const PickleValue root = read_torch_file(made_by_torch(name));
    EXPECT_EQ(root.at("epoch").integer, 3);
    const PickleValue& tensors = root.at("state_dict");
    const at::Tensor five = at::arange(5);
    const std::vector<std::pair<std::string, at::ScalarType>> dtypes = {{"float64", at::kDouble},
                                                                        {"float32", at::kFloat},
                                                                        {"float16", at::kHalf},
                                                                        {"bfloat16", at::kBFloat16},
                                                                        {"int64", at::kLong},
                                                                        {"int32", at::kInt},
                                                                        {"int16", at::kShort},
                                                                        {"int8", at::kChar},
                                                                        {"uint8", at::kByte},
                                                                        {"bool", at::kBool},
                                                                        {"complex64", at::kComplexFloat}};
    for (const auto& [key, dtype] : dtypes) {
      EXPECT_EQ(tensors.at(key).tensor.scalar_type(), dtype);
      EXPECT_TRUE(at::equal(tensors.at(key).tensor, five.to(dtype))) << key;
    }
    const at::Tensor base = at::arange(24, at::kFloat);
    EXPECT_TRUE(at::equal(tensors.at("transposed").tensor, base.view({4, 6}).t()));
    EXPECT_TRUE(at::equal(tensors.at("part").tensor, base.view({4, 6}).slice(0, 1, 3).slice(1, 0, 6, 2)));
    EXPECT_TRUE(tensors.at("part").tensor.is_alias_of(tensors.at("base").tensor));
    EXPECT_EQ(tensors.at("scalar").tensor.dim(), 0);
    EXPECT_EQ(tensors.at("scalar").tensor.item<float>(), 2.5);
    EXPECT_EQ(tensors.at("none").tensor.sizes(), (at::IntArrayRef{0, 3}));
    EXPECT_TRUE(at::equal(tensors.at("parameter").tensor, at::ones({2})));
    EXPECT_EQ(tensors.at("one").tensor.item<float>(), 7);
    EXPECT_EQ(read_torch_state_dict(made_by_torch(name)).size(), tensors.entries.size());
  }
}

TEST(TorchFile, NoStateDict) {
  const auto message = [](const char* name) {
    return error_of<InputError>([&] { read_torch_state_dict(made_by_torch(name)); });
  };
  EXPECT_CONTAINS(message("whole-model.zip"),
                  "an object of class 'torch.nn.modules.linear.Linear', no state dict");
  EXPECT_CONTAINS(message("values.legacy"), "'none' is no tensor");
}

// ---- pickles made by hand

template <class T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
std::string str(const std::string& text) { return "X" + bytes_of(static_cast<uint32_t>(text.size())) + text; }
std::string num(int64_t value) { return "\x8a\x08" + bytes_of(value); }
std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
std::string pickle(const std::string& code) { return "\x80\x02" + code + "."; }

/// ('storage', class, key, 'cpu', numel) as a persistent object.
std::string storage(const std::string& key, int64_t numel, const std::string& type = "FloatStorage") {
  return "(" + str("storage") + global("torch", type) + str(key) + str("cpu") + num(numel) + "tQ";
}
std::string tuple(const std::vector<int64_t>& numbers) {
  std::string code = "(";
  for (const int64_t n : numbers) code += num(n);
  return code + "t";
}
std::string tensor(const std::string& stored, int64_t offset, const std::vector<int64_t>& size,
                   const std::vector<int64_t>& stride) {
  return global("torch._utils", "_rebuild_tensor_v2") + "(" + stored + num(offset) + tuple(size) +
         tuple(stride) + "\x89" + global("collections", "OrderedDict") + ")RtR";
}

const std::string kMagic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);

/// A legacy file with this object; `storages`: keys and bytes of floats.
std::string legacy(const std::string& object,
                   const std::vector<std::pair<std::string, std::vector<float>>>& storages = {}) {
  std::string file =
      kMagic + pickle("M\xe9\x03") + pickle("}" + str("little_endian") + "\x88s") + pickle(object);
  std::string keys, data;
  for (const auto& [key, values] : storages) {
    keys += str(key) + "a";
    data += bytes_of(static_cast<int64_t>(values.size()));
    data.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }
  return file + pickle("]" + keys) + data;
}

/// A zip file with these records under "archive/".
std::string zip(const std::vector<std::pair<std::string, std::string>>& records, bool compress = false) {
  std::string bytes;
  caffe2::serialize::PyTorchStreamWriter writer([&bytes](const void* data, size_t n) {
    bytes.append(static_cast<const char*>(data), n);
    return n;
  });
  for (const auto& [name, data] : records) writer.writeRecord(name, data.data(), data.size(), compress);
  writer.writeEndOfFile();
  return bytes;
}

class TorchFileByHand : public ::testing::Test {
 protected:
  PickleValue read(const std::string& bytes) {
    testing::put_file(file_, bytes);
    return read_torch_file(file_);
  }
  std::string message(const std::string& bytes) {
    testing::put_file(file_, bytes);
    const std::string text = error_of<InputError>([&] { read_torch_file(file_); });
    EXPECT_TRUE(text.starts_with(file_.string() + ": ")) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    return text;
  }
  std::string object_message(const std::string& code) { return message(legacy(code)); }
  TemporaryFolder folder_;
  std::filesystem::path file_ = folder_ / "m.bin";
};

TEST_F(TorchFileByHand, TensorsViewTheirStorage) {
  const std::vector<float> values = {0, 1, 2, 3, 4, 5};
  const std::string raw(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  const std::string object = "}(" + str("a") + tensor(storage("k", 6), 0, {2, 3}, {3, 1}) + str("b") +
                             tensor(storage("k", 6), 1, {2, 2}, {1, 3}) + str("c") +
                             tensor(storage("k", 6), 6, {0, 3}, {3, 1}) + "u";
  for (const std::string& bytes :
       {legacy(object, {{"k", values}}), zip({{"data.pkl", pickle(object)}, {"data/k", raw}})}) {
    const PickleValue root = read(bytes);
    const at::Tensor a = root.at("a").tensor, b = root.at("b").tensor, c = root.at("c").tensor;
    EXPECT_EQ(a[1][2].item<float>(), 5);
    EXPECT_EQ(b[0][0].item<float>(), 1);
    EXPECT_EQ(b[0][1].item<float>(), 4);
    EXPECT_EQ(b[1][1].item<float>(), 5);
    EXPECT_EQ(c.numel(), 0);
    EXPECT_TRUE(a.is_alias_of(b));
  }
}

TEST_F(TorchFileByHand, ShapesAreReadWithoutBytes) {
  const std::vector<float> values = {0, 1, 2, 3, 4, 5};
  std::string raw(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  const std::string object = "}(" + str("a") + tensor(storage("k", 6), 1, {2, 2}, {1, 3}) + "u",
                    old = legacy(object, {{"k", values}}),
                    in_zip = zip({{"data.pkl", pickle(object)}, {"data/k", raw}});
  for (const std::string& bytes : {old, in_zip}) {
    const at::Tensor whole = read(bytes).at("a").tensor;
    const at::Tensor a = read_torch_file(file_, TorchRead::kShapes).at("a").tensor;
    EXPECT_TRUE(a.is_meta());
    EXPECT_EQ(a.sizes(), whole.sizes());
    EXPECT_EQ(a.strides(), whole.strides());
    EXPECT_EQ(a.scalar_type(), at::kFloat);
  }
  std::string changed = in_zip;
  changed[changed.find(raw)] ^= 1;
  EXPECT_CONTAINS(message(changed), "CRC-32");
  EXPECT_NO_THROW(read_torch_file(file_, TorchRead::kShapes));
  const auto problem = [this](const std::string& bytes) {
    testing::put_file(file_, bytes);
    return error_of<InputError>([this] { read_torch_file(file_, TorchRead::kShapes); });
  };
  raw.resize(20);
  EXPECT_CONTAINS(problem(zip({{"data.pkl", pickle(object)}, {"data/k", raw}})),
                  "'data/k' has 20 bytes, but its tensors need 24");
  EXPECT_CONTAINS(problem(old.substr(0, old.size() - 1)), "24 bytes are needed, but only 23 follow");
}

TEST_F(TorchFileByHand, TensorsStayInsideTheirStorage) {
  const auto bounds = [&](int64_t offset, const std::vector<int64_t>& size,
                          const std::vector<int64_t>& stride) {
    return object_message(tensor(storage("k", 6), offset, size, stride));
  };
  EXPECT_CONTAINS(bounds(1, {3, 2}, {2, 1}),
                  "shape [3, 2] with strides [2, 1] from element 1 leaves its storage of 6 elements");
  EXPECT_CONTAINS(bounds(0, {7}, {1}), "leaves its storage");
  EXPECT_CONTAINS(bounds(6, {}, {}), "leaves its storage");
  EXPECT_CONTAINS(bounds(-1, {1}, {1}), "leaves its storage");
  EXPECT_CONTAINS(bounds(7, {0}, {1}), "leaves its storage");
  EXPECT_CONTAINS(bounds(0, {1 << 30, 1 << 30}, {0, 0}), "leaves its storage");
  EXPECT_CONTAINS(bounds(0, {INT64_MAX, INT64_MAX}, {INT64_MAX, INT64_MAX}), "leaves its storage");
  EXPECT_CONTAINS(bounds(INT64_MAX, {2, 2}, {INT64_MAX, INT64_MAX}), "leaves its storage");
  EXPECT_CONTAINS(bounds(0, {0, INT64_MAX, 3}, {1, 1, 1}), "leaves its storage");
  EXPECT_CONTAINS(bounds(0, {2}, {2, 1}), "differ in length");
  EXPECT_CONTAINS(bounds(0, {-1}, {1}), "no whole number");
  EXPECT_CONTAINS(bounds(0, {1}, {-1}), "no whole number");
}

TEST_F(TorchFileByHand, NothingIsCalled) {
  const std::string command = global("os", "system") + "(" + str("touch executed") + "tR";
  const PickleValue root = read(legacy("}" + str("a") + command + "s"));
  EXPECT_EQ(root.at("a").kind, Kind::kOpaque);
  EXPECT_EQ(root.at("a").text, "os.system");
  // A state, items and calls of an opaque object change nothing.
  const PickleValue more = read(legacy(command + "}b" +
                                       "K\x01"
                                       "a" +
                                       "(K\x01K\x02"
                                       "u" +
                                       ")R"));
  EXPECT_EQ(more.kind, Kind::kOpaque);
  EXPECT_FALSE(std::filesystem::exists("executed"));
}

std::string repeated(const std::string& code, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += code;
  return all;
}

// Each of the repeated calls would copy what the memo holds: gigabytes from 100 to 200 KB.
TEST_F(TorchFileByHand, CopiesAreLimited) {
  const size_t n = 20'000;
  const std::string ordered_dict = global("collections", "OrderedDict") + "q\x01" + "0";
  const std::string pairs = "]q\x02(" + repeated("NN\x86", n) + "e\x85q\x03" + "0";
  EXPECT_CONTAINS(object_message(ordered_dict + pairs + repeated("h\x01h\x03R0", n) + "N"),
                  "a file of torch.save copies far fewer");
  const std::string sizes = "(" + repeated("K\x01", n) + "tq\x02" + "0";
  const std::string rebuild = global("torch._utils", "_rebuild_tensor_v2") + "q\x01" + "0" + "(" +
                              storage("k", 1) + "K" + std::string(1, '\0') + "h\x02h\x02tq\x03" + "0";
  EXPECT_CONTAINS(object_message(sizes + rebuild + repeated("h\x01h\x03R0", n) + "N"),
                  "a file of torch.save copies far fewer");
  const std::string long_name = global("a", std::string(100'000, 'b')) + "q\x01" + "0";
  EXPECT_CONTAINS(object_message(long_name + repeated("h\x01)R0", n) + "N"),
                  "a file of torch.save copies far fewer");
}

TEST_F(TorchFileByHand, MalformedPickles) {
  EXPECT_CONTAINS(object_message("\xff"), "opcode 0xff is not allowed");
  EXPECT_CONTAINS(object_message("i"), "opcode 0x69 is not allowed");
  EXPECT_CONTAINS(object_message("Pid\n"), "opcode 0x50 is not allowed");
  EXPECT_CONTAINS(object_message("\x80\x06N"), "pickle protocol 6");
  EXPECT_CONTAINS(object_message(""), "an object is missing on the stack");
  EXPECT_CONTAINS(object_message("(N0"
                                 "0"),
                  "an object is missing on the stack");
  EXPECT_CONTAINS(object_message("(0"), "an object is missing on the stack");
  EXPECT_CONTAINS(object_message("t"), "a mark is missing");
  EXPECT_CONTAINS(object_message("h\x05"), "memo 5 is empty");
  EXPECT_CONTAINS(object_message("NK\x01"
                                 "a"),
                  "no list");
  EXPECT_CONTAINS(object_message("](K\x01K\x02u"), "no dict");
  EXPECT_CONTAINS(object_message("}(K\x01u"), "a key without value");
  EXPECT_CONTAINS(object_message("N)R"), "no function");
  EXPECT_CONTAINS(object_message(global("a", "b") + "NR"), "no tuple");
  EXPECT_CONTAINS(object_message("NNb"), "a state for something that has none");
  EXPECT_CONTAINS(object_message("NN\x93"), "no text");
  EXPECT_CONTAINS(object_message("NQ"), "a persistent object other than");
  EXPECT_CONTAINS(object_message(storage("k", -1)), "a persistent object other than");
  EXPECT_CONTAINS(object_message(storage("k", 1, "QInt8Storage")),
                  "unknown class of storage 'torch.QInt8Storage'");
  EXPECT_CONTAINS(object_message("(" + storage("k", 1) + storage("k", 2) + "t"),
                  "storage 'k' is given twice");
  EXPECT_CONTAINS(object_message(global("torch._utils", "_rebuild_tensor_v2") + ")R"), "a tensor without");
  EXPECT_CONTAINS(object_message(tensor("N", 0, {1}, {1})), "a tensor without");
  EXPECT_CONTAINS(object_message(global("collections", "OrderedDict") + "K\x01\x85R"), "no list");
  EXPECT_CONTAINS(object_message(global("collections", "OrderedDict") + "]K\x01"
                                                                        "a\x85R"),
                  "no pair");
  EXPECT_CONTAINS(object_message("\x8b" + bytes_of(uint32_t{0xffffffff})), "4294967295 bytes are needed");
  EXPECT_CONTAINS(object_message("\x8d" + bytes_of(UINT64_MAX)), "18446744073709551615 bytes are needed");
  EXPECT_CONTAINS(object_message(std::string(2 << 20, 'N')), "objects on the stack");
}

TEST_F(TorchFileByHand, ObjectsThatAreLargerThanTheirFile) {
  EXPECT_CONTAINS(object_message("]q" + std::string(1, '\0') + "h" + std::string(1, '\0') + "a"),
                  "contains itself");
  EXPECT_CONTAINS(object_message(std::string(1000, ']') + std::string(999, 'a')),
                  "nested deeper than 100 levels");
  std::string doubling = "K\x01";
  for (int i = 0; i < 60; ++i) doubling += "2\x86";
  EXPECT_CONTAINS(object_message(doubling), "much larger than its file");
  std::string repeated = "(" + str(std::string(1000, 'x')) + std::string("q\0", 2);
  for (int i = 0; i < 5000; ++i) repeated += std::string("h\0", 2);
  EXPECT_CONTAINS(object_message(repeated + "l" + "t"), "opcode 0x6c is not allowed");
  EXPECT_CONTAINS(object_message(repeated + "t"), "much larger than its file");
}

TEST_F(TorchFileByHand, LaterEntriesReplaceEarlierOnes) {
  const PickleValue root = read(legacy("}(" + str("a") + "K\x01" + str("b") + "K\x02" + str("a") + "K\x03u"));
  ASSERT_EQ(root.entries.size(), 2u);
  EXPECT_EQ(root.at("a").integer, 3);
  EXPECT_CONTAINS(error_of<InputError>([&] { root.at("c"); }), "'c' is missing");
  EXPECT_CONTAINS(error_of<InputError>([&] { root.at("a").at("x"); }), "no dict");
}

TEST_F(TorchFileByHand, MalformedLegacyFiles) {
  const std::string one = tensor(storage("k", 2), 0, {2}, {1});
  const std::string good = legacy(one, {{"k", {1, 2}}});
  EXPECT_EQ(read(good).tensor[1].item<float>(), 2);
  for (size_t n = 0; n < good.size(); ++n) message(good.substr(0, n));
  EXPECT_CONTAINS(message(legacy(one)), "storage 'k' is missing");
  EXPECT_CONTAINS(message(legacy(one, {{"k", {1}}})), "has 1 elements, but its tensors were made for 2");
  EXPECT_CONTAINS(message(legacy(one, {{"j", {1, 2}}})), "a storage that no tensor uses");
  EXPECT_CONTAINS(message(legacy(tensor(storage("k", INT64_MAX), 0, {1}, {1}), {{"k", {1}}})),
                  "has 1 elements");
  EXPECT_CONTAINS(message(kMagic + pickle("K\x01")), "unknown version");
  EXPECT_CONTAINS(message(kMagic + pickle("M\xe9\x03") + pickle("}" + str("little_endian") + "\x89s")),
                  "big-endian");
  EXPECT_CONTAINS(message("garbage"), "byte 0: neither a zip nor a legacy file of torch.save (7 bytes)");
}

TEST_F(TorchFileByHand, MalformedZipFiles) {
  const std::string one = pickle(tensor(storage("k", 2), 0, {2}, {1}));
  const std::string raw(8, '\0');
  const std::string good = zip({{"data.pkl", one}, {"byteorder", "little"}, {"data/k", raw}});
  EXPECT_EQ(read(good).tensor.numel(), 2);
  for (size_t n = 0; n < good.size(); n += 1 + n / 100) message(good.substr(0, n));
  EXPECT_CONTAINS(message(zip({{"data/k", raw}})), "without data.pkl");
  EXPECT_CONTAINS(message(zip({{"data.pkl", one}})), "data/k' is missing");
  EXPECT_CONTAINS(message(zip({{"data.pkl", one}, {"data/k", raw + "x"}})),
                  "'data/k' has 9 bytes, but its tensors need 8");
  EXPECT_CONTAINS(message(zip({{"data.pkl", one}, {"byteorder", "big"}, {"data/k", raw}})),
                  "byte order 'big'");
  EXPECT_CONTAINS(message(zip({{"data.pkl", std::string(1 << 20, 'N')}}, true)), "compressed or encrypted");
  EXPECT_CONTAINS(message(zip({{"data.pkl", "\x80\x02\xff."}})), "data.pkl: byte 2: opcode 0xff");
  EXPECT_CONTAINS(message("PK\x03\x04"), "damaged zip file");
}

// The CRC-32 of every record is one that PyTorch's writer computed.
TEST_F(TorchFileByHand, AFlippedBitInAZipFileIsNoticedOrChangesNothing) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6, 7};
  const std::string raw(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  const std::string good = zip({{"data.pkl", pickle(tensor(storage("k", 7), 0, {7}, {1}))}, {"data/k", raw}});
  const at::Tensor expected = read(good).tensor.clone();
  const size_t stored = good.find(raw);
  ASSERT_NE(stored, std::string::npos);
  size_t noticed = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    const bool in_tensor = stored <= i && i < stored + raw.size();
    try {
      EXPECT_TRUE(at::equal(read(bad).tensor, expected)) << "byte " << i;  // padding, dates and the like
      EXPECT_FALSE(in_tensor) << "byte " << i;
    } catch (const InputError& error) {
      ++noticed;
      const std::string message = error.what();
      EXPECT_TRUE(!in_tensor ||
                  message.find("data/k' is damaged: the CRC-32 of its 28 bytes") != std::string::npos)
          << message;
    }
  }
  EXPECT_GT(noticed, raw.size());
}

TEST(TorchFile, AFlippedByteOfAGoldenTensorIsNoticed) {
  const TemporaryFolder folder;
  std::string bytes = read_file(golden("models/mamba2-ss/pytorch_model.bin"));
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] + 1);
  testing::put_file(folder / "m.bin", bytes);
  const std::string message = error_of<InputError>([&] { read_torch_state_dict(folder / "m.bin"); });
  EXPECT_CONTAINS(message, "m.bin: '");
  EXPECT_CONTAINS(message, "is damaged: the CRC-32");
}

TEST_F(TorchFileByHand, FilesThatCannotBeRead) {
  EXPECT_CONTAINS(error_of<IoError>([&] { read_torch_file(folder_ / "none"); }), "No such file or directory");
  EXPECT_CONTAINS(error_of<IoError>([&] { read_torch_file(folder_.path()); }), "no regular file");
}

}  // namespace
}  // namespace exactmamba::core
