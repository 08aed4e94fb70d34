#include "core/torch_file.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string_view>
#include <unordered_map>

#include <ATen/ops/empty.h>
#include <ATen/ops/set.h>

#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "core/pickle_machine.h"
#include "core/zip_file.h"

namespace exactmamba::core {
namespace {

constexpr int kDeepestValue = 100;

/// Gives the bytes of a storage, loading them at the first call.
using StorageLoader = std::function<c10::Storage(const std::string& key)>;

/// A copy, aligned as tensors need it; of kShapes as large as one.
c10::Storage storage_of(std::string_view bytes, TorchRead what) {
  const at::Device device = what == TorchRead::kShapes ? at::kMeta : at::kCPU;
  const at::Tensor copy =
      at::empty({static_cast<int64_t>(bytes.size())}, at::TensorOptions().dtype(at::kByte).device(device));
  if (copy.is_cpu()) std::copy(bytes.begin(), bytes.end(), copy.mutable_data_ptr<uint8_t>());
  return copy.storage();
}

/// Turns the machine's graph into a tree. Shared parts are repeated, so their number is limited; circles are
/// refused.
class TreeMaker {
 public:
  TreeMaker(const PickleMachine& machine, std::string where, StorageLoader load)
      : machine_(machine),
        where_(std::move(where)),
        load_(std::move(load)),
        values_left_(1000 + 4 * machine.bytes_used()),
        text_left_(1000 + 64 * machine.bytes_used()) {}

  PickleValue make(const PickleNode& node, int depth = 0) {
    require(depth < kDeepestValue, "{}: the object contains itself or is nested deeper than {} levels",
            where_, kDeepestValue);
    spend(values_left_, 1);
    spend(text_left_, node.text.size());
    PickleValue value;
    value.kind = kind_of(node);
    if (value.kind == PickleValue::Kind::kBool) value.boolean = node.integer != 0;
    if (value.kind == PickleValue::Kind::kInt) value.integer = node.integer;
    value.real = node.real;
    if (value.kind == PickleValue::Kind::kString || value.kind == PickleValue::Kind::kOpaque)
      value.text = node.text;
    if (value.kind == PickleValue::Kind::kTensor) value.tensor = tensor(node);
    if (value.kind == PickleValue::Kind::kDict) {
      add_entries(node, value, depth);
    } else {
      for (const PickleNode* item : node.items) value.items.push_back(make(*item, depth + 1));
    }
    return value;
  }

 private:
  void spend(size_t& left, size_t n) {
    require(n <= left, "{}: the object is much larger than its file (parts repeated many times)", where_);
    left -= n;
  }

  static PickleValue::Kind kind_of(const PickleNode& node) {
    using From = PickleNode::Kind;
    using To = PickleValue::Kind;
    switch (node.kind) {
      case From::kNone:
        return To::kNone;
      case From::kBool:
        return To::kBool;
      case From::kInt:
        return To::kInt;
      case From::kFloat:
        return To::kFloat;
      case From::kString:
        return To::kString;
      case From::kList:
        return To::kList;
      case From::kTuple:
        return To::kTuple;
      case From::kDict:
        return To::kDict;
      case From::kTensor:
        return To::kTensor;
      case From::kOpaque:
      case From::kGlobal:
      case From::kStorage:
        break;
    }
    return To::kOpaque;
  }

  /// A later value of the same (text) key replaces the earlier one, as in Python.
  void add_entries(const PickleNode& node, PickleValue& dict, int depth) {
    std::unordered_map<std::string_view, size_t> place;
    for (size_t i = 0; i + 1 < node.items.size(); i += 2) {
      const PickleNode& key = *node.items[i];
      PickleValue value = make(*node.items[i + 1], depth + 1);
      const bool is_text = key.kind == PickleNode::Kind::kString;
      if (is_text && !place.emplace(key.text, dict.entries.size()).second) {
        dict.entries[place[key.text]].second = std::move(value);
      } else {
        dict.entries.emplace_back(make(key, depth + 1), std::move(value));
      }
    }
  }

  at::Tensor tensor(const PickleNode& node) {
    const c10::Storage storage = load_(node.text);
    at::Tensor result =
        at::empty({0}, at::device(storage.device()).dtype(machine_.storages().at(node.text).dtype));
    result.set_(storage, node.integer, node.sizes, node.strides);
    return result;
  }

  const PickleMachine& machine_;
  std::string where_;
  StorageLoader load_;
  size_t values_left_, text_left_;
};

size_t storage_bytes(const PickledStorage& storage, const std::string& where) {
  size_t bytes = 0;
  const bool overflow =
      __builtin_mul_overflow(static_cast<size_t>(storage.numel), at::elementSize(storage.dtype), &bytes);
  require(!overflow && bytes <= INT64_MAX, "{}: a storage of {} elements", where, storage.numel);
  return bytes;
}

// ---- zip: NAME/data.pkl, NAME/data/KEY, NAME/byteorder

class ZipArchive {
 public:
  ZipArchive(const MappedFile& file, std::string where, TorchRead what)
      : where_(std::move(where)), what_(what), bytes_left_(file.bytes().size()), zip_(file.bytes(), where_) {
    const std::string& first = zip_.first_name();
    folder_ = first.substr(0, first.find('/') + 1);
  }

