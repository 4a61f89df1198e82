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
    static void gate(const View& by, const Place<T>* places, Index n, Index p, Index few,
                     const T* acc) {
        const Index width = by.width_of(p), units = by.units_of(p);
        for (Index j = 0; j < few; ++j)
            for (Index i = 0; i < n; ++i, acc += width)
                for (Index u = 0; u < units; ++u)
                    gate_unit(by, places[i], ((p + j) * kUnits + u) * L, acc + u * G * L);
    }

    // The panels [p, p + few) have equally many units (each_panel in forward.hpp).
    static void finish(const View& by, Index s, const Place<T>* places, Index n, Index p, Index few,
                       const T* acc) {
        const Index width = by.width_of(p);
        if (n == 1)
            finish_all(by, s, {places, 0, p, 1, acc, width}, few);
        else
            for (Index j = 0; j < few; ++j)
                finish_all(by, s, {places, 1, p + j, 0, acc + j * n * width, width}, n);
    }

  private:
    FUSEDRNN_INLINE static void gate_unit(const View& by, const Place<T>& at, Index unit,
                                          const T* acc) {
        V a[G];
        for (int k = 0; k < G; ++k) a[k] = load(acc + k * L);
        store(at.u + unit, C::gate(a, load(at.seen + unit), by.call_.options));
        for (int k = 0; k < G; ++k) store(at.gates + slot_at<T>(unit, k, by.slots_), a[k]);
    }

    // Rows of one panel or panels of one row: the first of them, and how far the next one lies.
    struct Series {
        const Place<T>* at;
        Index next_at, p, next_p;
        const T* acc;
        Index next_acc;
    };

    // Two rows or two panels at a time.
    static void finish_all(const View& by, Index s, const Series& of, Index count) {
        const Index done = count / kTogether * kTogether;
        finish_some<kTogether>(by, s, of, done);
        if (done < count)
            finish_some<1>(by, s,
                           {of.at + done * of.next_at, of.next_at, of.p + done * of.next_p,
                            of.next_p, of.acc + done * of.next_acc, of.next_acc},
                           count - done);
    }

    // Activations, state update, and everything this step leaves behind, of `count` rows or
    // panels, N at a time.
    template <int N>
    [[gnu::noinline]] static void finish_some(const View& by, Index s, const Series& of,
                                              Index count) {
        using W = std::conditional_t<N == 1, V, Twin<V>>;
        const Index apart = by.pitch(of.p), units = by.units_of(of.p);
        const Index next_at = of.next_at, next_acc = of.next_acc,
                    next_unit = of.next_p * kUnits * L;
        const Place<T>* at = of.at;
        const T* acc = of.acc;
        Index unit = of.p * kUnits * L;
        for (; count > 0; count -= N, at += N * next_at, acc += N * next_acc, unit += N * next_unit)
            for (Index i = 0; i < units; ++i) {
                const Index first = unit + i * L;
                W a[G], state[kStates], par[kCell.vectors > 0 ? kCell.vectors : 1];
                for (int k = 0; k < G; ++k)
                    a[k] = each_of<W>(
                        [&](Index w) { return load(acc + w * next_acc + (i * G + k) * apart); });
                for (int k = 0; k < kCell.vectors; ++k)
                    par[k] = each_of<W>([&](Index w) {
                        return load(in_pack<T>(by.dir_.pack, by.at_.pack_vectors) +
                                    k * by.at_.padded + first + w * next_unit);
                    });
                state[0] = V{};
                if (!by.at_.project)
                    state[0] = each_of<W>([&](Index w) {
                        return load(at[w * next_at].old_h + first + w * next_unit);
                    });
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
        if (by.dir_.saved != nullptr) {
            for (int k = 0; k < G; ++k) store(at.gates + slot_at<T>(unit, k, by.slots_), a[k]);
            if constexpr (kStates > 1) store(at.gates + slot_at<T>(unit, G, by.slots_), state[1]);
        }
        if (by.at_.project)
            store(at.u + unit, state[0]);
        else
            by.give(s, at, unit, state[0]);
    }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
