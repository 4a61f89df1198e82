// The functions of a cell that the forward walk calls, the only part of it that is compiled for
// each cell. They follow the products of a step while the sums are in L1.
#pragma once

#include "../twin.hpp"
#include "forward_view.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <Cell C, class T>
class Epilogue {
    using View = ForwardView<T>;
    using V = vec<T>;
    static constexpr CellInfo kCell = C::kInfo;
    static constexpr int G = kCell.gates, kStates = kCell.states, kUnits = panel_units(kCell);
    static constexpr Index L = kLanes<T>;

  public:
    static void gate(const View& by, Index s, Index r, Index n, Index p, Index few, const T* acc) {
        const Index width = by.width_of(p);
        for (Index j = 0; j < few; ++j)
            for (Index i = 0; i < n; ++i, acc += width) gate_row(by, s, r + i, p + j, acc);
    }

    // Two rows or two panels at a time.
    static void finish(const View& by, Index s, const Place<T>* at, Index n, Index p, Index few,
                       const T* acc) {
        const Index width = by.width_of(p);
        if (n == 1) {
            Index j = 0;
            for (; j + kTogether <= few; j += kTogether)
                finish_some<kTogether>(by, s, at, 0, p + j, 1, acc + j * width, width);
            for (; j < few; ++j) finish_some<1>(by, s, at, 0, p + j, 0, acc + j * width, 0);
            return;
        }
        for (Index j = 0; j < few; ++j, acc += n * width) {
            Index i = 0;
            for (; i + kTogether <= n; i += kTogether)
                finish_some<kTogether>(by, s, at + i, 1, p + j, 0, acc + i * width, width);
            for (; i < n; ++i) finish_some<1>(by, s, at + i, 0, p + j, 0, acc + i * width, 0);
        }
    }

  private:
    static void gate_row(const View& by, Index s, Index r, Index p, const T* acc) {
        T* to = by.gates(s, r);
        for (Index i = 0; i < by.units_of(p); ++i) {
            const Index unit = (p * kUnits + i) * L;
            V a[G];
            for (int k = 0; k < G; ++k) a[k] = load(acc + (i * G + k) * L);
            store(by.u(r) + unit, C::gate(a, load(by.operand(s, r) + unit), by.call_.options));
            for (int k = 0; k < G; ++k) store(to + slot_at<T>(unit, k, by.slots_), a[k]);
        }
    }

    // Activations, state update, and everything this step leaves behind, of N rows or N panels:
    // the next place, panel or sums lie a step further.
    template <int N>
    [[gnu::noinline]] static void finish_some(const View& by, Index s, const Place<T>* at,
                                              Index next_at, Index p, Index next_p, const T* acc,
                                              Index next_acc) {
        using W = std::conditional_t<N == 1, V, Twin<V>>;
        const Index apart = by.pitch(p);
        for (Index i = 0; i < by.units_of(p); ++i) {
            const Index first = (p * kUnits + i) * L, next_unit = next_p * kUnits * L;
            W a[G], state[kStates], par[kCell.vectors > 0 ? kCell.vectors : 1];
            for (int k = 0; k < G; ++k)
                a[k] = each_of<W>(
                    [&](Index w) { return load(acc + w * next_acc + (i * G + k) * apart); });
            for (int k = 0; k < kCell.vectors; ++k)
                par[k] = each_of<W>([&](Index w) {
                    return load(by.dir_.pack + by.at_.pack_vectors + k * by.at_.padded + first +
                                w * next_unit);
                });
            state[0] = V{};
            if (!by.at_.project)
                state[0] = each_of<W>(
                    [&](Index w) { return load(at[w * next_at].old_h + first + w * next_unit); });
            if constexpr (kStates > 1)
                state[1] = each_of<W>(
                    [&](Index w) { return load(at[w * next_at].c + first + w * next_unit); });
            C::forward(a, state, par, by.call_.options);
            for (Index w = 0; w < N; ++w) {
                V one[G], now[kStates];
                for (int k = 0; k < G; ++k) one[k] = one_of(a[k], w);
                for (int k = 0; k < kStates; ++k) now[k] = one_of(state[k], w);
                leave_unit(by, s, at[w * next_at], first + w * next_unit, one, now);
            }
        }
    }

    FUSEDRNN_INLINE static void leave_unit(const View& by, Index s, const Place<T>& at, Index unit,
                                           const V (&a)[G], V (&state)[kStates]) {
        if constexpr (kStates > 1) {
            state[1] = by.zoned(1, s, at.rank, unit, state[1], load(at.c + unit));
            store(at.c + unit, at.cut ? by.initial(1, at.rank, unit) : state[1]);
        }
        if (at.saved != nullptr) {
            for (int k = 0; k < G; ++k) store(at.saved + slot_at<T>(unit, k, by.slots_), a[k]);
            if constexpr (kStates > 1) store(at.saved + slot_at<T>(unit, G, by.slots_), state[1]);
        }
        if (by.at_.project)
            store(by.u(at.rank) + unit, state[0]);
        else
            by.give(s, at, unit, state[0]);
    }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
