#include "core/stage.h"

#include <system_error>

#include "core/error.h"
#include "core/hash.h"
#include "core/version.h"

namespace exactmamba::core {
namespace {

constexpr size_t kNameDigits = 12;
constexpr const char* kFile = "stage.json";
constexpr const char* kLock = ".lock";

Json inputs_json(const std::vector<std::pair<std::string, std::string>>& inputs) {
  Json result = Json::object();
  for (const auto& [name, fingerprint] : inputs) result[name] = fingerprint;
  return result;
}

}  // namespace

Stage::Stage(const std::filesystem::path& output, std::string kind, Json options,
             std::vector<std::pair<std::string, std::string>> inputs)
    : kind_(std::move(kind)), options_(std::move(options)), inputs_(std::move(inputs)) {
  const Json identity = {{"format_version", kFormatVersion},
                         {"kind", kind_},
                         {"options", options_},
                         {"inputs", inputs_json(inputs_)}};
  name_ = kind_ + "-" + hash_hex(identity.dump()).substr(0, kNameDigits);
  folder_ = output / "stages" / name_;
}

std::filesystem::path Stage::record() const { return folder_ / kFile; }

Json Stage::read() const {
  const std::filesystem::path file = record();
  Json stage = read_json(file);
  const Json version = stage.is_object() ? stage.value("format_version", Json()) : Json();
  require(version.is_number_integer() && stage.value("name", Json()) == name_,
          "{}: not the record of stage {}; delete the folder to run it again", file.string(), name_);
  require(version.get<int64_t>() <= kFormatVersion,
          "{}: format_version {} is newer than this program reads ({})", file.string(),
          version.get<int64_t>(), kFormatVersion);
  return stage;
}

bool Stage::done() const {
  std::error_code ignored;
  if (!std::filesystem::exists(record(), ignored)) return false;
  read();
  return true;
}

FileLock Stage::prepare() const {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  require<IoError>(!error, "{}: cannot make the folder: {}", folder_.string(), error.message());
  std::optional<FileLock> lock = FileLock::try_lock(folder_ / kLock);
  require<IoError>(lock.has_value(),
                   "another exactmamba works on this stage: {}; wait for it, or choose another run.output",
                   folder_.string());
  return std::move(*lock);
}

std::string Stage::program_version() const { return read_json(folder_ / kFile).value("program_version", ""); }

void Stage::finish(const Json& result) const {
  write_json(record(), {{"format_version", kFormatVersion},
                        {"name", name_},
                        {"kind", kind_},
                        {"program_version", version()},
                        {"options", options_},
                        {"inputs", inputs_json(inputs_)},
                        {"result", result}});
}

Json Stage::result() const { return read().value("result", Json()); }

}  // namespace exactmamba::core
