// Walks time with a normalised cell: per step both products of a group of rows, raw, into the
// gates' buffer; then row by row the statistics and the cell. Rows are never shared between
// threads.
#pragma once

#include "../norm.hpp"
#include "forward.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <Cell C, class T>
class NormForward : ForwardScan<C, T> {
    using Base = ForwardScan<C, T>;
    using Base::at_, Base::block_, Base::c, Base::call_, Base::dir_, Base::each_group, Base::enter;
    using Base::G, Base::gates, Base::give, Base::h, Base::h_, Base::HF, Base::initial;
    using Base::inputs, Base::kStates, Base::L, Base::least, Base::leave, Base::most, Base::operand;
    using Base::row_, Base::rows_, Base::slots_, Base::u, Base::x_, Base::XG, Base::zoned;
    using typename Base::V;

  public:
    using Base::Base;

    void run() {
        if (call_.begin == 0) enter();
        const Index block = at_.block_steps > 0 ? at_.block_steps : 1;
        for (Index s = call_.begin; s < call_.end; s += block) {
            block_ = s;
            const Index end = least(s + block, call_.end);
            if (call_.tokens == nullptr) read_inputs(s, end);
            for (Index i = s; i < end; ++i) step(i);
        }
        if (call_.end == at_.steps) leave();
    }

  private:
    static constexpr const V* kNone = nullptr;  // the plain cell's per-unit vectors

    // The slots of n rows from `from` on: operand times weights, from 0.
    void multiply(const Operand<T>& a, const Cursor<T>& from, Index n, const Weights<T>& w, int s0,
                  int s1) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const Index width = (s1 - s0) * L, all = vectors_of<T>(at_.hidden);
        for (Index p = 0, few = 1; p < all; p += few) {
            few = n <= kFewRows ? least(kFewPanels, all - p) : 1;
            for (Index v = 0; v < few * n * width; v += L) store(acc + v, V{});
            w.multiply(n, p, few, {acc, width, n * width}, a);
            const T* sum = acc;
            for (Index j = 0; j < few; ++j) {
                Cursor<T> to(from);
                for (Index i = 0; i < n; ++i, to.next())
                    for (int k = s0; k < s1; ++k, sum += L)
                        store(gates(to.s, to.r) + slot_at<T>((p + j) * L, k, slots_), load(sum));
            }
        }
    }

    // W x of the steps [s, end).
    void read_inputs(Index s, Index end) const {
        Index left = 0;
        for (Index i = s; i < end; ++i) left += most(rows_.live(i));
        for (Cursor<T> from(rows_, s, row_.begin, row_.end, 1); left > 0;) {
            const Index groups = (left + kGroupRows - 1) / kGroupRows;
            const Index n = (left + groups - 1) / groups;
            multiply(inputs(from, n), from, n, x_, 0, XG);
            for (Index i = 0; i < n; ++i) from.next();
            left -= n;
        }
    }

    // A token's row of W^T stands for the product with a one-hot vector.
    void read_token(Index s, Index r) const {
        alignas(kBlockBytes) T room[4 * L];
        for (Index unit = 0; unit < at_.hidden; unit += L) {
            const T* w = x_.row(unit / L, rows_.token(s, r), room);
            for (int k = 0; k < XG; ++k)
                store(gates(s, r) + slot_at<T>(unit, k, slots_), V{} + load(w + k * L));
        }
    }

    void step(Index s) const {
        each_group(s, [&](Index r, Index n) {
            for (Index i = 0; call_.tokens != nullptr && i < n; ++i) read_token(s, r + i);
            multiply({operand(s, r), at_.out_row, 1, at_.output},
                     Cursor<T>(rows_, s, r, row_.end, 1), n, h_, HF, G);
            for (Index i = 0; i < n; ++i) finish(s, r + i);
        });
    }

    // Statistics, pre-activations, and everything this step of a row leaves behind.
    void finish(Index s, Index r) const {
        const auto at = Base::place(s, r);
        const T *gain = dir_.pack + at_.pack_vectors, *last = gain + G * at_.padded;
        T* row = gates(s, r);
        const NormRow<C, T> norm(row, slots_, dir_.pack + at_.pack_bias, gain, at_);
        V a[kNormBiases];
        if constexpr (kStates == 1) {
            for (Index unit = 0; unit < at_.hidden; unit += L) {
                norm.pre_activations(unit, a);
                V state[1] = {load(h(s, r) + unit)};
                C::Plain::forward(a, state, kNone, call_.options);
                give(s, at, unit, state[0]);
            }
        } else {
            // c' as the cell makes it, and o where the next h will be: both wait for c' as a whole.
            T *cell = c(r), *fresh = u(r), *out = h(s + 1, r);
            for (Index unit = 0; unit < at_.hidden; unit += L) {
                norm.pre_activations(unit, a);
                C::activate(a);
                store(fresh + unit, C::Plain::renew(a, load(cell + unit), call_.options));
                store(out + unit, a[3]);
            }
            const Moments<T> by = moments(fresh, 1, at_.hidden);
            for (Index unit = 0; unit < at_.hidden; unit += L) {
                const V now = load(fresh + unit), o = load(out + unit);
                const V m = fma(load(last + unit), by.of(now), load(last + at_.padded + unit));
                const V state = zoned(1, s, r, unit, now, load(cell + unit));
                store(cell + unit, at.cut ? initial(1, r, unit) : state);
                if (dir_.saved != nullptr) store(row + slot_at<T>(unit, G, slots_), state);
                give(s, at, unit, C::output(o, m));
            }
        }
    }
};

template <Cell C, class T>
void forward(void* call, int thread, int threads) {
    using Scan = std::conditional_t<C::kInfo.norm, NormForward<C, T>, ForwardScan<C, T>>;
    const auto& forward = *static_cast<const Forward<T>*>(call);
    const bool apart = forward.split == Split::kDirections && threads > 1;
    for (int d = 0; d < forward.layout.directions; ++d) {
        if (!apart)
            Scan(forward, d, thread, threads).run();
        else if (thread % 2 == d)
            Scan(forward, d, thread / 2, (threads + 1 - d) / 2).run();
    }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
