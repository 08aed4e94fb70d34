// The pickle machine behind torch_file.h: Python's opcodes as data. Nothing is imported or called; the few
// functions that torch.save needs (OrderedDict, _rebuild_tensor_v2, _rebuild_parameter, torch.Size) are known
// by name, all else is opaque.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <c10/core/ScalarType.h>

namespace exactmamba::core {

/// An object of the pickle. Objects may share parts and contain themselves, as in Python.
struct PickleNode {
  enum class Kind {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kList,
    kTuple,
    kDict,
    kTensor,
    kOpaque,
    kGlobal,
    kStorage
  };
  Kind kind = Kind::kNone;
  int64_t integer = 0;  // kBool, kInt; kTensor: storage offset in elements
  double real = 0;      // kFloat
  std::string text;     // kString; kOpaque, kGlobal: "module.name"; kStorage, kTensor: key of the storage
  std::vector<PickleNode*> items;       // kList, kTuple; kDict: keys and values in turn
  std::vector<int64_t> sizes, strides;  // kTensor
};

struct PickledStorage {
  at::ScalarType dtype;
  int64_t numel;
};

class PickleMachine {
 public:
  /// Reads the pickle at the start of `bytes`. Messages begin with "where: byte N: ", N counted from
  /// `first_byte`.
  PickleMachine(std::string_view bytes, std::string where, size_t first_byte = 0);

  /// The object; it lives as long as the machine. @throws InputError
  const PickleNode& run();

  size_t bytes_used() const { return position_; }
  const std::map<std::string, PickledStorage>& storages() const { return storages_; }  // [key]

 private:
  using Kind = PickleNode::Kind;

  // Reading.
  [[noreturn]] void fail(const std::string& message) const;
  std::string_view take(uint64_t n);
  std::string_view take_line();
  template <class T>
  T take_number();
  double take_big_endian_double();
  int64_t take_long(uint64_t n, bool& fits);
  void spend(size_t words);

  // The stack.
  PickleNode* make(Kind kind);
  PickleNode* push(Kind kind);
  PickleNode* push_text(Kind kind, std::string_view text);
  void push_integer(Kind kind, int64_t value);
  void push_long(uint64_t n);
  PickleNode* pop();
  PickleNode* top();
  std::vector<PickleNode*> pop_to_mark();
  void push_tuple(std::vector<PickleNode*> items);

  // Opcodes.
  bool step();  // false after STOP
  bool step_values(uint8_t opcode);
  bool step_containers(uint8_t opcode);
  bool step_objects(uint8_t opcode);
  bool step_memo(uint8_t opcode);
  void append(const std::vector<PickleNode*>& items);
  void set_items(const std::vector<PickleNode*>& items);
  void build();
  void reduce(const PickleNode& callable, PickleNode& arguments);
  void load_storage(const PickleNode& id);
  void remember(uint64_t index);
  void recall(uint64_t index);

  // Known functions.
  void make_ordered_dict(const PickleNode& arguments);
  void rebuild_tensor(const PickleNode& arguments);
  std::vector<int64_t> dimensions(const PickleNode& value);
  void check_bounds(const PickleNode& tensor) const;

  std::string_view bytes_;
  std::string where_;
  size_t first_byte_, position_ = 0, opcode_begin_ = 0;
  size_t copied_ = 0;  // words that opcodes have copied out of other objects
  std::deque<PickleNode> nodes_;
  std::vector<PickleNode*> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::unordered_map<uint64_t, PickleNode*> memo_;
  std::map<std::string, PickledStorage> storages_;
};

}  // namespace exactmamba::core
