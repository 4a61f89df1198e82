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
        const Index units = by.units_of(of.p), done = count / kTogether * kTogether;
        const Index end = of.p * kUnits + (count - 1) * of.next_p * kUnits + units;
        const bool whole = !by.at_.project && end * L <= by.at_.output;
        const bool settle = by.settles_ || !(whole || by.at_.project);
        alignas(kBlockBytes) T old_c[kStates > 1 ? kGroupRows * kUnits * L : 1];
        const bool keep = kStates > 1 && by.call_.zone_c != T(0);
        const auto each = [&](auto body) {
            Index n = 0;
            for (Index i = 0; i < count; ++i)
                for (Index u = 0; u < units; ++u, n += L)
                    body(of.at[i * of.next_at], ((of.p + i * of.next_p) * kUnits + u) * L, n);
        };
        if (keep)
            each([&](const Place<T>& at, Index unit, Index n) {
                store(old_c + n, load(at.c + unit));
            });
        compute<kTogether>(by, of, done, whole);
        if (done < count)
            compute<1>(by,
                       {of.at + done * of.next_at, of.next_at, of.p + done * of.next_p, of.next_p,
                        of.acc + done * of.next_acc, of.next_acc},
                       count - done, whole);
        if (settle)
            each([&](const Place<T>& at, Index unit, Index n) {
                by.settle(s, at, unit, keep ? old_c + n : at.c + unit);
            });
    }

    // Activations and new states of `count` rows or panels, which go where the step leaves them; y
    // is left to settle() unless this panel is `whole`. There is no call in the loop, because
    // around calls all constants would be stored and loaded again.
    template <int N>
    [[gnu::noinline]] static void compute(const View& by, const Series& of, Index count,
                                          bool whole) {
        using W = std::conditional_t<N == 1, V, Twin<V>>;
        const Index apart = by.pitch(of.p), units = by.units_of(of.p);
        const Index next_at = of.next_at, next_acc = of.next_acc,
                    next_unit = of.next_p * kUnits * L;
        const T* vectors = in_pack<T>(by.dir_.pack, by.at_.pack_vectors);
        const bool save = by.dir_.saved != nullptr;
        const Place<T>* at = of.at;
        const T* acc = of.acc;
        Index unit = of.p * kUnits * L;
        for (; count > 0; count -= N, at += N * next_at, acc += N * next_acc, unit += N * next_unit)
            for (Index i = 0; i < units; ++i) {
                const auto place = [&](Index w) -> const Place<T>& { return at[w * next_at]; };
                const auto first = [&](Index w) { return unit + i * L + w * next_unit; };
                W a[G], state[kStates], par[kCell.vectors > 0 ? kCell.vectors : 1];
                for (int k = 0; k < G; ++k)
                    a[k] = each_of<W>(
                        [&](Index w) { return load(acc + w * next_acc + (i * G + k) * apart); });
                for (int k = 0; k < kCell.vectors; ++k)
                    par[k] = each_of<W>(
                        [&](Index w) { return load(vectors + k * by.at_.padded + first(w)); });
                state[0] = V{};
                if (!by.at_.project)
                    state[0] = each_of<W>([&](Index w) { return load(place(w).old_h + first(w)); });
                if constexpr (kStates > 1)
                    state[1] = each_of<W>([&](Index w) { return load(place(w).c + first(w)); });
                C::forward(a, state, par, by.call_.options);
                for (Index w = 0; w < N; ++w) {
                    const V h = one_of(state[0], w);
                    store(place(w).h + first(w), h);
                    store((whole ? place(w).y : place(w).h) + first(w), h);
                    if constexpr (kStates > 1) store(place(w).c + first(w), one_of(state[1], w));
                    if (!save) continue;
                    T* gates = place(w).gates + slot_at<T>(first(w), 0, by.slots_);
                    for (int k = 0; k < G; ++k) store(gates + k * kBlock<T>, one_of(a[k], w));
                    if constexpr (kStates > 1) store(gates + G * kBlock<T>, one_of(state[1], w));
                }
            }
    }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
