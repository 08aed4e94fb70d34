// Vectors of 32 bytes (8 floats or 4 doubles) as the compiler's own vector type, and exp, sigmoid and
// softplus on them: std::exp does not vectorise. One lane never depends on the others. The largest errors, in
// units in the last place (ulp), are given at each function. With ε the distance from 1 to the next number,
// an operation rounds by at most ε/2 of its result, and a relative error of ε is at most 2 ulp.
#pragma once

#ifdef __FMA__
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace exactmamba::ops {

template <class T>
struct PackTraits;
template <>
struct PackTraits<float> {
  typedef float Type __attribute__((vector_size(32)));
  typedef int32_t Bits __attribute__((vector_size(32)));
  typedef uint32_t Unsigned __attribute__((vector_size(32)));
  static constexpr int kMantissaBits = 23, kExponentBias = 127;
  static constexpr int kExpTerms = 8, kLog1pTerms = 7;
  static constexpr float kRound = 0x1.8p23f;  // adding it rounds to an integer, kept in the low bits
  static constexpr float kLn2High =
      0x1.62e4p-1f;  // ln 2 in two parts: n·kLn2High is exact for every exponent n
  static constexpr float kLn2Low = 0x1.7f7d1cf79abcap-20f;
  static constexpr float kExpLowest = -104.0f, kExpHighest = 89.0f;  // beyond: 0 and infinity
};
template <>
struct PackTraits<double> {
  typedef double Type __attribute__((vector_size(32)));
  typedef int64_t Bits __attribute__((vector_size(32)));
  typedef uint64_t Unsigned __attribute__((vector_size(32)));
  static constexpr int kMantissaBits = 52, kExponentBias = 1023;
  static constexpr int kExpTerms = 14, kLog1pTerms = 17;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kLn2High = 0x1.62e42fefap-1;
  static constexpr double kLn2Low = 0x1.cf79abc9e3b39p-40;
  static constexpr double kExpLowest = -746.0, kExpHighest = 710.0;
};

template <class T>
using Pack = typename PackTraits<T>::Type;
template <class P>
using Lane = std::remove_cvref_t<decltype(std::declval<P>()[0])>;
template <class T>
inline constexpr int64_t kLanes = 32 / sizeof(T);

/// All lanes equal.
template <class T>
inline Pack<T> broadcast(T value) {
  return value - Pack<T>{};
}

/// `count` lanes from memory, the others 0. A count of kLanes or more loads all.
template <class T>
inline Pack<T> load(const T* from, int64_t count = kLanes<T>) {
  Pack<T> pack{};
  std::memcpy(&pack, from, (count < kLanes<T> ? count : kLanes<T>)*sizeof(T));
  return pack;
}
template <class T>
inline void store(T* to, const Pack<T>& pack, int64_t count = kLanes<T>) {
  std::memcpy(to, &pack, (count < kLanes<T> ? count : kLanes<T>)*sizeof(T));
}

/// body(offset, count) for every pack of a row of `size` elements; `count` is kLanes but for the last.
template <class T, class Body>
inline void for_each_pack(int64_t size, Body&& body) {
  int64_t i = 0;
  for (; i + kLanes<T> <= size; i += kLanes<T>) body(i, kLanes<T>);
  if (i < size) body(i, size - i);
}

/// The lanes summed in a fixed order.
template <class P>
inline Lane<P> sum_of_lanes(const P& pack) {
  Lane<P> sum = 0;
  for (int64_t i = 0; i < kLanes<Lane<P>>; ++i) sum += pack[i];
  return sum;
}

/// a b + c rounded once, whatever the compiler does with products and sums: the bounds below rest on it.
template <class P>
inline P fused_multiply_add(const P& a, const P& b, const P& c) {
#ifdef __FMA__
  if constexpr (std::is_same_v<Lane<P>, float>) {
    return (P)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
  } else {
    return (P)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
  }
#else
  P result;
  for (int64_t i = 0; i < kLanes<Lane<P>>; ++i) result[i] = std::fma(a[i], b[i], c[i]);
  return result;
#endif
}

namespace detail {

/// Σ_{k<terms} coefficient(k) x^k.
template <int kTerms, class P, class Coefficient>
inline P polynomial(const P& x, Coefficient coefficient) {
  P sum = broadcast(coefficient(kTerms - 1));
  for (int k = kTerms - 2; k >= 0; --k) sum = fused_multiply_add(sum, x, broadcast(coefficient(k)));
  return sum;
}

template <class T>
constexpr T inverse_factorial(int k) {
  long double product = 1;
  for (int i = 2; i <= k; ++i) product *= i;
  return static_cast<T>(1 / product);
}

template <class T, int kTerms>
struct InverseFactorials {
  T values[kTerms];
  constexpr InverseFactorials() : values() {
    for (int k = 0; k < kTerms; ++k) values[k] = inverse_factorial<T>(k);
  }
};

}  // namespace detail

/// e^x to 1 ulp and to ¾ ε: x = n ln 2 + r with |r| ≤ ½ ln 2, the Taylor series 1 + r q(r), whose last
/// addition rounds by ½ ulp and whose r and q add less, then 2^n in two factors so that denormal results are
/// right.
template <class P>
inline P exp(P x) {
  using T = Lane<P>;
  using Traits = PackTraits<T>;
  using Bits = typename Traits::Bits;
  using Unsigned = typename Traits::Unsigned;
  constexpr detail::InverseFactorials<T, Traits::kExpTerms> kCoefficients;
  x = x < Traits::kExpLowest ? broadcast(Traits::kExpLowest) : x;  // a NaN passes both
  x = x > Traits::kExpHighest ? broadcast(Traits::kExpHighest) : x;
  const P rounded = fused_multiply_add(x, broadcast(T(1.442695040888963407L)), broadcast(Traits::kRound));
  const P n = rounded - Traits::kRound;
  const P high = fused_multiply_add(-n, broadcast(Traits::kLn2High), x);
  const P r = fused_multiply_add(-n, broadcast(Traits::kLn2Low), high);
  const P series = detail::polynomial<Traits::kExpTerms>(r, [&](int k) { return kCoefficients.values[k]; });
  // n + 2·bias ≥ 0, split into two biased exponents.
  const Unsigned biased =
      Unsigned((Bits)rounded - (Bits)broadcast(Traits::kRound)) + 2 * Traits::kExponentBias;
  const Unsigned half = biased >> 1;
  const P first = (P)(half << Traits::kMantissaBits), second = (P)((biased - half) << Traits::kMantissaBits);
  return series * first * second;
}

/// 1 / (1 + e^−x) to 3 ulp: the exponential's ¾ ε and the addition's ½ ε make 2½ ulp, the division adds ½.
/// 0 where e^−x overflows: the result would be denormal.
template <class P>
inline P sigmoid(const P& x) {
  return 1 / (1 + exp(-x));
}

/// log(1 + x) for 0 ≤ x ≤ 1 to 2 ulp: with s = x / (2 + x) and R = 2 Σ_{k≥1} s^2k / (2k + 1) it is
/// 2 artanh(s) = 2s + s R = x − s (x − R). Subtracted from the exact x is at most 0.31, off by at most 2 ε.
template <class P>
inline P log1p_unit(const P& x) {
  using T = Lane<P>;
  const P s = x / (2 + x), square = s * s;
  const P series = square * detail::polynomial<PackTraits<T>::kLog1pTerms>(
                                square, [](int k) { return T(2) / T(2 * k + 3); });
  return x - s * (x - series);
}

/// log(1 + e^x), linear above 20 (torch's softplus), to 3 ulp below.
template <class P>
inline P softplus(const P& x) {
  const P magnitude = x < 0 ? -x : x;
  const P above_zero = x < 0 ? P{} : x;
  return x > 20 ? x : above_zero + log1p_unit(exp(-magnitude));
}

/// The derivative of softplus, to 3 ulp: 1 above 20.
template <class P>
inline P softplus_slope(const P& x) {
  return x > 20 ? 1 + P{} : sigmoid(x);
}

}  // namespace exactmamba::ops
