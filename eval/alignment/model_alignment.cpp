#include "eval/alignment/model_alignment.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "core/files.h"
#include "core/log.h"
#include "core/stop_signal.h"
#include "eval/alignment/files.h"
#include "eval/alignment/symmetrise.h"
#include "eval/alignment/words.h"
#include "eval/line_files.h"
#include "eval/optional_json.h"

namespace exactmamba::eval {
namespace {

using core::Json;

Links flipped(const Links& links) {
  Links result;
  for (const Link& link : links) result.insert({link.target, link.source});
  return result;
}

/// For readers: "l2 · activation", "mamba_attention".
std::string name_of(const MapKey& key) { return decomp::map_title(key.method, key.approximation); }

std::string layer_name(int64_t layer) {
  return layer == kLayerMean            ? "layer_mean"
         : layer == decomp::kWholeModel ? "whole_model"
                                        : fmt::format("layer{}", layer);
}

/// Score of one map over the pairs [begin, end).
AlignmentScore score_of(const AlignmentTask& task, const std::vector<MapLinks>& links, const MapKey& key,
                        size_t begin, size_t end) {
  AlignmentScore score;
  for (size_t n = begin; n < end; ++n) score += alignment_score(links[n].at(key), task.gold[n]);
  return score;
}
AlignmentScore test_score(const AlignmentTask& task, const std::vector<MapLinks>& links, const MapKey& key) {
  return score_of(task, links, key, task.development, task.size());
}
AlignmentScore development_score(const AlignmentTask& task, const std::vector<MapLinks>& links,
                                 const MapKey& key) {
  return score_of(task, links, key, 0, task.development);
}

/// The maps that there are, the same for every pair.
std::set<MapKey> maps_of(const std::vector<MapLinks>& links) {
  std::set<MapKey> maps;
  for (const auto& [key, pair_links] : links.front()) maps.insert(key);
  return maps;
}

/// The layer with the lowest AER of the development part, by method and approximation; none without one.
std::map<std::string, MapKey> best_layers(const AlignmentTask& task, const std::vector<MapLinks>& links) {
  std::map<std::string, MapKey> best;
  std::map<std::string, double> lowest;
  for (const MapKey& key : maps_of(links)) {
    if (key.layer < 0) continue;
    const std::optional<double> aer = development_score(task, links, key).aer();
    const std::string name = name_of(key);
    if (!aer || (lowest.contains(name) && *aer >= lowest[name])) continue;
    lowest[name] = *aer;
    best.insert_or_assign(name, key);
  }
  return best;
}

// ---- heat maps ----

constexpr size_t kHeatMapPairs = 4;

std::vector<MapKey> keys_to_show(const AlignmentTask& task, const std::vector<MapLinks>& links) {
  std::vector<MapKey> keys;
  for (const auto& [name, key] : best_layers(task, links)) keys.push_back(key);
  std::stable_sort(keys.begin(), keys.end(), [&](const MapKey& a, const MapKey& b) {
    return development_score(task, links, a).aer() < development_score(task, links, b).aer();
  });
  for (const MapKey& key : maps_of(links))
    if (task.development == 0 && key.layer < 0) keys.push_back(key);
  return keys;
}

/// "layer 3", "mean of layers", "whole model".
std::string layer_title(int64_t layer) {
  return layer == kLayerMean            ? "mean of layers"
         : layer == decomp::kWholeModel ? "whole model"
                                        : fmt::format("layer {}", layer);
}

Json links_json(const Links& links) {
  Json cells = Json::array();
  for (const Link& link : links) cells.push_back({link.target, link.source});
  return cells;
}

/// The columns of source words only. `text`: number of the pair in the test part.
Json heat_map(const AlignmentTask& task, size_t text, const MapKey& key, const at::Tensor& words) {
  const size_t n = task.development + text;
  const data::SentencePair& pair = task.pairs[n];
  const SentenceLengths& lengths = task.lengths[n];
  const at::Tensor numbers = words.contiguous();
  Json values = Json::array();
  for (int64_t target = 0; target < lengths.target; ++target) {
    const double* line = numbers.const_data_ptr<double>() + target * numbers.size(1);
    Json row = Json::array();
    for (int64_t source = 0; source < lengths.source; ++source) row.push_back(map_number(line[source]));
    values.push_back(std::move(row));
  }
  return {{"title", fmt::format("{}, {}, pair {}", name_of(key), layer_title(key.layer), text)},
          {"text", text},
          {"rows", words_of(pair.target)},
          {"columns", words_of(pair.source)},
          {"values", values},
          {"sure", links_json(task.gold[n].sure)},
          {"possible", links_json(task.gold[n].possible)}};
}

// ---- files ----

const AlignmentNotation kNotation{AlignmentFormat::kPharaoh, 0};

/// The file of one map's links for the pairs [begin, end).
struct LinkFile {
  std::filesystem::path file;
  size_t begin, end;
};

std::vector<LinkFile> files_of(const std::filesystem::path& folder, const AlignmentTask& task,
                               const MapKey& key) {
  const std::string approximation = key.approximation.empty() ? "" : key.approximation + ".",
                    name = fmt::format("{}.{}{}.pharaoh", key.method, approximation, layer_name(key.layer));
  std::vector<LinkFile> files = {{folder / name, task.file_begin, task.size()}};
  if (task.file_begin > 0) files.push_back({folder / "development" / name, 0, task.file_begin});
  return files;
}

// ---- parts that are kept ----

constexpr size_t kPairsAtOnce = 32;

/// [[method, approximation, layer, source, target, source, target, …], …]
std::string line_of(const MapLinks& links) {
  Json maps = Json::array();
  for (const auto& [key, pair_links] : links) {
    Json map = {key.method, key.approximation, key.layer};
    for (const Link& link : pair_links) {
      map.push_back(link.source);
      map.push_back(link.target);
    }
    maps.push_back(std::move(map));
  }
  return core::json_text(maps);
}

MapLinks links_from(const std::string& line, const std::string& where) {
  MapLinks links;
  for (const Json& map : core::parse_json(line, where)) {
    Links& pair_links = links[{map.at(0), map.at(1), map.at(2)}];
    for (size_t k = 3; k + 1 < map.size(); k += 2) pair_links.insert({map[k], map[k + 1]});
  }
  return links;
}

MapLinks links_of_pair(const AlignmentModel& model, data::SentencePair pair, int64_t number,
                       Direction direction, const decomp::DecomposeOptions& options, AlignmentRows rows) {
  if (direction == Direction::kReverse) std::swap(pair.source, pair.target);
  const AlignmentRow row = alignment_row(model.tokenizer, model.separator, model.end, pair);
  MapLinks links = model_links(model.model, row, number, options, rows);
  if (direction == Direction::kReverse)
    for (auto& [key, pair_links] : links) pair_links = flipped(pair_links);
  return links;
}

// ---- symmetrisation ----

/// The maps to put together: name of the result, forward's and reverse's.
struct Couple {
  std::string name;
  MapKey forward, reverse;
};

std::vector<Couple> couples_of(const AlignmentTask& task, const std::vector<MapLinks>& forward,
                               const std::vector<MapLinks>& reverse) {
  std::vector<Couple> couples;
  const auto there = best_layers(task, forward), back = best_layers(task, reverse);
  for (const auto& [name, key] : there)
    if (const auto other = back.find(name); other != back.end())
      couples.push_back({name + ", best layers", key, other->second});
  for (const MapKey& key : maps_of(forward))
    if (key.layer < 0 && reverse.front().contains(key))
      couples.push_back({name_of(key) + ", " + layer_name(key.layer), key, key});
  return couples;
}

Json symmetrised_score(const AlignmentTask& task, const std::vector<MapLinks>& forward,
                       const std::vector<MapLinks>& reverse, const Couple& couple, Symmetrisation rule) {
  AlignmentScore score;
  for (size_t n = task.development; n < task.size(); ++n)
    score += alignment_score(symmetrise(forward[n].at(couple.forward), reverse[n].at(couple.reverse), rule),
                             task.gold[n]);
  return alignment_score_json(score);
}

// ---- tables ----

std::string cell(const Json& value) {
  return value.is_null() ? "–" : fmt::format("{:.4f}", value.get<double>());
}

std::string score_line(const std::string& map, const std::string& which, const Json& score) {
  return fmt::format("| {} | {} | {} | {} | {} | {} |\n", map, which, cell(score["aer"]),
                     cell(score["precision"]), cell(score["recall"]), score["links"].dump());
}

std::string score_lines(const Json& maps) {
  std::string lines;
  for (const auto& [name, scores] : maps.items()) {
    if (scores.contains("best"))
      lines += score_line(name, fmt::format("layer {}, best of development", scores["best_layer"].dump()),
                          scores["best"]);
    for (const auto& [key, which] :
         {std::pair{"layer_mean", "mean of layers"}, {"whole_model", "whole model"}})
      if (scores.contains(key)) lines += score_line(name, which, scores[key]);
  }
  return lines;
}

/// A line a map: its AER in every layer.
std::string layer_table(const Json& maps) {
  std::string lines;
  size_t depth = 0;
  for (const auto& [name, scores] : maps.items()) {
    if (!scores.contains("layers")) continue;
    lines += fmt::format("| {} |", name);
    for (const Json& score : scores["layers"]) lines += fmt::format(" {} |", cell(score["aer"]));
    lines += "\n";
    depth = std::max(depth, scores["layers"].size());
  }
  std::string head = "| AER of layer |", rule = "|---|";
  for (size_t layer = 0; layer < depth; ++layer) {
    head += fmt::format(" {} |", layer);
    rule += "--:|";
  }
  return fmt::format("{}\n{}\n{}", head, rule, lines);
}

constexpr const char* kScoreHead =
    "| map | of | AER | precision | recall | links |\n|---|---|--:|--:|--:|--:|\n";

}  // namespace

std::vector<MapLinks> align(const AlignmentModel& model, const AlignmentTask& task, Direction direction,
                            const decomp::DecomposeOptions& options, AlignmentRows rows,
                            const std::filesystem::path& parts) {
  std::optional<core::Progress> progress;
  const auto align_part = [&](size_t begin, size_t end) {
    if (!progress)
      progress.emplace("align", static_cast<int64_t>(task.size()), "pair", static_cast<int64_t>(begin));
    std::vector<std::string> lines;
    for (size_t n = begin; n < end; ++n) {
      core::stop_if_asked("aligning");
      lines.push_back(
          line_of(links_of_pair(model, task.pairs[n], static_cast<int64_t>(n), direction, options, rows)));
      progress->update(static_cast<int64_t>(n) + 1, static_cast<double>(n + 1));
    }
    return lines;
  };
  std::vector<MapLinks> result;
  for (const std::string& line : lines_by_parts(parts, task.size(), kPairsAtOnce, align_part))
    result.push_back(links_from(line, parts.string()));
  return result;
}

Json map_scores(const AlignmentTask& task, const std::vector<MapLinks>& links) {
  Json scores = Json::object();
  for (const MapKey& key : maps_of(links)) {
    Json& of_map = scores[name_of(key)];
    const Json score = alignment_score_json(test_score(task, links, key));
    if (key.layer < 0) {
      of_map[layer_name(key.layer)] = score;
      continue;
    }
    of_map["layers"].push_back(score);
    if (task.development > 0)
      of_map["development_aer"].push_back(alignment_score_json(development_score(task, links, key))["aer"]);
  }
  for (const auto& [name, key] : best_layers(task, links)) {
    scores[name]["best"] = alignment_score_json(test_score(task, links, key));
    scores[name]["best_layer"] = key.layer;
  }
  return scores;
}

Json symmetrised_scores(const AlignmentTask& task, const std::vector<MapLinks>& forward,
                        const std::vector<MapLinks>& reverse, const std::vector<std::string>& rules) {
  Json scores = Json::object();
  for (const Couple& couple : couples_of(task, forward, reverse))
    for (const std::string& rule : rules)
      scores[couple.name][rule] = symmetrised_score(
          task, forward, reverse, couple,
          core::enum_from_name<Symmetrisation>(kSymmetrisationNames, rule, "evaluate.alignment.symmetrise"));
  return scores;
}

Json heat_maps(const AlignmentModel& model, const AlignmentTask& task, const std::vector<MapLinks>& links,
               const decomp::DecomposeOptions& options, AlignmentRows rows) {
  const std::vector<MapKey> keys = keys_to_show(task, links);
  Json result = Json::array();
  for (size_t text = 0; text < std::min(kHeatMapPairs, task.size() - task.development); ++text) {
    core::stop_if_asked("aligning");
    const size_t n = task.development + text;
    const AlignmentRow row = alignment_row(model.tokenizer, model.separator, model.end, task.pairs[n]);
    const WordMaps maps = model_word_maps(model.model, row, static_cast<int64_t>(n), options, rows);
    for (const MapKey& key : keys) result.push_back(heat_map(task, text, key, maps.at(key)));
  }
  return result;
}

Json sanity_scores(const AlignmentTask& task) {
  Json scores = Json::object();
  for (const SanityRow& row : test_sanity_rows(task)) scores[row.name] = alignment_score_json(row.score);
  return scores;
}

Json save_links(const std::filesystem::path& folder, const AlignmentTask& task,
                const std::vector<MapLinks>& links) {
  Json maps = Json::array();
  for (const MapKey& key : maps_of(links)) {
    maps.push_back({{"method", key.method}, {"approximation", key.approximation}, {"layer", key.layer}});
    for (const LinkFile& part : files_of(folder, task, key)) {
      std::vector<Links> pairs;
      for (size_t n = part.begin; n < part.end; ++n) pairs.push_back(links[n].at(key));
      std::filesystem::create_directories(part.file.parent_path());
      core::write_file(part.file, alignment_text(pairs, kNotation));
    }
  }
  return maps;
}

std::vector<MapLinks> load_links(const std::filesystem::path& folder, const AlignmentTask& task,
                                 const Json& maps) {
  std::vector<MapLinks> links(task.size());
  for (const Json& map : maps) {
    const MapKey key{map.at("method"), map.at("approximation"), map.at("layer")};
    for (const LinkFile& part : files_of(folder, task, key)) {
      const auto lengths = task.lengths.begin();
      const AlignmentBounds bounds{part.end - part.begin,
                                   {lengths + static_cast<std::ptrdiff_t>(part.begin),
                                    lengths + static_cast<std::ptrdiff_t>(part.end)}};
      std::vector<Links> pairs = read_links(part.file, kNotation, bounds);
      for (size_t n = 0; n < pairs.size(); ++n) links[part.begin + n][key] = std::move(pairs[n]);
    }
  }
  return links;
}

std::string alignment_markdown(const Json& alignment) {
  std::string text =
      fmt::format("# Word alignments\n\n{}\n\n{}", alignment["about"].get<std::string>(), kScoreHead);
  text += score_lines(alignment["maps"]);
  for (const auto& [name, score] : alignment["sanity"].items()) text += score_line(name, "no model", score);
  text += "\n" + layer_table(alignment["maps"]);
  if (!alignment.contains("reverse_maps")) return text;
  text += fmt::format("\n## Reverse model\n\n{}{}\n{}", kScoreHead, score_lines(alignment["reverse_maps"]),
                      layer_table(alignment["reverse_maps"]));
  text += fmt::format("\n## Both directions as one\n\n{}", kScoreHead);
  for (const auto& [name, by_rule] : alignment["symmetrised"].items())
    for (const auto& [rule, score] : by_rule.items()) text += score_line(name, rule, score);
  return text;
}

}  // namespace exactmamba::eval
