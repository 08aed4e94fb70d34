// NCCL's own C functions, found at run time, and not c10d's ProcessGroupNCCL: that lives in libtorch_cuda,
// which is only loaded where there is a GPU and so cannot be linked, and its header needs those of NCCL and
// CUDA's LibTorch. NCCL is in memory as soon as libtorch_cuda is, the eight functions below have not changed
// since NCCL 2.13, and where the stream waits is then said in one place: here.
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime_api.h>
#include <deque>
#include <dlfcn.h>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "core/distributed/nccl_group.h"
#include "core/error.h"

namespace exactmamba::core {
namespace {

using Clock = std::chrono::steady_clock;

// ---- what nccl.h declares ----

using Comm = struct ncclComm*;
struct UniqueId {
  char bytes[128];
};
constexpr int kSuccess = 0, kInProgress = 7;
constexpr int kSum = 0;
constexpr int kInt64 = 4, kFloat = 7, kDouble = 8;

/// The member `name` of the library.
template <class Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  require(function != nullptr, "NCCL has no function {}: {}", name, dlerror());
}

struct Nccl {
  int (*get_unique_id)(UniqueId*);
  int (*init_rank)(Comm*, int size, UniqueId, int rank);
  int (*abort)(Comm);
  int (*async_error)(Comm, int* error);
  int (*all_reduce)(const void* from, void* to, size_t count, int type, int operation, Comm, cudaStream_t);
  int (*broadcast)(const void* from, void* to, size_t count, int type, int root, Comm, cudaStream_t);
  const char* (*error_text)(int);
  const char* (*last_error)(Comm);

  Nccl() {
    void* library = dlopen("libnccl.so.2", RTLD_NOW);
    require(library != nullptr,
            "NCCL cannot be loaded: {}; run CUDA=1 cmake/setup.sh, which fetches it, or use one GPU",
            dlerror());
    find(library, "ncclGetUniqueId", get_unique_id);
    find(library, "ncclCommInitRank", init_rank);
    find(library, "ncclCommAbort", abort);
    find(library, "ncclCommGetAsyncError", async_error);
    find(library, "ncclAllReduce", all_reduce);
    find(library, "ncclBroadcast", broadcast);
    find(library, "ncclGetErrorString", error_text);
    find(library, "ncclGetLastError", last_error);
  }
  std::string text(int error, Comm comm) const {
    return fmt::format("{} ({})", error_text(error), last_error(comm));
  }
};

int type_of(const at::Tensor& tensor) {
  const at::ScalarType dtype = tensor.scalar_type();
  require(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kLong,
          "NCCL sums float, double and int64, not {}", at::toString(dtype));
  return dtype == at::kFloat ? kFloat : dtype == at::kDouble ? kDouble : kInt64;
}

// ---- CUDA ----

void check(cudaError_t error) {
  require<PeerError>(error == cudaSuccess, "CUDA: {}", cudaGetErrorString(error));
}

cudaStream_t current_stream(const at::Tensor& tensor) {
  const c10::impl::VirtualGuardImpl guard(at::kCUDA);
  return static_cast<cudaStream_t>(guard.getStream(tensor.device()).native_handle());
}

/// A point in the work of a stream.
class Event {
 public:
  explicit Event(cudaStream_t stream) {
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming));
    check(cudaEventRecord(event_, stream));
  }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void make_wait(cudaStream_t stream) const { check(cudaStreamWaitEvent(stream, event_)); }
  bool reached() const { return cudaEventQuery(event_) != cudaErrorNotReady; }

 private:
  cudaEvent_t event_;
};

/// Its work does not wait for the default stream's.
class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_;
};

class NcclSum final : public PendingSum {
 public:
  NcclSum(at::Tensor tensor, std::shared_ptr<Event> end) : tensor_(std::move(tensor)), end_(std::move(end)) {}
  void wait() override { end_->make_wait(current_stream(tensor_)); }

 private:
  at::Tensor tensor_;  // lives as long as NCCL works on it
  std::shared_ptr<Event> end_;
};

