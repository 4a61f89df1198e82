// The walk over time of a forward call, for every cell. A step has one to three phases. Each phase
// multiplies rows by panels of weights and then calls a function of the cell on the sums while they
// are in L1. The phases are in one file because they share every buffer.
#pragma once

#include "forward_view.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
class ForwardWalk : ForwardView<T> {
    using Base = ForwardView<T>;
    using Base::at_, Base::block_, Base::call_, Base::cell_, Base::dir_, Base::early_, Base::enter;
    using Base::gates, Base::gates_, Base::gather_, Base::give, Base::h_, Base::h_first_, Base::L;
    using Base::least, Base::leave, Base::operand, Base::out_panel_, Base::panel_, Base::panels;
    using Base::pitch, Base::place, Base::row_, Base::rows_, Base::slots_, Base::u, Base::units_;
    using Base::units_of, Base::wait, Base::weights, Base::width_of, Base::x_, Base::x_gates_;
    using typename Base::V;

  public:
    using Base::Base;

    void run() {
        if (call_.begin == 0) enter();
        const Index block = at_.block_steps > 0 ? at_.block_steps : 1;
        for (Index s = call_.begin; s < call_.end; s += block) {
            block_ = s;
            const Index end = least(s + block, call_.end);
            if (cell_.info.norm && call_.tokens == nullptr)
                read_raw_inputs(s, end);
            else if (at_.block_steps > 0)
                read_inputs(s, end);
            for (Index i = s; i < end; ++i)
                if (cell_.info.norm)
                    norm_step(i);
                else
                    step(i);
        }
        if (call_.end == at_.steps) leave();
    }

  private:
    // x of consecutive (step, rank) pairs as one operand: in place where its rows are evenly
    // spaced, else gathered.
    Operand<T> inputs(Cursor<T> from, Index n) const {
        const bool whole = row_.begin == 0 && row_.end == at_.batch;
        const Index last = from.r + n;
        if (rows_.dense() && (last <= row_.end || at_.batch == 1 ||
                              (whole && call_.x_step == at_.batch * call_.x_row &&
                               rows_.time(1, 0) > rows_.time(0, 0)))) {
            const Index by = rows_.time(1, 0) - rows_.time(0, 0);
            const Index row = at_.batch == 1 ? by * call_.x_step : call_.x_row;
            return {rows_.x(from.s, from.r), row, 1, at_.input};
        }
        for (Index q = 0; q < n; ++q, from.next())
            copy(rows_.x(from.s, from.r), gather_ + q * at_.input, at_.input);
        return {gather_, at_.input, 1, at_.input};
    }

    void start_from_bias(T* acc, Index p, Index n) const {
        const Index width = width_of(p);
        const T* bias = in_pack<T>(dir_.pack, at_.pack_bias) + p * units_ * gates_ * L;
        for (Index i = 0; i < n; ++i)
            for (Index v = 0; v < width; v += L) store(acc + i * width + v, load(bias + v));
    }

    // One token's row of W^T stands for the product with a one-hot vector.
    void add_token(T* acc, Index p, Index token) const {
        alignas(kBlockBytes) T room[4 * L];
        const Index n = panel_vectors<T>(cell_.info, at_.hidden, p, x_gates_);
        const T* w = x_.row(p, token, room);
        for (Index v = 0; v < n; ++v) {
            T* a = acc + (v / x_gates_ * gates_ + v % x_gates_) * L;
            store(a, load(a) + load(w + v * L));
        }
    }

    // If slots share vectors (pitch_of), the store of a slot also writes lanes of the slots and
    // rows after it. Slots and rows are stored in rising order, so what such a store wrote is
    // overwritten by the slot that owns it. Nothing overwrites what the last slot of the last row
    // writes past that row, fewer than L numbers. They stay in the buffer, which has four vectors
    // for each row: a row of four vectors writes none (its last slot starts before 3 * L), and a
    // shorter row leaves room.
    void start_from_gates(T* acc, Index p, const Place<T>* places, Index n) const {
        static_assert(kMaxGates <= kPanelVectors);
        const Index units = units_of(p), by = pitch(p), width = width_of(p);
        const Index first = slot_at<T>(p * units_ * L, 0, slots_);
        for (Index i = 0; i < n; ++i)
            copy_slots<true>(places[i].gates + first, acc + i * width, units, by);
    }

