#include "core/distributed/job.h"

#include <charconv>
#include <csignal>
#include <cstdlib>
#include <string_view>

#include <ATen/ops/full.h>

#include "core/distributed/gloo_group.h"
#include "core/distributed/nccl_group.h"
#include "core/error.h"

namespace exactmamba::core {
namespace {

/// The variables of one job; a missing one is told with those that say that there is a job.
class Variables {
 public:
  Variables(const Environment& environment, std::string found)
      : environment_(environment), found_(std::move(found)) {}

  bool has(const char* name) const {
    const char* value = environment_(name);
    return value != nullptr && *value != '\0';
  }
  std::string text(const char* name) const {
    require(has(name),
            "the environment has {}, as in a job of several processes, but not {}; set all of them, or none",
            found_, name);
    return environment_(name);
  }
  int number(const char* name, int lowest, int highest) const {
    const std::string value = text(name);
    int result = -1;
    const char* end = value.data() + value.size();
    const auto [stop, error] = std::from_chars(value.data(), end, result);
    require(error == std::errc() && stop == end && result >= lowest && result <= highest,
            "environment variable {} is '{}'; expected a number from {} to {}", name, value, lowest, highest);
    return result;
  }

 private:
  const Environment& environment_;
  std::string found_;
};

constexpr int kMaxProcesses = 1 << 20, kMaxPort = 65535;

Job torchrun_job(const Variables& variables) {
  Job job;
  job.size = variables.number("WORLD_SIZE", 1, kMaxProcesses);
  if (job.size == 1) return job;
  job.rank = variables.number("RANK", 0, job.size - 1);
  job.local_rank = variables.number("LOCAL_RANK", 0, job.size - 1);
  job.host = variables.text("MASTER_ADDR");
  job.port = variables.number("MASTER_PORT", 1, kMaxPort);
  job.torchrun_listens = variables.has("TORCHELASTIC_USE_AGENT_STORE") &&
                         variables.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (variables.has("TORCHELASTIC_RESTART_COUNT")) job.attempt = variables.text("TORCHELASTIC_RESTART_COUNT");
  return job;
}

/// "node003" of "node[003-007,9],other".
std::string first_host(std::string_view nodes) {
  std::string host;
  for (size_t i = 0; i < nodes.size() && nodes[i] != ','; ++i) {
    if (nodes[i] != '[') {
      host += nodes[i];
      continue;
    }
    const size_t end = nodes.find_first_of("-,]", i), closing = nodes.find(']', i);
    require(end != std::string_view::npos && closing != std::string_view::npos,
            "SLURM's list of nodes '{}' has no closing bracket", nodes);
    host += nodes.substr(i + 1, end - i - 1);
    i = closing;
  }
  return host;
}

/// Two jobs on one machine should not meet, nor two steps of one: each has a port of its own.
int slurm_port(const Variables& variables) {
  constexpr int kFirst = 20000, kCount = 12000;  // below the ports that the system hands out
  if (variables.has("MASTER_PORT")) return variables.number("MASTER_PORT", 1, kMaxPort);
  const int64_t job = variables.number("SLURM_JOB_ID", 0, INT32_MAX);
  const int64_t step = variables.has("SLURM_STEP_ID") ? variables.number("SLURM_STEP_ID", 0, INT32_MAX) : 0;
  return kFirst +
         static_cast<int>((job + 101 * step) % kCount);  // jobs that follow each other have few steps
}

Job slurm_job(const Variables& variables) {
  Job job;
  job.size = variables.number("SLURM_NTASKS", 1, kMaxProcesses);
  job.rank = variables.number("SLURM_PROCID", 0, job.size - 1);
  job.local_rank = variables.number("SLURM_LOCALID", 0, job.size - 1);
  if (job.size == 1) return job;
  const char* nodes = variables.has("SLURM_STEP_NODELIST") ? "SLURM_STEP_NODELIST" : "SLURM_JOB_NODELIST";
  job.host = variables.has("MASTER_ADDR") ? variables.text("MASTER_ADDR") : first_host(variables.text(nodes));
  job.port = slurm_port(variables);
  return job;
}

void require_same_device(Communicator& communicator, at::Device device) {
  const at::Tensor on_gpu = at::full({}, device.is_cuda() ? 1 : 0, at::kLong);
  communicator.all_reduce_sum(on_gpu);
  const auto count = on_gpu.item<int64_t>();
  require(count == 0 || count == communicator.size(),
          "{} of the {} processes have a GPU; start one process a GPU, or use run.device = \"cpu\"", count,
          communicator.size());
}

}  // namespace

Job job_from(const Environment& environment) {
  const Variables torchrun(environment, "RANK or WORLD_SIZE"), slurm(environment, "SLURM_PROCID");
  if (torchrun.has("RANK") || torchrun.has("WORLD_SIZE")) return torchrun_job(torchrun);
  if (slurm.has("SLURM_PROCID") && slurm.has("SLURM_NTASKS")) return slurm_job(slurm);
  return {};
}

Job job_of_this_process() {
  return job_from([](const char* name) { return std::getenv(name); });
}

std::unique_ptr<Communicator> join(const Job& job, at::Device device, std::chrono::seconds timeout) {
  if (job.size == 1) return single_process_communicator();
  std::signal(SIGPIPE, SIG_IGN);  // a peer that has left is an error of what is sent to it, not the end
  std::unique_ptr<Communicator> communicator = connect_gloo(job, timeout);
  require_same_device(*communicator, device);
  return device.is_cuda() ? with_nccl(std::move(communicator), timeout) : std::move(communicator);
}

}  // namespace exactmamba::core
