// What follows the products of a normalised cell, row by row: the statistics, then the cell. Here
// too are the functions of any cell as data.
#pragma once

#include "../norm.hpp"
#include "epilogue.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <Cell C, class T>
class NormEpilogue {
    using V = vec<T>;
    static constexpr int G = C::kInfo.gates;
    static constexpr Index L = kLanes<T>;
    static constexpr const V* kNone = nullptr;  // the plain cell's per-unit vectors

  public:
    // Statistics, pre-activations, and everything this step of a row leaves behind.
    static void row(const ForwardView<T>& by, Index s, Index r) {
        const auto at = by.place(s, r);
        const T* gain = in_pack<T>(by.dir_.pack, by.at_.pack_vectors);
        const T* last = gain + G * by.at_.padded;
        T* sums = by.gates(s, r);
        const NormRow<C, T> norm(sums, by.slots_, in_pack<T>(by.dir_.pack, by.at_.pack_bias), gain,
                                 by.at_);
        V a[kNormBiases];
        if constexpr (C::kInfo.states == 1) {
            for (Index unit = 0; unit < by.at_.hidden; unit += L) {
                norm.pre_activations(unit, a);
                V state[1] = {load(by.h(s, r) + unit)};
                C::Plain::forward(a, state, kNone, by.call_.options);
                by.give(s, at, unit, state[0]);
            }
        } else {
            // c' as the cell makes it, and o where the next h will be: both wait for c' as a whole.
            T *cell = by.c(r), *fresh = by.u(r), *out = by.h(s + 1, r);
            for (Index unit = 0; unit < by.at_.hidden; unit += L) {
                norm.pre_activations(unit, a);
                C::activate(a);
                store(fresh + unit, C::Plain::renew(a, load(cell + unit), by.call_.options));
                store(out + unit, a[3]);
            }
            const Moments<T> stats = moments(fresh, 1, by.at_.hidden);
            for (Index unit = 0; unit < by.at_.hidden; unit += L) {
                const V now = load(fresh + unit), o = load(out + unit);
                const V m =
                    fma(load(last + unit), stats.of(now), load(last + by.at_.padded + unit));
                by.keep_c(s, at, unit, now, load(cell + unit));
                by.give(s, at, unit, C::output(o, m));
            }
        }
    }
};

// The functions of C as data.
template <Cell C, class T>
constexpr ForwardCell<T> forward_cell() {
    ForwardCell<T> cell{};
    cell.info = C::kInfo;
    if constexpr (C::kInfo.norm) {
        cell.row = NormEpilogue<C, T>::row;
    } else {
        cell.finish = Epilogue<C, T>::finish;
        if constexpr (C::kInfo.late > 0) cell.gate = Epilogue<C, T>::gate;
    }
    return cell;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
