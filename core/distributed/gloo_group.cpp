#include "core/distributed/gloo_group.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#define USE_C10D_GLOO
#include <c10/util/Exception.h>
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "core/distributed/within.h"
#include "core/error.h"
#include "core/log.h"

namespace exactmamba::core {
namespace {

using Milliseconds = std::chrono::milliseconds;

/// The first line of a message of LibTorch or Gloo, without the "[file:line] " before it.
std::string shortened(std::string message) {
  message.resize(std::min(message.find('\n'), message.size()));
  const size_t end = message.starts_with('[') ? message.find("] ") : std::string::npos;
  return end == std::string::npos ? message : message.substr(end + 2);
}

/// What `work` returns; what LibTorch throws becomes a PeerError that begins with `doing`.
template <class Work>
auto with_peers(const std::string& doing, const Work& work) {
  const auto failure = [&doing](const std::string& cause) {
    return PeerError(fmt::format("{} failed: {}", doing, shortened(cause)));
  };
  try {
    return work();
  } catch (const c10::Error& error) {
    throw failure(error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw failure(error.what());
  }
}

using Store = c10::intrusive_ptr<c10d::Store>;

/// Not without end where a port takes connections and never answers, as LibTorch's store alone would.
Store meet(const Job& job, Milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(job.port);
  options.isServer = job.rank == 0 && !job.torchrun_listens;
  options.numWorkers = job.size;
  options.waitWorkers = !job.torchrun_listens;
  options.timeout = timeout;
  constexpr Milliseconds kGrace{2000};  // so that the store's own timeout comes first, which says more
  Store store = within<Store>(timeout + kGrace, "connecting", [host = job.host, options] {
    return c10::make_intrusive<c10d::TCPStore>(host, options);
  });
  return c10::make_intrusive<c10d::PrefixStore>("exactmamba/" + job.attempt, std::move(store));
}

/// The network interface: GLOO_SOCKET_IFNAME, as for other programs that use Gloo; the loopback where rank 0
/// is reached over it; else the one of this machine's name.
std::shared_ptr<gloo::transport::Device> device_for(const Job& job) {
  using Group = c10d::ProcessGroupGloo;
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  if (interface != nullptr && *interface != '\0') return Group::createDeviceForInterface(interface);
  const bool local = job.host == "127.0.0.1" || job.host == "localhost";
  return local ? Group::createDeviceForHostname(job.host) : Group::createDefaultDevice();
}

class GlooSum final : public PendingSum {
 public:
  GlooSum(c10::intrusive_ptr<c10d::Work> work, const std::string& doing)
      : work_(std::move(work)), doing_(doing) {}
  void wait() override {
    with_peers(doing_, [this] { work_->wait(); });
  }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
  const std::string& doing_;
};

class GlooGroup final : public Communicator {
 public:
  GlooGroup(const Job& job, Milliseconds timeout)
      : doing_(fmt::format("rank {} of {}: work with the other processes", job.rank, job.size)) {
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(device_for(job));
    store_ = meet(job, timeout);
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store_, job.rank, job.size, std::move(options));
  }

  int rank() const override { return group_->getRank(); }
  int size() const override { return group_->getSize(); }

  // Gloo reduces in a ring of the ranks, each part of the tensor on one of them, which then sends it round.
  std::unique_ptr<PendingSum> start_sum(const at::Tensor& tensor) override {
    std::vector<at::Tensor> tensors = {tensor};
    return with_peers(doing_, [&] { return std::make_unique<GlooSum>(group_->allreduce(tensors), doing_); });
  }
  void broadcast(const at::Tensor& tensor, int root) override {
    std::vector<at::Tensor> tensors = {tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    with_peers(doing_, [&] { group_->broadcast(tensors, options)->wait(); });
  }
  void barrier() override {
    with_peers(doing_, [this] { group_->barrier()->wait(); });
  }

 private:
  std::string doing_;
  Store store_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};

}  // namespace

std::unique_ptr<Communicator> connect_gloo(const Job& job, std::chrono::seconds timeout) {
  // c10d logs every exception with its stack before it throws it; what matters is in our message.
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = c10::GLOG_FATAL;
  const std::string doing = fmt::format("rank {} of {}: meeting the other processes at {}:{}", job.rank,
                                        job.size, job.host, job.port);
  log_info(fmt::format("waiting for {} processes at {}:{}", job.size, job.host, job.port));
  return with_peers(doing, [&] { return std::make_unique<GlooGroup>(job, timeout); });
}

}  // namespace exactmamba::core