  PickleValue read() {
    require(has("data.pkl"), "{}: a zip file without data.pkl; torch.save did not make it", where_);
    if (has("byteorder")) {
      const std::string_view order = record("byteorder", TorchRead::kValues);
      require(order == "little", "{}: byte order '{}'; only little-endian files are read", where_,
              printable(order));
    }
    PickleMachine machine(record("data.pkl", TorchRead::kValues), where_ + ": data.pkl");
    const PickleNode& root = machine.run();
    return TreeMaker(machine, where_, [&](const std::string& key) { return storage(machine, key); })
        .make(root);
  }

 private:
  bool has(const std::string& name) const { return zip_.contains(folder_ + name); }

  /// All records together must not be larger than the file: they do not overlap.
  std::string_view record(const std::string& name, TorchRead what) {
    const std::string path = folder_ + name;
    const std::string_view bytes = what == TorchRead::kShapes ? zip_.unread_entry(path) : zip_.entry(path);
    require(bytes.size() <= bytes_left_, "{}: '{}' has {} bytes, more than other records leave of the file",
            where_, printable(name), bytes.size());
    bytes_left_ -= bytes.size();
    return bytes;
  }

  c10::Storage storage(const PickleMachine& machine, const std::string& key) {
    const auto known = loaded_.find(key);
    if (known != loaded_.end()) return known->second;
    const size_t needed = storage_bytes(machine.storages().at(key), where_);
    const std::string_view bytes = record("data/" + key, what_);
    require(bytes.size() == needed, "{}: 'data/{}' has {} bytes, but its tensors need {}", where_,
            printable(key), bytes.size(), needed);
    return loaded_.emplace(key, storage_of(bytes, what_)).first->second;
  }

  std::string where_;
  TorchRead what_;
  size_t bytes_left_;
  ZipFile zip_;
  std::string folder_;  // "NAME/", which all records share
  std::map<std::string, c10::Storage> loaded_;
};

// ---- legacy: five pickles (magic number, protocol, system, object, storage keys), then size and bytes of
// every storage

constexpr std::string_view kLegacyMagic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
constexpr size_t kProtocolOpcode = 2;  // bytes before the magic number
constexpr int64_t kLegacyProtocol = 1001;

bool is_legacy(std::string_view bytes) {
  return bytes.size() > kProtocolOpcode && bytes.substr(kProtocolOpcode).starts_with(kLegacyMagic);
}

class LegacyFile {
 public:
  LegacyFile(const MappedFile& file, std::string where, TorchRead what)
      : bytes_(file.bytes()),
        where_(std::move(where)),
        what_(what),
        position_(kProtocolOpcode + kLegacyMagic.size()) {}

  PickleValue read() {
    const PickleValue protocol = plain_pickle();
    require(protocol.kind == PickleValue::Kind::kInt && protocol.integer == kLegacyProtocol,
            "{}: unknown version of the torch.save format; {} is known", where_, kLegacyProtocol);
    const PickleValue system = plain_pickle();
    const PickleValue* little_endian = system.find("little_endian");
    require(little_endian && little_endian->boolean,
            "{}: a big-endian file; only little-endian files are read", where_);
    PickleMachine machine(bytes_.substr(position_), where_, position_);
    const PickleNode& root = machine.run();
    position_ += machine.bytes_used();
    find_storages(machine, plain_pickle());
    return TreeMaker(machine, where_, [&](const std::string& key) { return storage(key); }).make(root);
  }

 private:
  /// A pickle without tensors.
  PickleValue plain_pickle() {
    PickleMachine machine(bytes_.substr(position_), where_, position_);
    const PickleNode& root = machine.run();
    position_ += machine.bytes_used();
    return TreeMaker(
               machine, where_,
               [this](const std::string&) -> c10::Storage {
                 throw InputError(fmt::format("{}: byte {}: a tensor outside the object", where_, position_));
               })
        .make(root);
  }

  void find_storages(const PickleMachine& machine, const PickleValue& keys) {
    require(keys.kind == PickleValue::Kind::kList, "{}: byte {}: the list of storages is missing", where_,
            position_);
    for (const PickleValue& key : keys.items) {
      const auto known = machine.storages().find(key.text);
      require(key.kind == PickleValue::Kind::kString && known != machine.storages().end(),
              "{}: byte {}: a storage that no tensor uses", where_, position_);
      int64_t numel = 0;
      std::memcpy(&numel, take(sizeof numel).data(), sizeof numel);
      require(numel == known->second.numel,
              "{}: byte {}: storage '{}' has {} elements, but its tensors were made for {}", where_,
              position_ - sizeof numel, printable(key.text), numel, known->second.numel);
      stored_[key.text] = take(storage_bytes(known->second, where_));
    }
  }

