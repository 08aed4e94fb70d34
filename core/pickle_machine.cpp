#include "core/pickle_machine.h"

#include <bit>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace exactmamba::core {
namespace {

constexpr uint8_t kNewestProtocol = 5;
constexpr size_t kDeepestStack = 1 << 20;

enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kNone = 'N',
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kBinFloat = 'G',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kBinBytes8 = 0x8e,
  kByteArray8 = 0x96,
  kEmptyList = ']',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kSetItem = 's',
  kSetItems = 'u',
  kEmptyTuple = ')',
  kTuple = 't',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kGlobal = 'c',
  kStackGlobal = 0x93,
  kReduce = 'R',
  kNewObj = 0x81,
  kNewObjEx = 0x92,
  kBuild = 'b',
  kBinPersId = 'Q',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kMemoize = 0x94,
  kProto = 0x80,
  kFrame = 0x95,
};

struct StorageClass {
  const char* name;
  at::ScalarType dtype;
};
constexpr StorageClass kStorageClasses[] = {
    {"torch.FloatStorage", at::kFloat},
    {"torch.DoubleStorage", at::kDouble},
    {"torch.HalfStorage", at::kHalf},
    {"torch.BFloat16Storage", at::kBFloat16},
    {"torch.LongStorage", at::kLong},
    {"torch.IntStorage", at::kInt},
    {"torch.ShortStorage", at::kShort},
    {"torch.CharStorage", at::kChar},
    {"torch.ByteStorage", at::kByte},
    {"torch.BoolStorage", at::kBool},
    {"torch.ComplexFloatStorage", at::kComplexFloat},
    {"torch.ComplexDoubleStorage", at::kComplexDouble},
    {"torch.UntypedStorage", at::kByte},
    {"torch.storage.UntypedStorage", at::kByte},
};

constexpr const char* kOrderedDict = "collections.OrderedDict";

}  // namespace

PickleMachine::PickleMachine(std::string_view bytes, std::string where, size_t first_byte)
    : bytes_(bytes), where_(std::move(where)), first_byte_(first_byte) {}

const PickleNode& PickleMachine::run() {
  while (step()) {
    if (stack_.size() > kDeepestStack) fail(fmt::format("more than {} objects on the stack", kDeepestStack));
  }
  return *stack_.back();
}

// ---- reading

void PickleMachine::fail(const std::string& message) const {
  throw InputError(fmt::format("{}: byte {}: {}", where_, first_byte_ + opcode_begin_, message));
}

std::string_view PickleMachine::take(uint64_t n) {
  if (n > bytes_.size() - position_) {
    fail(fmt::format("{} bytes are needed, but only {} follow (truncated file?)", n,
                     bytes_.size() - position_));
  }
  const std::string_view taken = bytes_.substr(position_, n);
  position_ += n;
  return taken;
}

std::string_view PickleMachine::take_line() {
  const size_t end = bytes_.find('\n', position_);
  if (end == std::string_view::npos) fail("a name without end (truncated file?)");
  const std::string_view line = take(end - position_);
  ++position_;
  return line;
}

template <class T>
T PickleMachine::take_number() {
  static_assert(std::endian::native == std::endian::little, "pickles are little-endian");
  T value;
  std::memcpy(&value, take(sizeof value).data(), sizeof value);
  return value;
}

double PickleMachine::take_big_endian_double() {
  return std::bit_cast<double>(__builtin_bswap64(take_number<uint64_t>()));
}

/// A signed little-endian number of n bytes.
int64_t PickleMachine::take_long(uint64_t n, bool& fits) {
  const std::string_view digits = take(n);
  fits = n <= sizeof(int64_t);
  if (!fits || n == 0) return 0;
  uint64_t value = digits.back() < 0 ? UINT64_MAX : 0;
  std::memcpy(&value, digits.data(), n);
  return static_cast<int64_t>(value);
}

/// An opcode of a few bytes can copy a long list or text that the memo holds, again and again; a pickle of
/// torch.save never copies more than it has bytes.
void PickleMachine::spend(size_t words) {
  copied_ += words;
  if (copied_ > 1000 + 4 * position_) {
    fail(fmt::format("{} values are copied by the first {} bytes; a file of torch.save copies far fewer",
                     copied_, position_));
  }
}

// ---- the stack

PickleNode* PickleMachine::make(Kind kind) {
  PickleNode& node = nodes_.emplace_back();
  node.kind = kind;
  return &node;
}

