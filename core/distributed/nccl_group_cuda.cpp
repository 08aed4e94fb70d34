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
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "core/distributed/nccl_group.h"
#include "core/distributed/within.h"
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

/// A connection, and the stream of its work. When a collective does not end, the connection is given up, so
/// that nothing on the GPU waits for a dead process for ever.
class Connection {
 public:
  /// `who` begins the messages.
  Connection(const Nccl& nccl, Comm comm, std::string who, std::chrono::seconds timeout)
      : nccl_(nccl), comm_(comm), who_(std::move(who)), timeout_(timeout) {
    watchdog_ = std::jthread([this](const std::stop_token& stopped) { watch(stopped); });
  }
  ~Connection() {
    watchdog_.request_stop();
    watchdog_.join();
    if (failure_.empty()) nccl_.abort(comm_);  // also frees it when nothing is left to do
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// `launch` (of a connection and a stream; its result is NCCL's) works after what `current` has been given
  /// so far. @throws PeerError, also after an earlier failure
  template <class Launch>
  std::shared_ptr<Event> start(cudaStream_t current, const Launch& launch) {
    const std::lock_guard lock(mutex_);
    require<PeerError>(failure_.empty(), "{}", failure_);
    Event(current).make_wait(stream_.get());
    Work work;
    work.begin = std::make_unique<Event>(stream_.get());
    const int error = launch(comm_, stream_.get());
    require<PeerError>(error == kSuccess, "{}: NCCL failed: {}", who_, nccl_.text(error, comm_));
    work.end = std::make_shared<Event>(stream_.get());
    running_.push_back(std::move(work));
    return running_.back().end;
  }
  /// @throws PeerError after a failure
  void check_alive() {
    const std::lock_guard lock(mutex_);
    require<PeerError>(failure_.empty(), "{}", failure_);
  }

 private:
  static constexpr std::chrono::milliseconds kEvery{200};
  struct Work {
    std::unique_ptr<Event> begin;
    std::shared_ptr<Event> end;
    std::optional<Clock::time_point> since;  // when it was seen to have begun on the GPU
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

  std::string find_failure() {
    int error = kSuccess;
    nccl_.async_error(comm_, &error);
    if (error != kSuccess && error != kInProgress)
      return fmt::format("{}: NCCL failed: {}", who_, nccl_.text(error, comm_));
    if (running_.empty()) return "";
    Work& work = running_.front();
    if (!work.since && work.begin->reached()) work.since = Clock::now();
    if (!work.since || Clock::now() - *work.since < timeout_) return "";
    return fmt::format("{}: the other processes did not answer on the GPU for {} s", who_, timeout_.count());
  }

  const Nccl& nccl_;
  Comm comm_;
  std::string who_;
  std::chrono::seconds timeout_;
  Stream stream_;
  std::mutex mutex_;  // guards the next two, and the connection from being given up while the host uses it
  std::deque<Work> running_;
  std::string failure_;
  std::condition_variable_any changed_;
  std::jthread watchdog_;
};

class NcclGroup final : public Communicator {
 public:
  NcclGroup(std::unique_ptr<Communicator> host, std::chrono::seconds timeout)
      : host_(std::move(host)),
        who_(fmt::format("rank {} of {}", host_->rank(), host_->size())),
        connection_(nccl_, connect(timeout), who_, timeout) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }

  std::unique_ptr<PendingSum> start_sum(const at::Tensor& tensor) override {
    if (!tensor.is_cuda()) return host_->start_sum(tensor);
    return start(tensor, [this](void* data, size_t count, int type, Comm comm, cudaStream_t stream) {
      return nccl_.all_reduce(data, data, count, type, kSum, comm, stream);
    });
  }
  void broadcast(const at::Tensor& tensor, int root) override {
    if (!tensor.is_cuda()) return host_->broadcast(tensor, root);
    start(tensor, [this, root](void* data, size_t count, int type, Comm comm, cudaStream_t stream) {
      return nccl_.broadcast(data, data, count, type, root, comm, stream);
    })->wait();
  }
  void barrier() override {
    connection_.check_alive();
    host_->barrier();
  }

 private:
  Comm connect(std::chrono::seconds timeout) const {
    // Sums inside the switches have an order of their own; a ring's and a tree's follow from the ranks.
    setenv("NCCL_NVLS_ENABLE", "0", /*replace=*/0);
    setenv("NCCL_RUNTIME_CONNECT", "0", /*replace=*/0);  // all connections now: later calls wait for nobody
    UniqueId id = {};
    if (rank() == 0) require_success(nccl_.get_unique_id(&id));
    const at::Tensor shared = at::empty({static_cast<int64_t>(sizeof id / sizeof(int64_t))}, at::kLong);
    std::memcpy(shared.mutable_data_ptr(), &id, sizeof id);
    host_->broadcast(shared, 0);
    std::memcpy(&id, shared.const_data_ptr(), sizeof id);
    const auto [comm, error] = within<std::pair<Comm, int>>(
        timeout, who_ + ": NCCL's start", [nccl = nccl_, id, rank = rank(), size = size()] {
          Comm result = nullptr;
          const int status = nccl.init_rank(&result, size, id, rank);
          return std::pair(result, status);
        });
    require_success(error);
    return comm;
  }

  void require_success(int error) const {
    require<PeerError>(error == kSuccess, "{}: NCCL failed: {}", who_, nccl_.text(error, nullptr));
  }

  /// `launch` works on the tensor after what the current stream has been given so far.
  template <class Launch>
  std::unique_ptr<PendingSum> start(const at::Tensor& tensor, const Launch& launch) {
    const int type = type_of(tensor);
    std::shared_ptr<Event> end =
        connection_.start(current_stream(tensor), [&](Comm comm, cudaStream_t stream) {
          return launch(tensor.mutable_data_ptr(), static_cast<size_t>(tensor.numel()), type, comm, stream);
        });
    return std::make_unique<NcclSum>(tensor, std::move(end));
  }

  std::unique_ptr<Communicator> host_;
  std::string who_;
  Nccl nccl_;
  Connection connection_;
};

}  // namespace

std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator> host, std::chrono::seconds timeout) {
  return std::make_unique<NcclGroup>(std::move(host), timeout);
}

}  // namespace exactmamba::core
