// What follows the products of a step while their sums are in L1: the cell, and everything that the
// step leaves behind.
#pragma once

#include "../twin.hpp"
#include "forward_view.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <Cell C, class T>
class Epilogue : protected ForwardView<C, T> {
    using Base = ForwardView<C, T>;

  public:
    using Base::Base;

  protected:
    using Base::at_, Base::call_, Base::dir_, Base::G, Base::gates, Base::initial, Base::kCell;
    using Base::keep_h, Base::kStates, Base::kUnits, Base::L, Base::least, Base::operand;
    using Base::pitch, Base::rows_, Base::slots_, Base::u, Base::units_of, Base::width;
    using Base::width_of;
    using typename Base::Place, typename Base::V;

    void gate(Index s, Index r, Index p, const T* acc) const {
        T* to = gates(s, r);
        for (Index i = 0; i < units_of(p); ++i) {
            const Index unit = (p * kUnits + i) * L;
            V a[G];
            for (int k = 0; k < G; ++k) a[k] = load(acc + (i * G + k) * L);
            store(u(r) + unit, C::gate(a, load(operand(s, r) + unit), call_.options));
            for (int k = 0; k < G; ++k) store(to + slot_at<T>(unit, k, slots_), a[k]);
        }
    }

    // The old state where zoneout keeps it, or the expectation of that.
    V zoned(int k, Index s, Index r, Index unit, V fresh, V old) const {
        const T rate = k == 0 ? call_.zone_h : call_.zone_c;
        if (rate == T(0)) return fresh;
        if (dir_.keep[k] == nullptr) return fma(splat(rate), old - fresh, fresh);
        const int real = static_cast<int>(least(L, width(k) - unit));
        const V keep = take(dir_.keep[k] + rows_.at(s, r) * width(k) + unit, real);
        return select(keep > V{}, old, fresh);
    }

    // The epilogue of n rows and `few` panels, two of either at a time.
    void finish_panels(Index s, const Place* at, Index n, Index p, Index few, const T* acc) const {
        const Index width = width_of(p);
        if (n == 1) {
            Index j = 0;
            for (; j + kTogether <= few; j += kTogether)
                finish<kTogether>(s, at, 0, p + j, 1, acc + j * width, width);
            for (; j < few; ++j) finish<1>(s, at, 0, p + j, 0, acc + j * width, 0);
            return;
        }
        for (Index j = 0; j < few; ++j, acc += n * width) {
            Index i = 0;
            for (; i + kTogether <= n; i += kTogether)
                finish<kTogether>(s, at + i, 1, p + j, 0, acc + i * width, width);
            for (; i < n; ++i) finish<1>(s, at + i, 0, p + j, 0, acc + i * width, 0);
        }
    }

    // Activations, state update, and everything this step leaves behind, of N rows or N panels:
    // the next place, panel or sums lie a step further.
    template <int N>
    [[gnu::noinline]] void finish(Index s, const Place* at, Index next_at, Index p, Index next_p,
                                  const T* acc, Index next_acc) const {
        using W = std::conditional_t<N == 1, V, Twin<V>>;
        const Index by = pitch(p);
        for (Index i = 0; i < units_of(p); ++i) {
            const Index first = (p * kUnits + i) * L, next_unit = next_p * kUnits * L;
            W a[G], state[kStates], par[kCell.vectors > 0 ? kCell.vectors : 1];
            for (int k = 0; k < G; ++k)
                a[k] = each_of<W>(
                    [&](Index w) { return load(acc + w * next_acc + (i * G + k) * by); });
            for (int k = 0; k < kCell.vectors; ++k)
                par[k] = each_of<W>([&](Index w) {
                    return load(dir_.pack + at_.pack_vectors + k * at_.padded + first +
                                w * next_unit);
                });
            state[0] = V{};
            if (!at_.project)
                state[0] = each_of<W>(
                    [&](Index w) { return load(at[w * next_at].old_h + first + w * next_unit); });
            if constexpr (kStates > 1)
                state[1] = each_of<W>(
                    [&](Index w) { return load(at[w * next_at].c + first + w * next_unit); });
            C::forward(a, state, par, call_.options);
            for (Index w = 0; w < N; ++w) {
                V one[G], now[kStates];
                for (int k = 0; k < G; ++k) one[k] = one_of(a[k], w);
                for (int k = 0; k < kStates; ++k) now[k] = one_of(state[k], w);
                leave_unit(s, at[w * next_at], first + w * next_unit, one, now);
            }
        }
    }

    FUSEDRNN_INLINE void leave_unit(Index s, const Place& at, Index unit, const V (&a)[G],
                                    V (&state)[kStates]) const {
        if constexpr (kStates > 1) {
            state[1] = zoned(1, s, at.rank, unit, state[1], load(at.c + unit));
            store(at.c + unit, at.cut ? initial(1, at.rank, unit) : state[1]);
        }
        if (at.saved != nullptr) {
            for (int k = 0; k < G; ++k) store(at.saved + slot_at<T>(unit, k, slots_), a[k]);
            if constexpr (kStates > 1) store(at.saved + slot_at<T>(unit, G, slots_), state[1]);
        }
        if (at_.project)
            store(u(at.rank) + unit, state[0]);
        else
            give(s, at, unit, state[0]);
    }

    void give(Index s, const Place& at, Index unit, V fresh) const {
        const V now = zoned(0, s, at.rank, unit, fresh, load(at.old_h + unit));
        put(at.y + unit, now, static_cast<int>(least(L, at_.output - unit)));
        keep_h(s + 1, at.rank, unit, at.cut ? initial(0, at.rank, unit) : now);
    }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