    // Copies the slots of a panel between the gates of a row and the buffer of sums, in rising
    // order; in the buffer a slot starts `by` after the one before it.
    template <bool kIn>
    FUSEDRNN_INLINE void copy_slots(std::conditional_t<kIn, const T*, T*> gates,
                                    std::conditional_t<kIn, T*, const T*> acc, Index units,
                                    Index by) const {
        auto one = [&](Index unit, Index s) {
            auto* g = gates + slot_at<T>(unit * L, s, slots_);
            auto* a = acc + (unit * gates_ + s) * by;
            if constexpr (kIn)
                store(a, load(g));
            else
                store(g, load(a));
        };
        // The shapes of panels that occur most, without loops.
        if (gates_ == 4) {
            for (Index s = 0; s < 4; ++s) one(0, s);
        } else if (gates_ == 3) {
            for (Index s = 0; s < 3; ++s) one(0, s);
        } else if (gates_ == 1 && units == 4) {
            for (Index u = 0; u < 4; ++u) one(u, 0);
        } else {
            for (Index u = 0; u < units; ++u)
                for (Index s = 0; s < gates_; ++s) one(u, s);
        }
    }

    // acc += operand times the slots of `few` panels from p on, s0 the first of them.
    void multiply(T* acc, Index p, Index few, Index n, const Operand<T>& a, const Weights<T>& w,
                  int s0) const {
        const Index width = width_of(p);
        w.multiply(n, p, few, {acc + s0 * L, width, n * width}, a);
    }

