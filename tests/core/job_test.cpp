// The environments of torchrun and Slurm, and Gloo among forked processes.
#include "core/distributed/job.h"

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <netinet/in.h>
#include <set>
#include <string_view>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "core/distributed/launcher.h"
#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/log.h"
#include "tests/support/files.h"

namespace exactmamba::core {
namespace {

using namespace std::chrono_literals;
using Variables = std::map<std::string, std::string>;

Job job_of(const Variables& variables) {
  return job_from([&variables](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

const Variables kTorchrun = {{"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"MASTER_ADDR", "node17"},
                             {"MASTER_PORT", "29500"}};
const Variables kSlurm = {{"SLURM_PROCID", "5"},
                          {"SLURM_NTASKS", "8"},
                          {"SLURM_LOCALID", "1"},
                          {"SLURM_JOB_ID", "4711"},
                          {"SLURM_JOB_NODELIST", "gpu[003-007,9],cpu1"}};

Variables with(Variables variables, const std::string& name, const std::string& value) {
  variables[name] = value;
  return variables;
}

Variables without(Variables variables, const std::string& name) {
  variables.erase(name);
  return variables;
}

TEST(Job, IsOneProcessWithoutAnEnvironment) {
  for (const Variables& variables : {Variables{}, Variables{{"SLURM_NTASKS", "8"}}, with({}, "RANK", "")}) {
    EXPECT_EQ(job_of(variables).size, 1);
    EXPECT_EQ(job_of(variables).rank, 0);
  }
}

/// kTorchrun and kSlurm are rank 5 of 8.
void expect_rank_5_of_8(const Job& job, const std::string& host, int port) {
  EXPECT_EQ(job.rank, 5);
  EXPECT_EQ(job.size, 8);
  EXPECT_EQ(job.local_rank, 1);
  EXPECT_EQ(job.host, host);
  EXPECT_EQ(job.port, port);
}

TEST(Job, OfTorchrun) {
  expect_rank_5_of_8(job_of(kTorchrun), "node17", 29500);
  EXPECT_FALSE(job_of(kTorchrun).torchrun_listens);
}

TEST(Job, OfTorchrunThatListensItself) {
  const Job job = job_of(
      with(with(kTorchrun, "TORCHELASTIC_USE_AGENT_STORE", "True"), "TORCHELASTIC_RESTART_COUNT", "2"));
  EXPECT_TRUE(job.torchrun_listens);
  EXPECT_EQ(job.attempt, "2");
}

TEST(Job, OfSlurm) { expect_rank_5_of_8(job_of(kSlurm), "gpu003", 24711); }

TEST(Job, OfSlurmMeetsAtTheFirstHostOfTheStep) {
  const std::vector<std::pair<std::string, std::string>> lists = {{"alone", "alone"},
                                                                  {"a-1,b-2", "a-1"},
                                                                  {"n[1,5]", "n1"},
                                                                  {"n[07]", "n07"},
                                                                  {"r[2-3]n[10-11]x,z", "r2n10x"}};
  for (const auto& [nodes, host] : lists) {
    EXPECT_EQ(job_of(with(kSlurm, "SLURM_JOB_NODELIST", nodes)).host, host);
    EXPECT_EQ(job_of(with(kSlurm, "SLURM_STEP_NODELIST", nodes)).host, host);
  }
  EXPECT_EQ(job_of(with(with(kSlurm, "MASTER_ADDR", "head"), "MASTER_PORT", "77")).host, "head");
  EXPECT_EQ(job_of(with(kSlurm, "MASTER_PORT", "77")).port, 77);
}

TEST(Job, StepsOfASlurmJobHavePortsOfTheirOwn) {
  const int of_job = job_of(kSlurm).port, of_step = job_of(with(kSlurm, "SLURM_STEP_ID", "3")).port;
  EXPECT_EQ(job_of(with(kSlurm, "SLURM_STEP_ID", "0")).port, of_job);
  EXPECT_NE(of_step, of_job);
}

TEST(Job, OfOneProcessNeedsNoPlaceToMeet) { EXPECT_EQ(job_of({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).size, 1); }

TEST(Job, OfTorchrunInsideSlurmIsThatOfTorchrun) {
  Variables both = kSlurm;
  both.insert(kTorchrun.begin(), kTorchrun.end());
  EXPECT_EQ(job_of(both).host, "node17");
}

TEST(Job, WithAMissingOrSenselessVariableIsRefusedByItsName) {
  const auto refused = [](const Variables& variables) {
    return testing::error_of<InputError>([&] { job_of(variables); });
  };
  for (const auto& [name, value] : kTorchrun) EXPECT_CONTAINS(refused(without(kTorchrun, name)), name);
  for (const char* name : {"SLURM_LOCALID", "SLURM_JOB_ID", "SLURM_JOB_NODELIST"})
    EXPECT_CONTAINS(refused(without(kSlurm, name)), name);
  EXPECT_CONTAINS(refused(with(kTorchrun, "RANK", "8")), "RANK is '8'; expected a number from 0 to 7");
  EXPECT_CONTAINS(refused(with(kTorchrun, "RANK", "two")), "'two'");
  EXPECT_CONTAINS(refused(with(kTorchrun, "MASTER_PORT", "65536")), "MASTER_PORT");
  EXPECT_CONTAINS(refused(with(kSlurm, "SLURM_JOB_NODELIST", "n[1-")), "n[1-");
}

/// Runs `work` in processes that meet over TCP; its expectations count.
void in_ranks(int size, const std::function<void(Communicator&)>& work, std::chrono::seconds timeout = 60s) {
  const int port = free_port();
  std::vector<pid_t> children;
  for (int rank = 0; rank < size; ++rank) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    at::set_num_threads(1);  // a forked process has no thread pool
    set_verbosity(Verbosity::kQuiet);
    Job job;
    job.rank = rank;
    job.size = size;
    job.host = "127.0.0.1";
    job.port = port;
    work(*join(job, at::kCPU, timeout));
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
}

void wait_for(const std::filesystem::path& file) {
  while (!std::filesystem::exists(file)) std::this_thread::sleep_for(5ms);
}

TEST(Gloo, SumsAndBroadcastsAllTypes) {
  for (const int size : {1, 2, 3, 5}) {
    in_ranks(size, [size](Communicator& communicator) {
      ASSERT_EQ(communicator.size(), size);
      const int rank = communicator.rank();
      for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kLong}) {
        for (const int64_t count : {1, 2, 7, 129, 4097}) {
          const at::Tensor values = at::arange(count, dtype).mul_(rank + 1);
          communicator.all_reduce_sum(values);
          EXPECT_TRUE(values.equal(at::arange(count, dtype).mul_(size * (size + 1) / 2)));
        }
        const at::Tensor scalar = at::full({}, rank + 1, dtype);
        communicator.broadcast(scalar, size - 1);
        EXPECT_EQ(scalar.item<int64_t>(), size);
      }
      communicator.barrier();
    });
  }
}

TEST(Gloo, SumsOfUnequalNumbersAreTheSameBitsOnAllRanksAndInAllRuns) {
  constexpr int kRanks = 3, kRuns = 5;
  const testing::TemporaryFolder folder;
  for (int run = 0; run < kRuns; ++run) {
    in_ranks(kRanks, [&](Communicator& communicator) {
      const int rank = communicator.rank();
      std::this_thread::sleep_for((run + rank) % kRanks * 3ms);  // another one comes last
      const at::Tensor sum = at::arange(100003, at::kFloat).add_(0.1 * rank).sin_();
      communicator.all_reduce_sum(sum);
      const std::string_view bytes(static_cast<const char*>(sum.const_data_ptr()), sum.nbytes());
      testing::put_file(folder / fmt::format("{} {}", run, rank), hash_hex(bytes));
    });
  }
  std::set<std::string> hashes;
  for (const auto& file : std::filesystem::directory_iterator(folder.path()))
    hashes.insert(read_file(file.path()));
  EXPECT_EQ(hashes.size(), 1u);
}

TEST(Gloo, RunsSeveralSumsAtOnce) {
  in_ranks(2, [](Communicator& communicator) {
    std::vector<at::Tensor> tensors;
    std::vector<std::unique_ptr<PendingSum>> sums;
    for (int64_t i = 0; i < 20; ++i)
      tensors.push_back(at::full({1000 + i}, i + communicator.rank(), at::kDouble));
    for (const at::Tensor& tensor : tensors) sums.push_back(communicator.start_sum(tensor));
    for (size_t i = 0; i < tensors.size(); ++i) {
      sums[i]->wait();
      EXPECT_EQ(tensors[i].min().item<double>(), 2.0 * static_cast<double>(i) + 1);
      EXPECT_EQ(tensors[i].max().item<double>(), 2.0 * static_cast<double>(i) + 1);
    }
  });
}

std::string failure_of_sum(Communicator& communicator) {
  return testing::error_of<PeerError>(
      [&] { communicator.all_reduce_sum(at::full({1000}, 1.0, at::kFloat)); });
}

TEST(Gloo, AProcessThatLeavesIsAnErrorForTheOthers) {
  in_ranks(3, [](Communicator& communicator) {
    if (communicator.rank() == 1) return;
    const std::string message = failure_of_sum(communicator);
    EXPECT_TRUE(message.starts_with(
        fmt::format("rank {} of 3: work with the other processes failed: ", communicator.rank())))
        << message;
  });
}

TEST(Gloo, AProcessThatIsSilentIsAnErrorAfterTheTimeout) {
  const testing::TemporaryFolder folder;
  const auto work = [&folder](Communicator& communicator) {
    if (communicator.rank() == 1) return wait_for(folder / "given up");
    EXPECT_CONTAINS(failure_of_sum(communicator), "imed out");
    testing::put_file(folder / "given up", "");
  };
  in_ranks(2, work, 1s);
}

void expect_nobody_met_at(int port) {
  Job job;
  job.rank = 1;
  job.size = 2;
  job.host = "127.0.0.1";
  job.port = port;
  set_verbosity(Verbosity::kQuiet);
  const auto begin = std::chrono::steady_clock::now();
  const std::string message = testing::error_of<PeerError>([&] { join(job, at::kCPU, 1s); });
  set_verbosity(Verbosity::kNormal);
  EXPECT_CONTAINS(message, fmt::format("rank 1 of 2: meeting the other processes at 127.0.0.1:{}", port));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 20s);
}

TEST(Gloo, ProcessesThatDoNotComeAreAnError) { expect_nobody_met_at(free_port()); }

TEST(Gloo, APortThatTakesConnectionsButNeverAnswersIsAnError) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(free_port()));
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener, 5), 0);
  expect_nobody_met_at(ntohs(address.sin_port));
  ::close(listener);
}

}  // namespace
}  // namespace exactmamba::core