PickleNode* PickleMachine::push(Kind kind) {
  stack_.push_back(make(kind));
  return stack_.back();
}

PickleNode* PickleMachine::push_text(Kind kind, std::string_view text) {
  spend(text.size() / sizeof(int64_t));
  PickleNode* node = push(kind);
  node->text = text;
  return node;
}

void PickleMachine::push_integer(Kind kind, int64_t value) { push(kind)->integer = value; }

void PickleMachine::push_long(uint64_t n) {
  bool fits = false;
  const int64_t value = take_long(n, fits);
  fits ? push_integer(Kind::kInt, value) : void(push_text(Kind::kOpaque, "builtins.int"));
}

PickleNode* PickleMachine::top() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) fail("an object is missing on the stack");
  return stack_.back();
}

PickleNode* PickleMachine::pop() {
  PickleNode* node = top();
  stack_.pop_back();
  return node;
}

std::vector<PickleNode*> PickleMachine::pop_to_mark() {
  if (marks_.empty()) fail("a mark is missing on the stack");
  const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<PickleNode*> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

void PickleMachine::push_tuple(std::vector<PickleNode*> items) {
  push(Kind::kTuple)->items = std::move(items);
}

// ---- opcodes

bool PickleMachine::step() {
  opcode_begin_ = position_;
  const auto opcode = take_number<uint8_t>();
  if (opcode == kStop) {
    top();
    return false;
  }
  if (opcode == kProto) {
    const auto protocol = take_number<uint8_t>();
    if (protocol > kNewestProtocol)
      fail(fmt::format("pickle protocol {}; the newest known is {}", protocol, kNewestProtocol));
    return true;
  }
  if (opcode == kFrame) {
    take(sizeof(uint64_t));
    return true;
  }
  if (!step_values(opcode) && !step_containers(opcode) && !step_objects(opcode) && !step_memo(opcode)) {
    fail(fmt::format("opcode 0x{:02x} is not allowed", opcode));
  }
  return true;
}

bool PickleMachine::step_values(uint8_t opcode) {
  switch (opcode) {
    case kNone:
      push(Kind::kNone);
      break;
    case kNewTrue:
      push_integer(Kind::kBool, 1);
      break;
    case kNewFalse:
      push_integer(Kind::kBool, 0);
      break;
    case kBinInt:
      push_integer(Kind::kInt, take_number<int32_t>());
      break;
    case kBinInt1:
      push_integer(Kind::kInt, take_number<uint8_t>());
      break;
    case kBinInt2:
      push_integer(Kind::kInt, take_number<uint16_t>());
      break;
    case kLong1:
      push_long(take_number<uint8_t>());
      break;
    case kLong4:
      push_long(take_number<uint32_t>());
      break;
    case kBinFloat:
      push(Kind::kFloat)->real = take_big_endian_double();
      break;
    case kBinString:
    case kBinUnicode:
      push_text(Kind::kString, take(take_number<uint32_t>()));
      break;
    case kShortBinString:
    case kShortBinUnicode:
      push_text(Kind::kString, take(take_number<uint8_t>()));
      break;
    case kBinUnicode8:
      push_text(Kind::kString, take(take_number<uint64_t>()));
      break;
    case kBinBytes:
      take(take_number<uint32_t>()), push_text(Kind::kOpaque, "builtins.bytes");
      break;
    case kShortBinBytes:
      take(take_number<uint8_t>()), push_text(Kind::kOpaque, "builtins.bytes");
      break;
    case kBinBytes8:
      take(take_number<uint64_t>()), push_text(Kind::kOpaque, "builtins.bytes");
      break;
    case kByteArray8:
      take(take_number<uint64_t>()), push_text(Kind::kOpaque, "builtins.bytearray");
      break;
    default:
      return false;
  }
  return true;
}

bool PickleMachine::step_containers(uint8_t opcode) {
  const auto pop_tuple = [this](size_t n) {
    std::vector<PickleNode*> items(n);
    for (size_t i = n; i > 0; --i) items[i - 1] = pop();
    push_tuple(std::move(items));
  };
  switch (opcode) {
    case kMark:
      marks_.push_back(stack_.size());
      break;
    case kPop:
      pop();
      break;
    case kPopMark:
      pop_to_mark();
      break;
    case kDup:
      stack_.push_back(top());
      break;
    case kEmptyList:
      push(Kind::kList);
      break;
    case kAppend:
      append({pop()});
      break;
    case kAppends:
      append(pop_to_mark());
      break;
    case kEmptyDict:
      push(Kind::kDict);
      break;
    case kSetItem: {
      PickleNode* value = pop();
      PickleNode* key = pop();
      set_items({key, value});
      break;
    }
    case kSetItems:
      set_items(pop_to_mark());
      break;
    case kEmptyTuple:
      push_tuple({});
      break;
    case kTuple:
      push_tuple(pop_to_mark());
      break;
    case kTuple1:
      pop_tuple(1);
      break;
    case kTuple2:
      pop_tuple(2);
      break;
    case kTuple3:
      pop_tuple(3);
      break;
    case kEmptySet:
      push_text(Kind::kOpaque, "builtins.set");
      break;
    case kAddItems:
      append(pop_to_mark());
      break;
    case kFrozenSet:
      pop_to_mark(), push_text(Kind::kOpaque, "builtins.frozenset");
      break;
    default:
      return false;
  }
  return true;
}

bool PickleMachine::step_objects(uint8_t opcode) {
  switch (opcode) {
    case kGlobal: {
      const std::string_view module = take_line();
      push_text(Kind::kGlobal, fmt::format("{}.{}", module, take_line()));
      break;
    }
    case kStackGlobal: {
      const PickleNode* name = pop();
      const PickleNode* module = pop();
      if (name->kind != Kind::kString || module->kind != Kind::kString) fail("a global name that is no text");
      push_text(Kind::kGlobal, fmt::format("{}.{}", module->text, name->text));
      break;
    }
    case kNewObjEx:
      pop();
      [[fallthrough]];  // keyword arguments
    case kNewObj:
    case kReduce: {
      PickleNode* arguments = pop();
      reduce(*pop(), *arguments);
      break;
    }
    case kBuild:
      build();
      break;
    case kBinPersId:
      load_storage(*pop());
      break;
    default:
      return false;
  }
  return true;
}

bool PickleMachine::step_memo(uint8_t opcode) {
  switch (opcode) {
    case kBinGet:
      recall(take_number<uint8_t>());
      break;
    case kLongBinGet:
      recall(take_number<uint32_t>());
      break;
    case kBinPut:
      remember(take_number<uint8_t>());
      break;
    case kLongBinPut:
      remember(take_number<uint32_t>());
      break;
    case kMemoize:
      remember(memo_.size());
      break;
    default:
      return false;
  }
  return true;
}

void PickleMachine::remember(uint64_t index) { memo_[index] = top(); }

void PickleMachine::recall(uint64_t index) {
  const auto found = memo_.find(index);
  if (found == memo_.end()) fail(fmt::format("memo {} is empty", index));
  stack_.push_back(found->second);
}

void PickleMachine::append(const std::vector<PickleNode*>& items) {
  PickleNode* list = top();
  if (list->kind == Kind::kOpaque) return;
  if (list->kind != Kind::kList) fail("items are added to something that is no list");
  list->items.insert(list->items.end(), items.begin(), items.end());
}

void PickleMachine::set_items(const std::vector<PickleNode*>& items) {
  PickleNode* dict = top();
  if (items.size() % 2 != 0) fail("a key without value");
  if (dict->kind == Kind::kOpaque) return;
  if (dict->kind != Kind::kDict) fail("entries are added to something that is no dict");
  dict->items.insert(dict->items.end(), items.begin(), items.end());
}

/// The state of an object: the attributes of an OrderedDict (`_metadata` of a state dict) and of opaque
/// objects mean nothing here.
void PickleMachine::build() {
  pop();
  const Kind kind = top()->kind;
  if (kind != Kind::kDict && kind != Kind::kOpaque && kind != Kind::kTensor)
    fail("a state for something that has none");
}

void PickleMachine::reduce(const PickleNode& callable, PickleNode& arguments) {
  if (callable.kind != Kind::kGlobal && callable.kind != Kind::kOpaque)
    fail("a call of something that is no function");
  if (arguments.kind != Kind::kTuple) fail("the arguments of a call are no tuple");
  const auto is = [&](std::string_view name) {
    return callable.kind == Kind::kGlobal && callable.text == name;
  };
  if (is(kOrderedDict)) {
    make_ordered_dict(arguments);
  } else if (is("torch._utils._rebuild_tensor_v2")) {
    rebuild_tensor(arguments);
  } else if (is("torch._utils._rebuild_parameter") && !arguments.items.empty()) {
    stack_.push_back(arguments.items[0]);
  } else if (is("torch.Size") && arguments.items.size() == 1 && arguments.items[0]->kind == Kind::kTuple) {
    stack_.push_back(arguments.items[0]);
  } else {
    push_text(Kind::kOpaque, callable.text);
  }
}

/// A tensor's data: ("storage", class, key, device, number of elements[, view]).
void PickleMachine::load_storage(const PickleNode& id) {
  const auto& parts = id.items;
  const bool valid = id.kind == Kind::kTuple &&
                     (parts.size() == 5 || (parts.size() == 6 && parts[5]->kind == Kind::kNone)) &&
                     parts[0]->kind == Kind::kString && parts[0]->text == "storage" &&
                     parts[1]->kind == Kind::kGlobal && parts[2]->kind == Kind::kString &&
                     parts[4]->kind == Kind::kInt && parts[4]->integer >= 0;
  if (!valid) fail("a persistent object other than ('storage', class, key, device, number of elements)");
  for (const StorageClass& known : kStorageClasses) {
    if (parts[1]->text != known.name) continue;
    const PickledStorage storage{known.dtype, parts[4]->integer};
    const auto [place, added] = storages_.emplace(parts[2]->text, storage);
    if (!added && (place->second.dtype != storage.dtype || place->second.numel != storage.numel)) {
      fail(fmt::format("storage '{}' is given twice with different types or sizes",
                       printable(parts[2]->text)));
    }
    push_text(Kind::kStorage, parts[2]->text);
    return;
  }
  fail(fmt::format("unknown class of storage '{}'", printable(parts[1]->text)));
}

// ---- known functions

void PickleMachine::make_ordered_dict(const PickleNode& arguments) {
  PickleNode* dict = push(Kind::kDict);
  if (arguments.items.empty()) return;
  const PickleNode* pairs = arguments.items[0];
  if (pairs->kind != Kind::kList) fail("an OrderedDict of something that is no list");
  spend(2 * pairs->items.size());
  for (const PickleNode* pair : pairs->items) {
    const bool valid = (pair->kind == Kind::kList || pair->kind == Kind::kTuple) && pair->items.size() == 2;
    if (!valid) fail("an OrderedDict of something that is no pair");
    dict->items.insert(dict->items.end(), pair->items.begin(), pair->items.end());
  }
}

/// _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])
void PickleMachine::rebuild_tensor(const PickleNode& arguments) {
  const auto& items = arguments.items;
  if (items.size() < 4 || items[0]->kind != Kind::kStorage || items[1]->kind != Kind::kInt) {
    fail("a tensor without (storage, offset, size, stride)");
  }
  PickleNode* tensor = push_text(Kind::kTensor, items[0]->text);
  tensor->integer = items[1]->integer;
  tensor->sizes = dimensions(*items[2]);
  tensor->strides = dimensions(*items[3]);
  check_bounds(*tensor);
}

std::vector<int64_t> PickleMachine::dimensions(const PickleNode& value) {
  if (value.kind != Kind::kTuple && value.kind != Kind::kList)
    fail("the size or stride of a tensor is no tuple");
  spend(value.items.size());
  std::vector<int64_t> numbers;
  for (const PickleNode* item : value.items) {
    if (item->kind != Kind::kInt || item->integer < 0)
      fail("the size or stride of a tensor is no whole number");
    numbers.push_back(item->integer);
  }
  return numbers;
}

/// Every element lies in the storage, and there are no more elements than the storage has (a tensor that
/// repeats its data a billion times would be small in the file only).
void PickleMachine::check_bounds(const PickleNode& tensor) const {
  if (tensor.sizes.size() != tensor.strides.size()) fail("a tensor's size and stride differ in length");
  const int64_t available = storages_.at(tensor.text).numel;
  int64_t last = tensor.integer, count = 1;
  bool overflow = last < 0, empty = false;
  for (size_t d = 0; d < tensor.sizes.size(); ++d) {
    int64_t reach = 0;
    const int64_t size = std::max<int64_t>(tensor.sizes[d], 1);
    empty |= tensor.sizes[d] == 0;
    overflow |= __builtin_mul_overflow(size - 1, tensor.strides[d], &reach) ||
                __builtin_add_overflow(last, reach, &last) || __builtin_mul_overflow(count, size, &count);
  }
  const bool inside = empty ? tensor.integer <= available : last < available && count <= available;
  if (overflow || !inside) {
    fail(fmt::format(
        "a tensor of shape [{}] with strides [{}] from element {} leaves its storage of {} elements",
        fmt::join(tensor.sizes, ", "), fmt::join(tensor.strides, ", "), tensor.integer, available));
  }
}

}  // namespace exactmamba::core