/// Owns the connection. Gives it up when a collective does not end, so that nothing on the GPU waits for a
/// dead process for ever.
class Watchdog {
 public:
  Watchdog(const Nccl& nccl, Comm comm, std::chrono::seconds timeout)
      : nccl_(nccl), comm_(comm), timeout_(timeout) {
    thread_ = std::jthread([this](const std::stop_token& stopped) { watch(stopped); });
  }
  ~Watchdog() {
    thread_.request_stop();
    thread_.join();
    if (failure_.empty()) nccl_.abort(comm_);  // also frees it when nothing is left to do
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void add(std::shared_ptr<Event> end) {
    const std::lock_guard lock(mutex_);
    running_.push_back({std::move(end), Clock::now()});
  }
  /// @throws PeerError after a failure
  void check_alive() {
    const std::lock_guard lock(mutex_);
    require<PeerError>(failure_.empty(), "{}", failure_);
  }

 private:
  static constexpr std::chrono::milliseconds kEvery{200};
  struct Running {
    std::shared_ptr<Event> end;
    Clock::time_point since;
  };

  void watch(const std::stop_token& stopped) {
    std::unique_lock lock(mutex_);
    while (!stopped.stop_requested() && failure_.empty()) {
      changed_.wait_for(lock, stopped, kEvery, [] { return false; });
      while (!running_.empty() && running_.front().end->reached()) running_.pop_front();
      failure_ = find_failure();
    }
    if (!failure_.empty()) nccl_.abort(comm_);
  }

  std::string find_failure() const {
    int error = kSuccess;
    nccl_.async_error(comm_, &error);
    if (error != kSuccess && error != kInProgress)
      return fmt::format("NCCL failed: {}", nccl_.text(error, comm_));
    if (running_.empty() || Clock::now() - running_.front().since < timeout_) return "";
    return fmt::format("the other processes did not answer on the GPU for {} s", timeout_.count());
  }

  const Nccl& nccl_;
  Comm comm_;
  std::chrono::seconds timeout_;
  std::mutex mutex_;  // guards the next two
  std::deque<Running> running_;
  std::string failure_;
  std::condition_variable_any changed_;
  std::jthread thread_;
};

class NcclGroup final : public Communicator {
 public:
  NcclGroup(std::unique_ptr<Communicator> host, std::chrono::seconds timeout)
      : host_(std::move(host)), comm_(connect()), watchdog_(nccl_, comm_, timeout) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }

  std::unique_ptr<PendingSum> start_sum(const at::Tensor& tensor) override {
    if (!tensor.is_cuda()) return host_->start_sum(tensor);
    return start(tensor, [this](void* data, size_t count, int type) {
      return nccl_.all_reduce(data, data, count, type, kSum, comm_, stream_.get());
    });
  }
  void broadcast(const at::Tensor& tensor, int root) override {
    if (!tensor.is_cuda()) return host_->broadcast(tensor, root);
    start(tensor, [this, root](void* data, size_t count, int type) {
      return nccl_.broadcast(data, data, count, type, root, comm_, stream_.get());
    })->wait();
  }
  void barrier() override {
    watchdog_.check_alive();
    host_->barrier();
  }

 private:
  Comm connect() const {
    // Sums inside the switches have an order of their own; a ring's and a tree's follow from the ranks.
    setenv("NCCL_NVLS_ENABLE", "0", /*replace=*/0);
    UniqueId id = {};
    if (rank() == 0) require_success(nccl_.get_unique_id(&id), nullptr);
    const at::Tensor shared = at::empty({static_cast<int64_t>(sizeof id / sizeof(int64_t))}, at::kLong);
    std::memcpy(shared.mutable_data_ptr(), &id, sizeof id);
    host_->broadcast(shared, 0);
    std::memcpy(&id, shared.const_data_ptr(), sizeof id);
    Comm comm = nullptr;
    require_success(nccl_.init_rank(&comm, size(), id, rank()), nullptr);
    return comm;
  }

  void require_success(int error, Comm comm) const {
    require<PeerError>(error == kSuccess, "rank {} of {}: NCCL failed: {}", rank(), size(),
                       nccl_.text(error, comm));
  }

  /// `launch` works on the tensor after what the current stream has been given so far.
  template <class Launch>
  std::unique_ptr<PendingSum> start(const at::Tensor& tensor, const Launch& launch) {
    watchdog_.check_alive();
    Event(current_stream(tensor)).make_wait(stream_.get());
    const int type = type_of(tensor);
    require_success(launch(tensor.mutable_data_ptr(), static_cast<size_t>(tensor.numel()), type), comm_);
    auto end = std::make_shared<Event>(stream_.get());
    watchdog_.add(end);
    return std::make_unique<NcclSum>(tensor, std::move(end));
  }

  std::unique_ptr<Communicator> host_;
  Nccl nccl_;
  Stream stream_;
  Comm comm_;
  Watchdog watchdog_;
};

}  // namespace

std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator> host, std::chrono::seconds timeout) {
  return std::make_unique<NcclGroup>(std::move(host), timeout);
}

}  // namespace exactmamba::core
