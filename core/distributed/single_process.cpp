#include "core/distributed/communicator.h"

namespace exactmamba::core {
namespace {

class SingleProcess final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::unique_ptr<PendingSum> start_sum(const at::Tensor&) override {
    return std::make_unique<CompleteSum>();
  }
  void broadcast(const at::Tensor&, int) override {}
  void barrier() override {}
};

}  // namespace

std::unique_ptr<Communicator> single_process_communicator() { return std::make_unique<SingleProcess>(); }

}  // namespace exactmamba::core
