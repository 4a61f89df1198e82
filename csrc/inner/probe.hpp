// Measures the machine's limits with the operations that the kernels use. bench/ draws a roofline
// from them.
#pragma once

#include "tile.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Independent chains: more than the eight that fill two pipes of latency four, and few enough for
// the registers.
inline constexpr int kProbeChains = 12;

// Runs n rounds of kProbeChains fma on full vectors; returns a value that depends on all of them.
template <class T>
[[gnu::noinline]] T probe_fma(Index n) {
    using V = vec<T>;
    V c[kProbeChains];
    const V a = splat(T(0.999)), b = splat(T(0.001));
    FUSEDRNN_UNROLL for (int i = 0; i < kProbeChains; ++i) c[i] = splat(T(i));
    for (Index k = 0; k < n; ++k)
        FUSEDRNN_UNROLL for (int i = 0; i < kProbeChains; ++i) c[i] = fma(c[i], a, b);
    V sum = c[0];
    for (int i = 1; i < kProbeChains; ++i) sum = sum + c[i];
    return sum[0];
}

// Reads n elements, a multiple of 8 vectors, `times` times.
template <class T>
[[gnu::noinline]] T probe_read(const T* from, Index n, Index times) {
    using V = vec<T>;
    constexpr Index kRun = 8;
    V sum[kRun] = {};
    for (Index k = 0; k < times; ++k)
        for (Index i = 0; i + kRun * kLanes<T> <= n; i += kRun * kLanes<T>)
            FUSEDRNN_UNROLL for (int j = 0; j < kRun; ++j) sum[j] =
                sum[j] + load(from + i + j * kLanes<T>);
    V all = sum[0];
    for (int j = 1; j < kRun; ++j) all = all + sum[j];
    return all[0];
}

}  // namespace fusedrnn::FUSEDRNN_ISA
