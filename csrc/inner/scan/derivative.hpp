// The functions of a cell that the backward walk and the products call: the only part of them that
// is compiled for each cell.
#pragma once

#include "backward_view.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <Cell C, class T>
class Derivative {
    using View = BackwardView<T>;
    using V = vec<T>;
    static constexpr CellInfo kCell = C::kInfo;
    static constexpr int G = kCell.gates, kStates = kCell.states, kSlots = G + kStates - 1;
    static constexpr int kVectors = kCell.vectors > 0 ? kCell.vectors : 1;
    static constexpr Index L = kLanes<T>;
    // Rows whose saved values are asked for ahead of the one at hand.
    static constexpr Index kAhead = 2;

  public:
    static void derive(const View& at, const Patch<T>& patch) {
        for (Index i = 0; i < kAhead; ++i) fetch(at, patch, i);
        const T* d = patch.d;
        for (Index i = 0; i < patch.n; ++i) {
            fetch(at, patch, i + kAhead);
            for (Index v = 0; v < patch.wide; v += L, d += L)
                unit(at, patch.s, patch.r + i, patch.first + v, load(d), i < patch.came);
        }
    }

    static void gate(const View& at, const Patch<T>& patch) {
        const T* d = patch.d;
        for (Index i = 0; i < patch.n; ++i)
            for (Index v = 0; v < patch.wide; v += L, d += L)
                early(at, patch.s, patch.r + i, patch.first + v, load(d));
    }

    static V gated(const View& at, Index s, Index r, Index unit, V h) {
        V a[G];
        load_gates(at, s, r, unit, a);
        return C::gated(a, h, at.call_.options);
    }

    static void output(const View& at, Index s, Index r, Index first, Index wide, T* to) {
        for (Index v = 0; v < wide; v += L) {
            V a[G];
            load_gates(at, s, r, first + v, a);
            const V prev = at.call_.zone_c == T(0) ? V{} : at.previous(1, s, r, first + v);
            const V cell = renewed(at, s, r, first + v, a, prev);
            store(to + v, C::output(a, cell, at.call_.options));
        }
    }

    static void terms(const View& at, Cursor<T> from, Index n, Index unit, const T* da, Index row,
                      T* total) {
        V sum[kVectors] = {};
        for (Index q = 0; q < n; ++q, from.next()) {
            V a[G], gate[G], prev[kStates], next[kStates];
            load_gates(at, from.s, from.r, unit, a);
            for (int k = 0; k < G; ++k) gate[k] = load(da + q * row + k * L);
            prev[0] = next[0] = V{};
            prev[1] = at.previous(1, from.s, from.r, unit);
            next[1] = renewed(at, from.s, from.r, unit, a, prev[1]);
            C::vector_terms(gate, prev, next, sum);
        }
        for (int k = 0; k < kVectors; ++k) {
            T* t = total + k * at.at_.padded;
            store(t, load(t) + sum[k]);
        }
    }

  private:
    FUSEDRNN_INLINE static void load_gates(const View& at, Index s, Index r, Index unit,
                                           V (&a)[G]) {
        const T* saved = at.saved(s, r) + slot_at<T>(unit, 0, kSlots);
        for (int k = 0; k < G; ++k) a[k] = load(saved + k * kBlock<T>);
    }

    // c' before zoneout, which h' and the peephole of o saw.
    FUSEDRNN_INLINE static V renewed(const View& at, Index s, Index r, Index unit, const V (&a)[G],
                                     V c) {
        if (at.call_.zone_c != T(0)) return C::renew(a, c, at.call_.options);
        return load(at.saved(s, r) + slot_at<T>(unit, G, kSlots));
    }

    // What `unit` will read of row i, if there is such a row: it was written long ago, and comes
    // from afar. Inline: GCC 12 drops calls that only prefetch.
    FUSEDRNN_INLINE static void fetch(const View& at, const Patch<T>& patch, Index i) {
        if (i >= patch.n) return;
        const Index s = patch.s, r = patch.r + i;
        const T* from = at.saved(s, r) + slot_at<T>(patch.first, 0, kSlots);
        const Index blocks = (patch.wide + kBlock<T> - 1) / kBlock<T>;
        for (Index line = 0; line < blocks * kSlots; ++line)
            __builtin_prefetch(from + line * kBlock<T>);
        if (kStates == 1 || s == 0) return;
        const T* c = at.saved(s - 1, r) + slot_at<T>(patch.first, G, kSlots);
        for (Index k = 0; k < blocks; ++k) __builtin_prefetch(c + k * kSlots * kBlock<T>);
    }

    FUSEDRNN_INLINE static void unit(const View& at, Index s, Index r, Index unit, V fresh,
                                     bool came) {
        T* out = at.da(s, r) + slot_at<T>(unit, 0, G);
        V a[G], prev[kStates], next[kStates], ds[kStates], gate[G], par[kVectors];
        load_gates(at, s, r, unit, a);
        for (int k = 0; k < G; ++k) {
            gate[k] = V{};
            if (at.dir_.dgate != nullptr && k < kCell.x_gates) {
                const Index row = at.rows_.at(s, r) * kCell.x_gates + api_rows(kCell, k);
                gate[k] = take(at.dir_.dgate + row * at.at_.hidden + unit, at.real(1, unit));
            }
        }
        for (int k = 0; k < kCell.vectors; ++k)
            par[k] = load(in_pack<T>(at.dir_.pack, at.at_.back_vectors) + k * at.at_.padded + unit);
        ds[0] = fresh;
        next[0] = V{};  // no cell's derivative needs h'; prev[0] is loaded where one does
        prev[0] = kStates == 1 ? at.previous(0, s, r, unit) : V{};
        V old_c{};
        if constexpr (kStates > 1) {
            ds[1] = at.zoned(1, s, r, unit, at.dc_next(s, r, unit, came), old_c);
            prev[1] = at.previous(1, s, r, unit);
            next[1] = renewed(at, s, r, unit, a, prev[1]);
        }
        C::backward(a, prev, next, ds, gate, par, at.call_.options);
        for (int k = 0; k < G; ++k) store(out + k * kBlock<T>, gate[k]);
        if (!at.at_.project) {
            T* dh = at.dh(r) + unit;
            store(dh, at.call_.zone_h == T(0) ? ds[0] : ds[0] + load(dh));
        }
        if constexpr (kStates > 1)
            store(at.dc(r) + unit, at.call_.zone_c == T(0) ? ds[1] : ds[1] + old_c);
    }

    FUSEDRNN_INLINE static void early(const View& at, Index s, Index r, Index unit, V du) {
        T *out = at.da(s, r) + slot_at<T>(unit, 0, G), *dh = at.dh(r) + unit;
        V a[G], ds[kStates], gate[G];
        load_gates(at, s, r, unit, a);
        for (int k = 0; k < G; ++k) gate[k] = load(out + k * kBlock<T>);
        const V h = at.previous(0, s, r, unit), direct = load(dh);
        if (at.dir_.drop == nullptr) {
            ds[0] = direct;
            C::gate_backward(a, h, du, ds, gate, at.call_.options);
        } else {
            const V factor = at.drop(r, unit);
            ds[0] = V{};
            C::gate_backward(a, h * factor, du, ds, gate, at.call_.options);
            ds[0] = fma(factor, ds[0], direct);
        }
        for (int k = 0; k < G - kCell.late; ++k) store(out + k * kBlock<T>, gate[k]);
        store(dh, ds[0]);
    }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
