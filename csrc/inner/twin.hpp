// A pair of vectors that formulas use like one vector. In a single chain of dependent operations a
// core waits for each result; with two independent chains it has work meanwhile.
#pragma once

#include "simd.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Has every operator and function of simd.hpp that the cells' forward formulas use, applied to each
// vector of the pair. A plain vector, mostly a constant, converts to a pair of equal vectors.
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

// Builds a W: get(0) if W is a plain vector, else Twin{get(0), get(1)}.
template <class W, class Get>
FUSEDRNN_INLINE W each_of(Get get) {
    if constexpr (Single<W>)
        return get(0);
    else
        return {get(0), get(1)};
}

// Vector `which` of x. A plain vector has only vector 0.
template <Single V>
FUSEDRNN_INLINE V one_of(V x, std::ptrdiff_t) {
    return x;
}
template <class V>
FUSEDRNN_INLINE V one_of(const Twin<V>& x, std::ptrdiff_t which) {
    return which == 0 ? x.a : x.b;
}

// How many rows or panels the cell's formulas take at once. (Measured with GCC 12: on AVX2 the
// formulas of two do not fit the registers, and are still 1.02 to 1.08 times as fast in whole
// calls; four at once are faster alone on AVX-512, but not in a call of a GRU.)
inline constexpr int kTogether = kHasFma ? 2 : 1;

}  // namespace fusedrnn::FUSEDRNN_ISA
