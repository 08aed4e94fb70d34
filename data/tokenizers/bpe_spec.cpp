#include "data/tokenizers/bpe_spec.h"

#include <algorithm>
#include <initializer_list>
#include <set>
#include <unordered_map>

#include "core/error.h"

namespace exactmamba::data {
namespace {

using core::Json;

/// A value of the file, and where it is: "file: model.vocab".
class Field {
 public:
  Field(const Json& value, std::string where) : value_(value), where_(std::move(where)) {}

  const Json& value() const { return value_; }
  const std::string& where() const { return where_; }
  bool is_null() const { return value_.is_null(); }
  std::string shown() const { return core::printable(core::json_text(value_)); }

  Field operator[](const std::string& key) const {
    core::require(value_.is_object(), "{}: is of type {}, not an object", where_, value_.type_name());
    const auto found = value_.find(key);
    return {found == value_.end() ? kAbsent : *found,
            fmt::format("{}{}{}", where_, in_file() ? ": " : ".", key)};
  }
  Field element(size_t index) const { return {value_[index], fmt::format("{}[{}]", where_, index)}; }

  /// Every key must be one of these.
  void allow(std::initializer_list<const char*> keys) const {
    core::require(value_.is_object(), "{}: is of type {}, not an object", where_, value_.type_name());
    for (const auto& item : value_.items()) {
      const bool known = std::find(keys.begin(), keys.end(), item.key()) != keys.end();
      core::require(known, "{}{}{}: is not supported; only what GPT-2's and GPT-NeoX's tokenizers have is",
                    where_, in_file() ? ": " : ".", core::printable(item.key()));
    }
  }
  bool boolean() const {
    core::require(value_.is_boolean(), "{}: is {}, but it must be true or false", where_, shown());
    return value_.get<bool>();
  }
  bool boolean_or(bool absent) const { return is_null() ? absent : boolean(); }
  const std::string& string() const {
    core::require(value_.is_string(), "{}: is {}, but it must be a string", where_, shown());
    return value_.get_ref<const std::string&>();
  }
  int64_t id() const {
    const bool fits =
        value_.is_number_integer() && value_.get<int64_t>() >= 0 && value_.get<int64_t>() < kMostTokens;
    core::require(fits, "{}: is {}, but a token id must be an integer from 0 to {}", where_, shown(),
                  kMostTokens - 1);
    return value_.get<int64_t>();
  }
  void refuse_unless(bool supported, const std::string& what) const {
    core::require(supported, "{}: {} is not supported; only {} is", where_, shown(), what);
  }
  /// "type" is the name of the component, and the only one that there may be.
  void component(const char* name) const {
    const Field type = (*this)["type"];
    type.refuse_unless(type.value() == name, name);
  }

 private:
  bool in_file() const { return where_.find(": ") == std::string::npos; }

