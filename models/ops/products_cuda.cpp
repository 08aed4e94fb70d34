// cuBLAS offers several algorithms for a product, what it holds for the fastest first. On Hopper that is, for
// many rows and few terms, one whose two warpgroups share a tile and wait for its end together. On a card at
// its limit of power those where each has a tile of its own, and one ends it while the other multiplies, are
// 5 to 20 % faster (docs/kernels-log.md). The first of them that is offered is taken: a rule, and no
// measuring, so that two runs give the same bits. cuBLASLt's functions are found at run time, like NCCL's
// (core/distributed/nccl_group_cuda.cpp); it is in memory as soon as libtorch_cuda is.
#include "models/ops/products_cuda.h"

#include <compare>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "models/ops/cuda/launch.h"
#include "models/ops/cuda/tensors.h"

namespace exactmamba::ops {
namespace {

// ---- what cublasLt.h declares ----

struct Algorithm {
  uint64_t data[8];
};
struct Offer {
  Algorithm algorithm;
  size_t workspace;
  int status;
  float waves;
  int reserved[4];
};
using Handle = struct cublasLtContext*;
struct Layout;      // a matrix
struct Product;     // how two are multiplied
struct Preference;  // what is asked of offers
constexpr int kFloat = 0, kHalf = 2, kBfloat16 = 14, kSumInFloat = 68;
constexpr size_t kWorkspace = 1 << 20;
constexpr int kTransposeLeft = 3, kTransposed = 1, kMostWorkspace = 1, kTile = 1, kSplits = 2;

template <class Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  core::require(function != nullptr, "cuBLAS has no function {}: {}", name, dlerror());
}

struct CublasLt {
  int (*create)(Handle*);
  int (*make_product)(Product**, int sums, int scale);
  int (*set_product)(Product*, int attribute, const void* value, size_t bytes);
  int (*free_product)(Product*);
  int (*make_layout)(Layout**, int dtype, uint64_t rows, uint64_t columns, int64_t stride);
  int (*free_layout)(Layout*);
  int (*make_preference)(Preference**);
  int (*set_preference)(Preference*, int attribute, const void* value, size_t bytes);
  int (*free_preference)(Preference*);
  int (*offers)(Handle, Product*, Layout* a, Layout* b, Layout* c, Layout* d, Preference*, int most, Offer*,
                int* count);
  int (*check_algorithm)(Handle, Product*, Layout* a, Layout* b, Layout* c, Layout* d, const Algorithm*,
                         Offer*);
  int (*attribute_of)(const Algorithm*, int attribute, void* value, size_t bytes, size_t* written);
  int (*multiply)(Handle, Product*, const void* alpha, const void* a, Layout*, const void* b, Layout*,
                  const void* beta, const void* c, Layout*, void* d, Layout*, const Algorithm*,
                  void* workspace, size_t workspace_bytes, cudaStream_t);

  CublasLt() {
    void* library = dlopen("libcublasLt.so.13", RTLD_NOW);
    core::require(library != nullptr,
                  "cuBLAS cannot be loaded: {}; run CUDA=1 cmake/setup.sh, which fetches it", dlerror());
    find(library, "cublasLtCreate", create);
    find(library, "cublasLtMatmulDescCreate", make_product);
    find(library, "cublasLtMatmulDescSetAttribute", set_product);
    find(library, "cublasLtMatmulDescDestroy", free_product);
    find(library, "cublasLtMatrixLayoutCreate", make_layout);
    find(library, "cublasLtMatrixLayoutDestroy", free_layout);
    find(library, "cublasLtMatmulPreferenceCreate", make_preference);
    find(library, "cublasLtMatmulPreferenceSetAttribute", set_preference);
    find(library, "cublasLtMatmulPreferenceDestroy", free_preference);
    find(library, "cublasLtMatmulAlgoGetHeuristic", offers);
    find(library, "cublasLtMatmulAlgoCheck", check_algorithm);
    find(library, "cublasLtMatmulAlgoConfigGetAttribute", attribute_of);
    find(library, "cublasLtMatmul", multiply);
  }
};

const CublasLt& cublas() {
  static const CublasLt functions;
  return functions;
}

void check(int status) { core::require(status == 0, "cuBLAS: error {} in a product", status); }

// ---- products ----

/// cuBLAS counts in columns: the row-major product a · b is its bᵀ · aᵀ.
struct Shape {
  int device, dtype;
  int64_t rows, columns, inner;           // m, n, k
  int64_t a_stride, b_stride, to_stride;  // between the rows of memory
  bool b_transposed;                      // memory holds (n, k)