  std::string_view take(size_t n) {
    require(n <= bytes_.size() - position_,
            "{}: byte {}: {} bytes are needed, but only {} follow (truncated file?)", where_, position_, n,
            bytes_.size() - position_);
    position_ += n;
    return bytes_.substr(position_ - n, n);
  }

  c10::Storage storage(const std::string& key) {
    const auto known = loaded_.find(key);
    if (known != loaded_.end()) return known->second;
    const auto stored = stored_.find(key);
    require(stored != stored_.end(), "{}: storage '{}' is missing", where_, printable(key));
    return loaded_.emplace(key, storage_of(stored->second, what_)).first->second;
  }

  std::string_view bytes_;
  std::string where_;
  TorchRead what_;
  size_t position_;
  std::map<std::string, std::string_view> stored_;  // [key]
  std::map<std::string, c10::Storage> loaded_;      // [key]
};

// ---- state dicts

/// The dict that holds the tensors: `root` or what it keeps under one of the usual names.
const PickleValue& state_dict_of(const PickleValue& root, const std::string& where) {
  require(root.kind != PickleValue::Kind::kOpaque,
          "{}: the file holds an object of class '{}', no state dict; save model.state_dict()", where,
          printable(root.text));
  require(root.kind == PickleValue::Kind::kDict, "{}: the file holds no state dict", where);
  for (const char* name : {"model_state", "state_dict", "model"}) {
    const PickleValue* inner = root.find(name);
    if (inner && inner->kind == PickleValue::Kind::kDict) return *inner;
  }
  return root;
}

}  // namespace

PickleValue::PickleValue() = default;
PickleValue::PickleValue(const PickleValue&) = default;
PickleValue::PickleValue(PickleValue&&) noexcept = default;
PickleValue& PickleValue::operator=(const PickleValue&) = default;
PickleValue& PickleValue::operator=(PickleValue&&) noexcept = default;
PickleValue::~PickleValue() = default;

const PickleValue* PickleValue::find(const std::string& key) const {
  for (const auto& [name, value] : entries) {
    if (name.kind == Kind::kString && name.text == key) return &value;
  }
  return nullptr;
}

const PickleValue& PickleValue::at(const std::string& key) const {
  require(kind == Kind::kDict, "'{}' is looked for in something that is no dict", printable(key));
  const PickleValue* value = find(key);
  require(value != nullptr, "the key '{}' is missing", printable(key));
  return *value;
}

PickleValue read_torch_file(const std::filesystem::path& file, TorchRead what) {
  const MappedFile mapped(file);
  const std::string where = file.string();
  if (mapped.bytes().starts_with("PK")) return ZipArchive(mapped, where, what).read();
  if (is_legacy(mapped.bytes())) return LegacyFile(mapped, where, what).read();
  throw InputError(fmt::format("{}: byte 0: neither a zip nor a legacy file of torch.save ({} bytes)", where,
                               mapped.bytes().size()));
}

std::vector<std::pair<std::string, at::Tensor>> state_dict_tensors(const PickleValue& root,
                                                                   const std::string& where) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& [name, value] : state_dict_of(root, where).entries) {
    require(name.kind == PickleValue::Kind::kString, "{}: a key of the state dict is no text", where);
    require(value.kind == PickleValue::Kind::kTensor, "{}: '{}' is no tensor{}", where, printable(name.text),
            value.kind == PickleValue::Kind::kOpaque ? " but an object of " + printable(value.text) : "");
    tensors.emplace_back(name.text, value.tensor);
  }
  require(!tensors.empty(), "{}: the state dict is empty", where);
  return tensors;
}

std::vector<std::pair<std::string, at::Tensor>> read_torch_state_dict(const std::filesystem::path& file,
                                                                      TorchRead what) {
  return state_dict_tensors(read_torch_file(file, what), file.string());
}

std::string class_name(const PickleValue& value) {
  using Kind = PickleValue::Kind;
  static const std::map<Kind, const char*> kNames = {
      {Kind::kNone, "NoneType"}, {Kind::kBool, "bool"},  {Kind::kInt, "int"},
      {Kind::kFloat, "float"},   {Kind::kString, "str"}, {Kind::kList, "list"},
      {Kind::kTuple, "tuple"},   {Kind::kDict, "dict"},  {Kind::kTensor, "torch.Tensor"}};
  return value.kind == Kind::kOpaque ? value.text : kNames.at(value.kind);
}

}  // namespace exactmamba::core