    // Calls body(acc, first panel, panels) over this thread's panels for n rows of step s, several
    // panels at once for `few_rows` rows at most. Every other step takes the panels in falling
    // order, so that it reads first what the step before it left in the cache.
    template <class Body>
    void each_panel(Index s, Index n, Index few_rows, Body body) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const Index all = vectors_of<T>(at_.hidden), most = n <= few_rows ? kFewPanels : 1;
        const Index groups = (panel_.end - panel_.begin + most - 1) / most;
        const bool back = ((call_.sweep + s) & 1) != 0;
        for (Index g = 0; g < groups; ++g) {
            Index p = panel_.begin + (back ? groups - 1 - g : g) * most;
            for (Index end = least(p + most, panel_.end), few; p < end; p += few) {
                few = end - p;
                // A narrower last panel goes alone.
                if (few > 1 && (end * units_ > all || pitch(end - 1) < L)) --few;
                body(acc, p, few);
            }
        }
    }

    // Chain starts and W x of the steps [s, end), left in the gates of each row.
    void read_inputs(Index s, Index end) {
        Index left = 0;
        for (Index i = s; i < end; ++i) left += most(rows_.live(i));
        for (Cursor<T> from(rows_, s, row_.begin, row_.end, 1); left > 0;) {
            const Index groups = (left + kGroupRows - 1) / kGroupRows;
            const Index n = (left + groups - 1) / groups;
            const Operand<T> a = inputs(from, n);
            each_panel(from.s, n, kFewRows, [&](T* acc, Index p, Index few) {
                const Index width = width_of(p);
                for (Index j = 0; j < few; ++j) start_from_bias(acc + j * n * width, p + j, n);
                multiply(acc, p, few, n, a, x_, 0);
                for (Index j = 0; j < few; ++j) {
                    Cursor<T> to(from);
                    for (Index i = 0; i < n; ++i, to.next())
                        keep(acc + (j * n + i) * width, p + j, gates(to.s, to.r));
                }
            });
            for (Index i = 0; i < n; ++i) from.next();
            left -= n;
        }
    }

    Index most(Index live) const {
        const Index end = least(row_.end, live);
        return end > row_.begin ? end - row_.begin : 0;
    }

    void keep(const T* acc, Index p, T* to) const {
        copy_slots<false>(to + slot_at<T>(p * units_ * L, 0, slots_), acc, units_of(p), pitch(p));
    }

    // Splits this thread's live rows of step s evenly into groups: body(first rank, rows).
    template <class Body>
    void each_group(Index s, Body body) const {
        Index left = most(rows_.live(s)), r = row_.begin;
        for (Index groups = (left + kGroupRows - 1) / kGroupRows; groups > 0; --groups) {
            const Index n = (left + groups - 1) / groups;
            body(r, n);
            r += n;
            left -= n;
        }
    }

    void step(Index s) {
        each_group(s, [&](Index r, Index n) { first_phase(s, r, n); });
        if (cell_.info.late > 0) {
            wait();
            each_group(s, [&](Index r, Index n) { late_phase(s, r, n); });
        }
        if (at_.project) {
            wait();
            each_group(s, [&](Index r, Index n) { project(s, r, n); });
        }
        if (recurrent(cell_.info)) wait();
    }

    void first_phase(Index s, Index r, Index n) {
        const Cursor<T> from(rows_, s, r, row_.end, 1);
        const bool projected = at_.block_steps > 0, dense = call_.tokens == nullptr;
        const Operand<T> x = projected || !dense ? Operand<T>{} : inputs(from, n);
        const Operand<T> a{operand(s, r), at_.out_row, 1, at_.output};
        Place<T> places[kGroupRows];
        for (Index i = 0; i < n; ++i) places[i] = place(s, r + i);
        each_panel(s, n, kFewRows, [&](T* acc, Index p, Index few) {
            const Index width = width_of(p);
            for (Index j = 0; j < few; ++j) {
                T* to = acc + j * n * width;
                if (projected) {
                    start_from_gates(to, p + j, places, n);
                    continue;
                }
                start_from_bias(to, p + j, n);
                for (Index i = 0; !dense && i < n; ++i)
                    add_token(to + i * width, p + j, rows_.token(s, r + i));
            }
            if (!projected && dense) multiply(acc, p, few, n, x, x_, 0);
            if (recurrent(cell_.info)) multiply(acc, p, few, n, a, h_, h_first_);
            if (cell_.info.late > 0)
                cell_.gate(*this, places, n, p, few, acc);
            else
                cell_.finish(*this, s, places, n, p, few, acc);
        });
    }

    // Slots from early_ on see R u, u = gate(h) of the first phase.
    void late_phase(Index s, Index r, Index n) {
        const Operand<T> a{u(r), at_.state_row, 1, at_.hidden};
        const Weights<T> late = weights(early_, gates_, at_.pack_late, dir_.w_hh, at_.hidden);
        Place<T> places[kGroupRows];
        for (Index i = 0; i < n; ++i) places[i] = place(s, r + i);
        each_panel(s, n, cell_.info.late == 1 ? kFewRowsOfOne : kFewRows,
                   [&](T* acc, Index p, Index few) {
                       const Index width = width_of(p);
                       for (Index j = 0; j < few; ++j)
                           start_from_gates(acc + j * n * width, p + j, places, n);
                       multiply(acc, p, few, n, a, late, early_);
                       cell_.finish(*this, s, places, n, p, few, acc);
                   });
    }

    // h' = W_hr m, the last phase of a projected cell.
    void project(Index s, Index r, Index n) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const Index all = vectors_of<T>(at_.output);
        const Operand<T> a{u(r), at_.state_row, 1, at_.hidden};
        const Weights<T> w({kOneSlot, at_.output, 0, 1}, dir_.w_hr, at_.hidden,
                           panels(at_.pack_project));
        for (Index p = out_panel_.begin; p < out_panel_.end; ++p) {
            const Index vectors = least(4, all - 4 * p), width = vectors * L;
            for (Index v = 0; v < n * width; v += L) store(acc + v, V{});
            w.multiply(n, p, 1, {acc, width}, a);
            for (Index i = 0; i < n; ++i) {
                const Place<T> to = place(s, r + i);
                for (Index v = 0; v < width; v += L)
                    give(s, to, p * 4 * L + v, load(acc + i * width + v));
            }
        }
    }

    // A normalised cell keeps raw products in the gates of each row, and finishes row by row.

    // The slots of n rows from `from` on: operand times weights, from 0.
    void multiply_raw(const Operand<T>& a, const Cursor<T>& from, Index n, const Weights<T>& w,
                      int s0, int s1) const {
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
    void read_raw_inputs(Index s, Index end) const {
        Index left = 0;
        for (Index i = s; i < end; ++i) left += most(rows_.live(i));
        for (Cursor<T> from(rows_, s, row_.begin, row_.end, 1); left > 0;) {
            const Index groups = (left + kGroupRows - 1) / kGroupRows;
            const Index n = (left + groups - 1) / groups;
            multiply_raw(inputs(from, n), from, n, x_, 0, x_gates_);
            for (Index i = 0; i < n; ++i) from.next();
            left -= n;
        }
    }

    // A token's row of W^T stands for the product with a one-hot vector.
    void read_token(Index s, Index r) const {
        alignas(kBlockBytes) T room[4 * L];
        for (Index unit = 0; unit < at_.hidden; unit += L) {
            const T* w = x_.row(unit / L, rows_.token(s, r), room);
            for (int k = 0; k < x_gates_; ++k)
                store(gates(s, r) + slot_at<T>(unit, k, slots_), V{} + load(w + k * L));
        }
    }

    void norm_step(Index s) const {
        each_group(s, [&](Index r, Index n) {
            for (Index i = 0; call_.tokens != nullptr && i < n; ++i) read_token(s, r + i);
            multiply_raw({operand(s, r), at_.out_row, 1, at_.output},
                         Cursor<T>(rows_, s, r, row_.end, 1), n, h_, h_first_, gates_);
            for (Index i = 0; i < n; ++i) cell_.row(*this, s, r + i);
        });
    }
};

template <class T>
void forward(const Forward<T>& call, const ForwardCell<T>& cell, int thread, int threads) {
    const bool apart = call.split == Split::kDirections && threads > 1;
    for (int d = 0; d < call.layout.directions; ++d) {
        if (!apart)
            ForwardWalk<T>(call, cell, d, thread, threads).run();
        else if (thread % 2 == d)
            ForwardWalk<T>(call, cell, d, thread / 2, (threads + 1 - d) / 2).run();
    }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
