// Walks time, in one file because the phases of a step share every buffer: per step and phase a
// product from packed panels, then the cell as a row-wise epilogue on the sums while they are in
// L1.
#pragma once

#include "epilogue.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <Cell C, class T>
class ForwardScan : protected Epilogue<C, T> {
  protected:
    using Base = Epilogue<C, T>;
    using Base::at_, Base::block_, Base::call_, Base::dir_, Base::enter, Base::G;
    using Base::finish_panels, Base::gate, Base::gates, Base::gather_, Base::give, Base::h;
    using Base::h_, Base::HF, Base::kCell, Base::kEarly, Base::kLate, Base::kUnits, Base::L;
    using Base::least, Base::leave, Base::operand, Base::out_panel_, Base::panel_, Base::panels;
    using Base::pitch, Base::place, Base::row_, Base::rows_, Base::slots_, Base::u, Base::units_of;
    using Base::vectors, Base::wait, Base::weights, Base::width_of, Base::x_, Base::XG;
    using typename Base::Place, typename Base::V;

  public:
    using Base::Base;

    void run() {
        if (call_.begin == 0) enter();
        const Index block = at_.block_steps > 0 ? at_.block_steps : 1;
        for (Index s = call_.begin; s < call_.end; s += block) {
            block_ = s;
            const Index end = least(s + block, call_.end);
            if (at_.block_steps > 0) read_inputs(s, end);
            for (Index i = s; i < end; ++i) step(i);
        }
        if (call_.end == at_.steps) leave();
    }

  protected:
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
        const T* bias = dir_.pack + at_.pack_bias + p * kUnits * G * L;
        for (Index i = 0; i < n; ++i)
            for (Index v = 0; v < width; v += L) store(acc + i * width + v, load(bias + v));
    }

    // One token's row of W^T stands for the product with a one-hot vector.
    void add_token(T* acc, Index p, Index token) const {
        alignas(kBlockBytes) T room[4 * L];
        const Index n = vectors(p, XG);
        const T* w = x_.row(p, token, room);
        for (Index v = 0; v < n; ++v) {
            T* a = acc + (v / XG * G + v % XG) * L;
            store(a, load(a) + load(w + v * L));
        }
    }

    // Slots rise, and so do rows: lanes that a slot has too many are overwritten by what follows.
    void start_from_gates(T* acc, Index p, const Cursor<T>& from, Index n) const {
        const Index units = units_of(p), by = pitch(p), width = width_of(p);
        for (Index i = 0; i < n; ++i) {
            const T* g = gates(from.s, from.r + i);
            for (Index u = 0; u < units; ++u)
                for (int s = 0; s < G; ++s)
                    store(acc + i * width + (u * G + s) * by,
                          load(g + slot_at<T>((p * kUnits + u) * L, s, slots_)));
        }
    }

    // acc += operand times the slots of `few` panels from p on, s0 the first of them.
    void multiply(T* acc, Index p, Index few, Index n, const Operand<T>& a, const Weights<T>& w,
                  int s0) const {
        const Index width = width_of(p);
        w.multiply(n, p, few, {acc + s0 * L, width, n * width}, a);
    }

    // Calls body(acc, first panel, panels) over this thread's panels for n rows of step s, several
    // panels at once for `few_rows` rows at most. Every
    // other step goes backwards: what the last one left in the cache is read before it is lost.
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
                if (few > 1 && (end * kUnits > all || pitch(end - 1) < L)) --few;
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
        for (Index u = 0; u < units_of(p); ++u)
            for (int s = 0; s < G; ++s)
                store(to + slot_at<T>((p * kUnits + u) * L, s, slots_),
                      load(acc + (u * G + s) * pitch(p)));
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
        if constexpr (kLate) {
            wait();
            each_group(s, [&](Index r, Index n) { late_phase(s, r, n); });
        }
        if (at_.project) {
            wait();
            each_group(s, [&](Index r, Index n) { project(s, r, n); });
        }
        if constexpr (recurrent(kCell)) wait();
    }

    void first_phase(Index s, Index r, Index n) {
        const Cursor<T> from(rows_, s, r, row_.end, 1);
        const bool projected = at_.block_steps > 0, dense = call_.tokens == nullptr;
        const Operand<T> x = projected || !dense ? Operand<T>{} : inputs(from, n);
        const Operand<T> a{operand(s, r), at_.out_row, 1, at_.output};
        Place places[kGroupRows];
        for (Index i = 0; i < n; ++i) places[i] = place(s, r + i);
        each_panel(s, n, kFewRows, [&](T* acc, Index p, Index few) {
            const Index width = width_of(p);
            for (Index j = 0; j < few; ++j) {
                T* to = acc + j * n * width;
                if (projected) {
                    start_from_gates(to, p + j, from, n);
                    continue;
                }
                start_from_bias(to, p + j, n);
                for (Index i = 0; !dense && i < n; ++i)
                    add_token(to + i * width, p + j, rows_.token(s, r + i));
            }
            if (!projected && dense) multiply(acc, p, few, n, x, x_, 0);
            if constexpr (recurrent(kCell)) multiply(acc, p, few, n, a, h_, HF);
            if constexpr (kLate)
                for (Index v = 0; v < few * n; ++v) gate(s, r + v % n, p + v / n, acc + v * width);
            else
                finish_panels(s, places, n, p, few, acc);
        });
    }

    // Slots from kEarly on see R u, u = gate(h) of the first phase.
    void late_phase(Index s, Index r, Index n) {
        if constexpr (kLate) {
            const Cursor<T> from(rows_, s, r, row_.end, 1);
            const Operand<T> a{u(r), at_.state_row, 1, at_.hidden};
            const Weights<T> late = weights(kEarly, G, at_.pack_late, dir_.w_hh, at_.hidden);
            Place places[kGroupRows];
            for (Index i = 0; i < n; ++i) places[i] = place(s, r + i);
            each_panel(s, n, kCell.late == 1 ? kFewRowsOfOne : kFewRows,
                       [&](T* acc, Index p, Index few) {
                           const Index width = width_of(p);
                           for (Index j = 0; j < few; ++j)
                               start_from_gates(acc + j * n * width, p + j, from, n);
                           multiply(acc, p, few, n, a, late, kEarly);
                           finish_panels(s, places, n, p, few, acc);
                       });
        }
    }

    // h' = W_hr m, the last phase of a projected cell.
    void project(Index s, Index r, Index n) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const Index all = vectors_of<T>(at_.output);
        const Operand<T> a{u(r), at_.state_row, 1, at_.hidden};
        const Weights<T> w({kOneSlot, at_.output, 0, 1}, dir_.w_hr, at_.hidden,
                           panels(at_.pack_project), false);
        for (Index p = out_panel_.begin; p < out_panel_.end; ++p) {
            const Index vectors = least(4, all - 4 * p), width = vectors * L;
            for (Index v = 0; v < n * width; v += L) store(acc + v, V{});
            w.multiply(n, p, 1, {acc, width}, a);
            for (Index i = 0; i < n; ++i) {
                const Place to = place(s, r + i);
                for (Index v = 0; v < width; v += L)
                    give(s, to, p * 4 * L + v, load(acc + i * width + v));
            }
        }
    }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
