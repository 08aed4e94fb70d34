// Reads files of torch.save (zip and legacy) as data: nothing in them is ever executed.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace exactmamba::core {

/// A value of the pickle: scalars, containers, tensors; anything else (an optimizer object, a class of
/// somebody) is opaque and keeps only its name.
struct PickleValue {
  // Defaulted where the type is complete, which the pairs of `entries` need.
  PickleValue();
  PickleValue(const PickleValue&);
  PickleValue(PickleValue&&) noexcept;
  PickleValue& operator=(const PickleValue&);
  PickleValue& operator=(PickleValue&&) noexcept;
  ~PickleValue();

  enum class Kind { kNone, kBool, kInt, kFloat, kString, kList, kTuple, kDict, kTensor, kOpaque };
  Kind kind = Kind::kNone;
  bool boolean = false;
  int64_t integer = 0;
  double real = 0;
  std::string text;                                          // kString; kOpaque: "module.name"
  std::vector<PickleValue> items;                            // kList, kTuple
  std::vector<std::pair<PickleValue, PickleValue>> entries;  // kDict, in file order
  at::Tensor tensor;                                         // kTensor

  /// @throws InputError when this is no dict or `key` is not in it.
  const PickleValue& at(const std::string& key) const;
  const PickleValue* find(const std::string& key) const;  // [nullable]
};

/// kShapes: that the bytes of all tensors are there is checked, but none is read; the tensors are on the
/// device meta.
enum class TorchRead { kValues, kShapes };

/// @throws IoError, InputError ("file: byte N: …")
PickleValue read_torch_file(const std::filesystem::path& file, TorchRead what = TorchRead::kValues);

/// The tensors of a state dict: the dict `root` itself, or the one found under `model_state`, `state_dict` or
/// `model`. Tied tensors share storage. @throws InputError naming `where` when there is none, or a value is
/// no tensor
std::vector<std::pair<std::string, at::Tensor>> state_dict_tensors(const PickleValue& root,
                                                                   const std::string& where);
/// Those of a file. @throws IoError, InputError
std::vector<std::pair<std::string, at::Tensor>> read_torch_state_dict(const std::filesystem::path& file,
                                                                      TorchRead what = TorchRead::kValues);

/// Python's name for the class of a value: "dict", "torch.Tensor", "transformers.training_args.Arguments".
std::string class_name(const PickleValue& value);

}  // namespace exactmamba::core
