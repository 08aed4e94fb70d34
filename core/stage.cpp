#include "core/stage.h"

#include <system_error>

#include "core/hash.h"
#include "core/version.h"

namespace exactmamba::core {
namespace {

constexpr size_t kNameDigits = 12;
constexpr const char* kLock = ".lock";
constexpr const char* kChecksum = "checksum";  // of all other keys of stage.json

std::string checksum_of(Json record) {
  record.erase(kChecksum);
  return hash_hex(json_text(record));
}

Json inputs_json(const std::vector<std::pair<std::string, std::string>>& inputs) {
  Json result = Json::object();
  for (const auto& [name, fingerprint] : inputs) result[name] = fingerprint;
  return result;
}

}  // namespace

Stage::Stage(const std::filesystem::path& output, std::string kind, int algorithm, Json options,
             std::vector<std::pair<std::string, std::string>> inputs)
    : kind_(std::move(kind)),
      algorithm_(algorithm),
      options_(std::move(options)),
      inputs_(std::move(inputs)) {
  const Json identity = {{"format_version", kFormatVersion},
                         {"kind", kind_},
                         {"algorithm", algorithm_},
                         {"options", options_},
                         {"inputs", inputs_json(inputs_)}};
  name_ = kind_ + "-" + hash_hex(identity.dump()).substr(0, kNameDigits);
  folder_ = output / kStagesFolder / name_;
}

std::filesystem::path Stage::record() const { return folder_ / kStageFile; }

Json Stage::read_record() const {
  const std::filesystem::path file = record();
  const auto damaged = [&](const std::string& problem) {
    return InputError(fmt::format("{}; delete this file to complete the stage again", problem));
  };
  Json content;
  try {
    content = read_json(file);
  } catch (const InputError& error) {
    throw damaged(error.what());
  }
  const Json version = content.is_object() ? content.value("format_version", Json()) : Json();
  if (!version.is_number_integer() || content.value("name", Json()) != name_)
    throw damaged(fmt::format("{}: not the record of stage {}", file.string(), name_));
  require(version.get<int64_t>() <= kFormatVersion,
          "{}: format_version {} is newer than this program reads ({})", file.string(),
          version.get<int64_t>(), kFormatVersion);
  if (content.value(kChecksum, Json()) != checksum_of(content))
    throw damaged(fmt::format("{}: its checksum does not fit its content", file.string()));
  return content;
}

bool Stage::done() const {
  std::error_code ignored;
  if (!std::filesystem::exists(record(), ignored)) return false;
  read_record();
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

std::string Stage::program_version() const { return read_json(record()).value("program_version", ""); }

Json Stage::record_with(const Json& result) const {
  Json content = {{"format_version", kFormatVersion},
                  {"name", name_},
                  {"kind", kind_},
                  {"algorithm", algorithm_},
                  {"program_version", version()},
                  {"options", options_},
                  {"inputs", inputs_json(inputs_)},
                  {"result", result}};
  content[kChecksum] = checksum_of(content);
  return content;
}

void Stage::begin(const Json& known) const { write_json(folder_ / kBegunFile, record_with(known)); }

void Stage::finish(const Json& result) const { write_json(record(), record_with(result)); }

Json Stage::result() const { return read_record().value("result", Json()); }

}  // namespace exactmamba::core
