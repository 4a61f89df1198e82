// Two vectors side by side that stand for one in the formulas: one chain of operations keeps a
// core waiting for each result, two that alternate do not.
#pragma once

#include "simd.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Every operator and function of simd.hpp that a cell's forward formulas use, on each half. A plain
// vector beside a Twin, a constant mostly, stands for both halves.
template <class V>
struct Twin {
    V a, b;

    Twin() = default;
    FUSEDRNN_INLINE Twin(V both) : a(both), b(both) {}
    FUSEDRNN_INLINE Twin(V a_, V b_) : a(a_), b(b_) {}

#define FUSEDRNN_EACH(name, ...) FUSEDRNN_INLINE friend auto name(__VA_ARGS__)
#define FUSEDRNN_BOTH(op)                                          \
    FUSEDRNN_EACH(operator op, Twin x, Twin y) {                   \
        return Twin<decltype(x.a op y.a)>{x.a op y.a, x.b op y.b}; \
    }
    FUSEDRNN_BOTH(+)
    FUSEDRNN_BOTH(-)
    FUSEDRNN_BOTH(*)
    FUSEDRNN_BOTH(<)
    FUSEDRNN_BOTH(|)
    FUSEDRNN_BOTH(&)
    FUSEDRNN_EACH(operator-, Twin x) { return Twin{-x.a, -x.b}; }
    FUSEDRNN_EACH(operator<<, Twin x, int bits) { return Twin{x.a << bits, x.b << bits}; }
    FUSEDRNN_EACH(fma, Twin x, Twin y, Twin z) {
        return Twin{fma(x.a, y.a, z.a), fma(x.b, y.b, z.b)};
    }
    FUSEDRNN_EACH(max, Twin x, Twin bound) { return Twin{max(x.a, bound.a), max(x.b, bound.b)}; }
    template <class M>
    FUSEDRNN_EACH(select, Twin<M> mask, Twin x, Twin y) {
        return Twin{select<V>(mask.a, x.a, y.a), select<V>(mask.b, x.b, y.b)};
    }
    FUSEDRNN_EACH(minus_abs, Twin x) { return Twin{minus_abs(x.a), minus_abs(x.b)}; }
    FUSEDRNN_EACH(relu, Twin x) { return Twin{relu(x.a), relu(x.b)}; }
    FUSEDRNN_EACH(with_sign_of, Twin x, Twin magnitude) {
        return Twin{with_sign_of(x.a, magnitude.a), with_sign_of(x.b, magnitude.b)};
    }
    FUSEDRNN_EACH(to_bits, Twin x) { return Twin<bits_t<V>>{to_bits(x.a), to_bits(x.b)}; }
#undef FUSEDRNN_BOTH
#undef FUSEDRNN_EACH
};

// What get(0) and get(1) are, as one; of a plain vector get(0) alone.
template <class W, class Get>
FUSEDRNN_INLINE W each_of(Get get) {
    if constexpr (Single<W>)
        return get(0);
    else
        return {get(0), get(1)};
}

template <Single V>
FUSEDRNN_INLINE V one_of(V x, std::ptrdiff_t) {
    return x;
}
template <class V>
FUSEDRNN_INLINE V one_of(const Twin<V>& x, std::ptrdiff_t which) {
    return which == 0 ? x.a : x.b;
}

// Two need twice the registers, which only these have.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int kTogether = 2;
#else
inline constexpr int kTogether = 1;
#endif

}  // namespace fusedrnn::FUSEDRNN_ISA