  auto operator<=>(const Shape&) const = default;
};

/// A product that is set up.
struct Plan {
  Handle handle;
  std::shared_ptr<Product> product;
  std::shared_ptr<Layout> a, b, to;
  Offer chosen;
};

/// 128 × 128, 128 × 160, 168 × 128 and 176 × 128, of one warpgroup.
bool is_of_one_warpgroup(const Algorithm& algorithm) {
  int tile = 0, splits = 0;
  size_t written = 0;
  check(cublas().attribute_of(&algorithm, kTile, &tile, sizeof tile, &written));
  check(cublas().attribute_of(&algorithm, kSplits, &splits, sizeof splits, &written));
  return splits <= 1 && (tile == 20 || tile == 29 || tile == 197 || tile == 201);
}

Handle handle_of(int device) {
  static std::map<int, Handle> handles;
  Handle& handle = handles[device];
  if (!handle) check(cublas().create(&handle));
  return handle;
}

std::shared_ptr<Product> product_of(const Shape& s) {
  Product* product;
  check(cublas().make_product(&product, kSumInFloat, kFloat));
  std::shared_ptr<Product> owned(product, cublas().free_product);
  if (s.b_transposed) check(cublas().set_product(product, kTransposeLeft, &kTransposed, sizeof kTransposed));
  return owned;
}

std::shared_ptr<Layout> layout_of(int dtype, int64_t rows, int64_t columns, int64_t stride) {
  Layout* layout;
  check(cublas().make_layout(&layout, dtype, rows, columns, stride));
  return {layout, cublas().free_layout};
}

std::shared_ptr<Layout> layout_of_b(const Shape& s, int64_t columns) {
  return s.b_transposed ? layout_of(s.dtype, s.inner, columns, s.b_stride)
                        : layout_of(s.dtype, columns, s.inner, s.b_stride);
}

std::shared_ptr<Preference> preference() {
  Preference* preference;
  check(cublas().make_preference(&preference));
  std::shared_ptr<Preference> owned(preference, cublas().free_preference);
  check(cublas().set_preference(preference, kMostWorkspace, &kWorkspace, sizeof kWorkspace));
  return owned;
}

/// Those of one warpgroup a tile among cuBLAS' offers for a product of `columns` columns.
std::vector<Algorithm> offers_for(const Shape& s, int64_t columns, const Plan& plan) {
  constexpr int kMost = 8;
  const auto b = layout_of_b(s, columns), to = layout_of(s.dtype, columns, s.rows, s.to_stride);
  Offer offers[kMost];
  int count = 0;
  if (cublas().offers(plan.handle, plan.product.get(), b.get(), plan.a.get(), to.get(), to.get(),
                      preference().get(), kMost, offers, &count) != 0)
    return {};
  std::vector<Algorithm> found;
  for (const Offer& offer : std::span(offers, static_cast<size_t>(count)))
    if (offer.status == 0 && is_of_one_warpgroup(offer.algorithm)) found.push_back(offer.algorithm);
  return found;
}

bool takes(Plan& plan, const Algorithm& algorithm) {
  const bool possible = cublas().check_algorithm(plan.handle, plan.product.get(), plan.b.get(), plan.a.get(),
                                                 plan.to.get(), plan.to.get(), &algorithm, &plan.chosen) == 0;
  plan.chosen.algorithm = algorithm;
  return possible && plan.chosen.workspace <= kWorkspace;
}

/// For columns that no such tile divides other tiles are offered, but an algorithm takes any columns.
std::optional<Plan> plan_of(const Shape& s) {
  if (device_attribute(cudaDevAttrComputeCapabilityMajor) != 9) return std::nullopt;
  Plan plan{handle_of(s.device),
            product_of(s),
            layout_of(s.dtype, s.inner, s.rows, s.a_stride),
            layout_of_b(s, s.columns),
            layout_of(s.dtype, s.columns, s.rows, s.to_stride),
            {}};
  for (const int64_t columns : {s.columns, s.columns / 256 * 256})
    for (const Algorithm& algorithm : offers_for(s, columns, plan))
      if (takes(plan, algorithm)) return plan;
  return std::nullopt;
}

/// Made once for each shape, of which a training has few.
const Plan* find_plan(const Shape& shape) {
  static std::mutex mutex;
  static std::map<Shape, std::optional<Plan>> plans;
  const std::lock_guard lock(mutex);
  auto found = plans.find(shape);
  if (found == plans.end()) found = plans.emplace(shape, plan_of(shape)).first;
  return found->second ? &*found->second : nullptr;
}

/// Rows of memory one behind the other, their elements too.
bool has_rows(const at::Tensor& matrix) {
  return matrix.stride(1) == 1 && matrix.stride(0) >= matrix.size(1);
}

bool begins_aligned(const at::Tensor& matrix) {
  return reinterpret_cast<uintptr_t>(matrix.const_data_ptr()) % 256 == 0;
}

bool is_meant(const at::Tensor& to, const at::Tensor& a, const at::Tensor& b) {
  constexpr int64_t kLeastRows = 8192, kLeastColumns = 512, kLeastTerms = 512, kMostTerms = 2048;
  return a.element_size() == 2 && a.size(0) >= kLeastRows && b.size(1) >= kLeastColumns &&
         a.size(1) >= kLeastTerms && a.size(1) <= kMostTerms && has_rows(to) && has_rows(a) &&
         (has_rows(b) || has_rows(b.t())) && begins_aligned(to) && begins_aligned(a) && begins_aligned(b);
}

}  // namespace

bool multiply_many_rows_cuda(const at::Tensor& to, const at::Tensor& a, const at::Tensor& b) {
  if (!is_meant(to, a, b)) return false;
  const bool transposed = !has_rows(b);
  const Plan* plan =
      find_plan({a.get_device(), a.scalar_type() == at::kHalf ? kHalf : kBfloat16, a.size(0), b.size(1),
                 a.size(1), a.stride(0), b.stride(transposed ? 1 : 0), to.stride(0), transposed});
  if (plan == nullptr) return false;
  const at::Tensor workspace = workspace_of(a, plan->chosen.workspace);
  const float one = 1, zero = 0;
  void* const result = to.mutable_data_ptr();
  check(cublas().multiply(plan->handle, plan->product.get(), &one, b.const_data_ptr(), plan->b.get(),
                          a.const_data_ptr(), plan->a.get(), &zero, result, plan->to.get(), result,
                          plan->to.get(), &plan->chosen.algorithm, workspace.mutable_data_ptr(),
                          plan->chosen.workspace, stream_of(a)));
  return true;
}

}  // namespace exactmamba::ops
