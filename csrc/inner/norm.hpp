// Layer normalisation of rows: LN(v) = (v - mean) / sqrt(var + eps) over the units of one slot.
//
// The sum over a row has the same bits on every instruction set (docs/conventions.md, [Y5]): it is
// kept in 64 bytes of partial sums, each over every 16th (float32) or 8th (float64) unit in rising
// order; then the upper half of the partial sums is added to the lower half until one is left.
// Lanes past the last real unit do not contribute.
#pragma once

#include "cells/slots.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
inline constexpr T kNormEpsilon = T(1e-5);

// Sums of(unit), a vector of L units from `unit` on, over all real units.
template <class T, class Of>
FUSEDRNN_INLINE T row_sum(Index hidden, Of of) {
    constexpr Index L = kLanes<T>, block = kBlock<T>;
    alignas(kBlockBytes) T part[block];
    vec<T> sum[block / L] = {};
    const Index whole = hidden / block * block;
    for (Index unit = 0; unit < whole; unit += block)
        for (Index v = 0; v < block / L; ++v) sum[v] = sum[v] + of(unit + v * L);
    for (Index v = 0; v < block / L; ++v)
        if (const Index unit = whole + v * L; unit < hidden)
            sum[v] = sum[v] + first_lanes(of(unit), static_cast<int>(hidden - unit));
    for (Index v = 0; v < block / L; ++v) store(part + v * L, sum[v]);
    for (Index half = block / 2; half > 0; half /= 2)
        for (Index i = 0; i < half; ++i) part[i] = part[i] + part[i + half];
    return part[0];
}

template <class T>
struct Moments {
    T mean, scale;  // scale = 1 / sqrt(var + eps)

    FUSEDRNN_INLINE vec<T> of(vec<T> v) const { return (v - splat(mean)) * splat(scale); }
};

// The moments of one slot of a row [H/block][slots][block]; `row` points to the slot.
template <class T>
[[gnu::noinline]] Moments<T> moments(const T* row, Index slots, Index hidden) {
    const T n = static_cast<T>(hidden);
    const T mean =
        row_sum<T>(hidden, [&](Index unit) { return load(row + slot_at<T>(unit, 0, slots)); }) / n;
    const T variance = row_sum<T>(hidden,
                                  [&](Index unit) {
                                      const auto d =
                                          load(row + slot_at<T>(unit, 0, slots)) - splat(mean);
                                      return d * d;
                                  }) /
                       n;
    return {mean, T(1) / sqrt(splat(variance + kNormEpsilon<T>))[0]};
}

// Replaces d, the gradient of LN(row), by the gradient of row. d is a slot of a row with d_slots
// slots and does not overlap `row`; `by` are the moments of `row`.
template <class T>
[[gnu::noinline]] void through_norm(const T* row, Index slots, const Moments<T>& by, T* d,
                                    Index d_slots, Index hidden) {
    auto value = [&](Index unit) { return by.of(load(row + slot_at<T>(unit, 0, slots))); };
    auto from = [&](Index unit) { return load(d + slot_at<T>(unit, 0, d_slots)); };
    const T n = static_cast<T>(hidden);
    const T mean = row_sum<T>(hidden, from) / n;
    const T slope = row_sum<T>(hidden, [&](Index unit) { return from(unit) * value(unit); }) / n;
    for (Index unit = 0; unit < hidden; unit += kLanes<T>)
        store(d + slot_at<T>(unit, 0, d_slots),
              fma(value(unit), splat(-slope), from(unit) - splat(mean)) * splat(by.scale));
}

// One row of raw products of a normalised cell C, and the moments of its slots.
template <class C, class T>
class NormRow {
    using V = vec<T>;
    static constexpr int G = C::kInfo.gates;

  public:
    // row: [H/block][slots][block], raw products in the slots [0, G); bias: [H/L][G][L]; gain:
    // [G][padded].
    NormRow(const T* row, Index slots, const T* bias, const T* gain, const Layout& at)
        : row_(row), bias_(bias), gain_(gain), slots_(slots), padded_(at.padded) {
        for (int s = 0; s < G; ++s) by_[s] = moments(slot(s), slots, at.hidden);
    }

    const T* slot(int s) const { return row_ + s * kBlock<T>; }
    const Moments<T>& by(int s) const { return by_[s]; }
    V gain(Index unit, int s) const { return load(gain_ + s * padded_ + unit); }
    V value(Index unit, int s) const {
        return by_[s].of(load(slot(s) + slot_at<T>(unit, 0, slots_)));
    }

    // The cell's pre-activations: bias, plus gain times LN(W x), plus gain times LN(R h), added in
    // this order (docs/conventions.md, [Y6]).
    void pre_activations(Index unit, V (&a)[kNormBiases]) const {
        for (int k = 0; k < kNormBiases; ++k) {
            const int slots[2] = {C::kX[k], C::kH[k]};
            V sum{};
            for (const int s : slots)
                if (s >= 0) sum = sum + load(bias_ + unit * G + s * kLanes<T>);
            for (const int s : slots)
                if (s >= 0) sum = fma(gain(unit, s), value(unit, s), sum);
            a[k] = sum;
        }
    }

  private:
    const T *row_, *bias_, *gain_;
    Index slots_, padded_;
    Moments<T> by_[G];
};

}  // namespace fusedrnn::FUSEDRNN_ISA
