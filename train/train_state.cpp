#include "train/train_state.h"

#include "core/error.h"
#include "core/version.h"

namespace exactmamba::train {
namespace {

using core::Json;

/// Calls visit("key", member) for every plain member: one list for reading and writing.
template <class State, class Visit>
void visit_members(State& state, const Visit& visit) {
  visit("step", state.step);
  visit("loader_position", state.loader_position);
  visit("optimizer_steps", state.optimizer_steps);
  visit("tokens", state.tokens);
  visit("target_tokens", state.target_tokens);
  visit("updates_without_targets", state.updates_without_targets);
  visit("bad_updates", state.bad_updates);
  visit("bad_updates_in_row", state.bad_updates_in_row);
  visit("evaluations_since_best", state.evaluations_since_best);
  visit("elapsed_seconds", state.elapsed_seconds);
  visit("options_hash", state.options_hash);
  visit("ranks", state.ranks);
}

template <class T>
T read(const Json& json, const std::string& key, const std::string& where) {
  const auto found = json.find(key);
  core::require(found != json.end(), "{}: key '{}' is missing", where, key);
  try {
    return found->template get<T>();
  } catch (const Json::exception&) {
    throw core::InputError(fmt::format("{}: '{}' has the wrong type ({})", where, key, found->type_name()));
  }
}

Json optional_json(const std::optional<Best>& best) {
  return best ? Json{{"step", best->step}, {"value", best->value}} : Json(nullptr);
}

Json optional_json(const std::optional<LossScale>& scale) {
  return scale ? Json{{"value", scale->value}, {"finite_updates", scale->finite_updates}} : Json(nullptr);
}

}  // namespace

Json to_json(const TrainState& state) {
  Json json = {{"format_version", core::kFormatVersion}};
  visit_members(state, [&json](const char* key, const auto& member) { json[key] = member; });
  if (state.evaluation_pending) json["evaluation_pending"] = true;
  json["best"] = optional_json(state.best);
  json["loss_scale"] = optional_json(state.loss_scale);
  return json;
}

TrainState train_state_from_json(const Json& json, const std::string& where) {
  core::require(json.is_object(), "{}: not a JSON object", where);
  const auto version = read<int>(json, "format_version", where);
  core::require(version <= core::kFormatVersion,
                "{}: format_version is {}, but this program reads up to {}; use a newer exactmamba", where,
                version, core::kFormatVersion);
  TrainState state;
  visit_members(state, [&](const char* key, auto& member) {
    member = read<std::remove_reference_t<decltype(member)>>(json, key, where);
  });
  if (json.contains("evaluation_pending"))
    state.evaluation_pending = read<bool>(json, "evaluation_pending", where);
  const auto best = read<Json>(json, "best", where);
  if (!best.is_null()) state.best = {read<int64_t>(best, "step", where), read<double>(best, "value", where)};
  const Json scale = json.value("loss_scale", Json());  // checkpoints from before float16 have none
  if (!scale.is_null())
    state.loss_scale = {read<double>(scale, "value", where), read<int64_t>(scale, "finite_updates", where)};
  return state;
}

}  // namespace exactmamba::train
