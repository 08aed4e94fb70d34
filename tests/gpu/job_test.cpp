// NCCL between two GPUs: the test starts itself twice, as the ranks of a job.
#include "core/distributed/job.h"

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/max.h>
#include <ATen/ops/min.h>
#include <gtest/gtest.h>

#include "core/device.h"
#include "core/distributed/launcher.h"
#include "core/error.h"
#include "core/gpu.h"
#include "tests/gpu/models.h"
#include "tests/support/files.h"
#include "train/update.h"

namespace exactmamba::gpu_tests {
namespace {

constexpr int kRanks = 2;

TEST(GpuJob, TwoGpus) {
  if (core::find_gpus().count < kRanks) GTEST_SKIP() << "one GPU";
  core::Launch launch;
  launch.command = {"/proc/self/exe", "--gtest_filter=DISABLED_GpuJob*", "--gtest_also_run_disabled_tests"};
  launch.processes = kRanks;
  EXPECT_NO_THROW(core::launch(launch));
}

/// Each test's ranks meet at a port of their own: one of them may come back while the other still leaves.
core::Job job_of_next_test() {
  static int tests = 0;
  core::Job job = core::job_of_this_process();
  job.port += tests++;
  return job;
}

class DISABLED_GpuJobRank : public ::testing::Test {
 protected:
  explicit DISABLED_GpuJobRank(std::chrono::seconds timeout = core::kPeerTimeout)
      : communicator_(core::join(job_of_next_test(), device_, timeout)) {}
  at::Tensor values(int64_t count, at::ScalarType dtype) const {
    return at::arange(count, at::TensorOptions().dtype(dtype).device(device_));
  }
  const at::Device device_ = core::device_from_name("cuda");
  const std::unique_ptr<core::Communicator> communicator_;
};

TEST_F(DISABLED_GpuJobRank, SumsAndBroadcasts) {
  ASSERT_EQ(communicator_->size(), kRanks);
  const int rank = communicator_->rank();
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kLong}) {
    for (const int64_t count : {1, 7, 129, 1000003}) {
      const at::Tensor x = values(count, dtype).mul_(rank + 1);
      communicator_->all_reduce_sum(x);
      EXPECT_TRUE(x.equal(values(count, dtype).mul_(3)));
      x.fill_(rank);
      communicator_->broadcast(x, 1);
      EXPECT_EQ(x.min().item<int64_t>(), 1);
    }
    const at::Tensor on_cpu = at::full({}, rank + 1, dtype);
    communicator_->all_reduce_sum(on_cpu);
    EXPECT_EQ(on_cpu.item<int64_t>(), 3);
  }
  communicator_->barrier();
}

/// Sums start while the stream is still busy with what they sum, and end while it goes on with other work.
TEST_F(DISABLED_GpuJobRank, SumsWaitForTheStreamAndTheStreamForThem) {
  constexpr int64_t kCount = 1 << 22;
  std::vector<at::Tensor> tensors;
  std::vector<std::unique_ptr<core::PendingSum>> sums;
  for (int64_t i = 0; i < 20; ++i) {
    at::Tensor x = values(kCount, at::kFloat);
    for (int k = 0; k < 10; ++k) x = x.mul(0.5).add(static_cast<double>(communicator_->rank() + i));
    tensors.push_back(x);
    sums.push_back(communicator_->start_sum(x));
  }
  for (int64_t i = 0; i < 20; ++i) {
    sums[i]->wait();
    // x/2^10 + (rank + i)(2 − 2^−9), summed over both ranks
    const double offset = static_cast<double>(2 * i + 1) * (2 - 1.0 / 512);
    const at::Tensor expected = values(kCount, at::kDouble).mul_(2.0 / 1024).add_(offset);
    EXPECT_LE((tensors[i].to(at::kDouble) - expected).abs().max().item<double>(), 1e-2);
  }
}

/// One gradient that overflows makes all ranks skip the update, and halve the scale alike.
TEST_F(DISABLED_GpuJobRank, SkipAnOverflowTogether) {
  models::MambaLM model =
      testing::random_model(config_of(kCases[0].architecture, kCases[0].activation), at::kFloat, 0.05, 3)
          .to(on_gpu(at::kHalf));
  train::AdamW optimizer(model.parameters(), {});
  data::Batch batch = testing::random_batch(2, 151, 61, {0, 151}, 5);
  if (communicator_->rank() == 1) {
    batch.targets.fill_(data::kIgnoredTarget);
    batch.target_count = 0;
  }
  train::LossScale scale{0x1p30, 5};  // float16 ends at 65504
  const auto update = [&] {
    return train::run_update(model, optimizer, {batch}, 1e-3, 1.0, *communicator_, &scale).outcome;
  };
  const std::string before = model.parameters().checksum();
  EXPECT_EQ(update(), train::Outcome::kOverflow);
  EXPECT_EQ(scale.value, 0x1p29);
  EXPECT_EQ(model.parameters().checksum(), before);
  while (update() == train::Outcome::kOverflow) EXPECT_EQ(model.parameters().checksum(), before);
  const at::Tensor own = model.parameters().flat(models::Decay::kYes), first = own.clone();
  communicator_->broadcast(first, 0);
  EXPECT_TRUE(own.equal(first));
}

constexpr std::chrono::seconds kTimeout{5};

class DISABLED_GpuJobSilentRank : public DISABLED_GpuJobRank {
 protected:
  DISABLED_GpuJobSilentRank() : DISABLED_GpuJobRank(kTimeout) {}
};

/// The connection is given up, although the GPU already waits in the sum.
TEST_F(DISABLED_GpuJobSilentRank, IsAnErrorForTheOtherAfterTheTimeout) {
  if (communicator_->rank() == 1) return std::this_thread::sleep_for(2 * kTimeout);
  const at::Tensor x = values(1 << 20, at::kFloat);
  const auto begin = std::chrono::steady_clock::now();
  communicator_->all_reduce_sum(x);
  x.max().item<float>();  // waits for the GPU
  EXPECT_GE(std::chrono::steady_clock::now() - begin, kTimeout);
  EXPECT_CONTAINS(testing::error_of<core::PeerError>([&] { communicator_->all_reduce_sum(x); }),
                  "rank 0 of 2: the other processes did not answer on the GPU for 5 s");
  EXPECT_THROW(communicator_->barrier(), core::PeerError);
}

}  // namespace
}  // namespace exactmamba::gpu_tests