  inline static const Json kAbsent;
  const Json& value_;
  std::string where_;
};

void read_normalizer(const Field& normalizer, BpeSpec& spec) {
  if (normalizer.is_null()) return;
  normalizer.component("NFC");
  normalizer.allow({"type"});
  spec.nfc = true;
}

void allow_byte_level(const Field& component) {
  component.component("ByteLevel");
  component.allow({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  for (const char* key : {"add_prefix_space", "trim_offsets", "use_regex"}) component[key].boolean_or(true);
}

void read_pre_tokenizer(const Field& pre_tokenizer, BpeSpec& spec) {
  pre_tokenizer.refuse_unless(!pre_tokenizer.is_null(), "ByteLevel");
  allow_byte_level(pre_tokenizer);
  spec.add_prefix_space = pre_tokenizer["add_prefix_space"].boolean_or(true);
  spec.split_words = pre_tokenizer["use_regex"].boolean_or(true);
}

void read_post_processor(const Field& post_processor, BpeSpec& spec) {
  if (post_processor.is_null()) return;
  allow_byte_level(post_processor);
  spec.trim_offsets = post_processor["trim_offsets"].boolean_or(true);
  spec.trim_keeps_prefix = post_processor["add_prefix_space"].boolean_or(true);
}

void check_decoder(const Field& decoder) {
  decoder.refuse_unless(!decoder.is_null(), "ByteLevel");
  allow_byte_level(decoder);
}

void check_model_settings(const Field& model) {
  model.allow({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
               "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (!model["type"].is_null()) model.component("BPE");  // files of 2020 do not say it
  const Field dropout = model["dropout"];
  dropout.refuse_unless(dropout.is_null() || dropout.value() == 0.0, "null");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Field affix = model[key];
    affix.refuse_unless(affix.is_null() || affix.value() == "", "null");
  }
  for (const char* key : {"byte_fallback", "ignore_merges"})
    model[key].refuse_unless(!model[key].boolean_or(false), "false");
  model["fuse_unk"].boolean_or(false);  // of unknown characters, which there are none of
  const Field unknown = model["unk_token"];
  if (!unknown.is_null()) unknown.string();
}

void place(const Field& where, const std::string& token, int64_t id, std::vector<std::string>& vocab) {
  if (id >= static_cast<int64_t>(vocab.size())) vocab.resize(static_cast<size_t>(id) + 1);
  core::require(vocab[id].empty(), "{}: '{}' and '{}' both have id {}", where.where(),
                core::printable(vocab[id]), core::printable(token), id);
  vocab[id] = token;
}

void read_vocab(const Field& vocab, BpeSpec& spec) {
  core::require(vocab.value().is_object() && !vocab.value().empty(),
                "{}: is {}, but it must be a table of tokens", vocab.where(), vocab.shown());
  for (const auto& item : vocab.value().items()) {
    core::require(!item.key().empty(), "{}: has a token of no characters", vocab.where());
    const Field id(item.value(), fmt::format("{}['{}']", vocab.where(), core::printable(item.key())));
    place(vocab, item.key(), id.id(), spec.vocab);
  }
}

/// ["a", "b"], or "a b" as files before 2024 have it.
std::pair<std::string, std::string> merge_of(const Field& merge) {
  const Json& value = merge.value();
  if (value.is_array() && value.size() == 2) return {merge.element(0).string(), merge.element(1).string()};
  const std::string text = value.is_string() ? value.get<std::string>() : "";
  const size_t blank = text.find(' ');
  const bool two = blank != std::string::npos && blank > 0 && blank + 1 < text.size() &&
                   text.find(' ', blank + 1) == std::string::npos;
  core::require(two, "{}: is {}, but it must be two tokens", merge.where(), merge.shown());
  return {text.substr(0, blank), text.substr(blank + 1)};
}

void read_merges(const Field& merges, BpeSpec& spec) {
  core::require(merges.value().is_array(), "{}: is of type {}, not a list", merges.where(),
                merges.value().type_name());
  const std::set<std::string_view> known(spec.vocab.begin(), spec.vocab.end());
  const auto require_token = [&](const Field& merge, const std::string& token) {
    core::require(known.contains(token) && !token.empty(), "{}: '{}' is no token of model.vocab",
                  merge.where(), core::printable(token));
  };
  for (size_t i = 0; i < merges.value().size(); ++i) {
    const Field merge = merges.element(i);
    spec.merges.push_back(merge_of(merge));
    const auto& [left, right] = spec.merges.back();
    for (const std::string& token : {left, right, left + right}) require_token(merge, token);
  }
}

AddedToken read_added_token(const Field& token) {
  token.allow({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  for (const char* key : {"single_word", "lstrip", "rstrip"})
    token[key].refuse_unless(!token[key].boolean_or(false), "false");
  const bool special = token["special"].boolean_or(false);
  AddedToken added{token["id"].id(), token["content"].string(), special,
                   token["normalized"].boolean_or(!special)};
  core::require(!added.content.empty(), "{}.content: is empty", token.where());
  return added;
}

void read_added_tokens(const Field& tokens, BpeSpec& spec) {
  if (tokens.is_null()) return;
  core::require(tokens.value().is_array(), "{}: is of type {}, not a list", tokens.where(),
                tokens.value().type_name());
  std::unordered_map<std::string, int64_t> known;
  for (size_t id = 0; id < spec.vocab.size(); ++id) known.emplace(spec.vocab[id], id);
  std::vector<std::string> ids = spec.vocab;
  std::set<std::string> contents;
  for (size_t i = 0; i < tokens.value().size(); ++i) {
    const Field field = tokens.element(i);
    const AddedToken token = read_added_token(field);
    core::require(contents.insert(token.content).second, "{}: '{}' is given twice", field.where(),
                  core::printable(token.content));
    const auto in_vocab = known.find(token.content);
    if (in_vocab == known.end()) {
      place(field, token.content, token.id, ids);
    } else {
      core::require(in_vocab->second == token.id, "{}: '{}' has id {}, but {} in model.vocab", field.where(),
                    core::printable(token.content), token.id, in_vocab->second);
    }
    spec.added_tokens.push_back(token);
  }
}

Json byte_level(bool add_prefix_space, bool trim_offsets, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", trim_offsets},
          {"use_regex", use_regex}};
}

Json added_tokens_json(const std::vector<AddedToken>& tokens) {
  Json list = Json::array();
  for (const AddedToken& token : tokens) {
    list.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", token.normalized},
                    {"special", token.special}});
  }
  return list;
}

Json model_json(const BpeSpec& spec) {
  // push_back: the keys are distinct, and looking for each among all others would take long.
  Json::object_t vocab;
  for (size_t id = 0; id < spec.vocab.size(); ++id)
    if (!spec.vocab[id].empty()) vocab.Json::object_t::Container::emplace_back(spec.vocab[id], id);
  Json merges = Json::array();
  for (const auto& [left, right] : spec.merges) merges.push_back(Json::array({left, right}));
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

}  // namespace

BpeSpec bpe_spec_from_json(const Json& json, const std::string& file) {
  const Field root(json, file);
  root.allow({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
              "post_processor", "decoder", "model"});
  root["version"].refuse_unless(root["version"].value() == "1.0", "\"1.0\"");
  for (const char* key : {"truncation", "padding"}) root[key].refuse_unless(root[key].is_null(), "null");
  const Field model = root["model"];
  core::require(model.value().is_object(), "{}: is of type {}, not an object", model.where(),
                model.value().type_name());
  BpeSpec spec;
  read_normalizer(root["normalizer"], spec);
  read_pre_tokenizer(root["pre_tokenizer"], spec);
  read_post_processor(root["post_processor"], spec);
  check_decoder(root["decoder"]);
  check_model_settings(model);
  read_vocab(model["vocab"], spec);
  read_merges(model["merges"], spec);
  read_added_tokens(root["added_tokens"], spec);
  return spec;
}

BpeSpec read_bpe_spec(const std::filesystem::path& tokenizer_json) {
  return bpe_spec_from_json(core::read_json(tokenizer_json), tokenizer_json.string());
}

Json json_of(const BpeSpec& spec) {
  const Json normalizer = spec.nfc ? Json{{"type", "NFC"}} : Json();
  const Json post_processor =
      spec.trim_offsets ? byte_level(spec.trim_keeps_prefix, true, spec.split_words) : Json();
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added_tokens_json(spec.added_tokens)},
          {"normalizer", normalizer},
          {"pre_tokenizer", byte_level(spec.add_prefix_space, spec.trim_offsets, spec.split_words)},
          {"post_processor", post_processor},
          {"decoder", byte_level(spec.add_prefix_space, spec.trim_offsets, spec.split_words)},
          {"model", model_json(spec)}};
}

}  // namespace exactmamba::data
