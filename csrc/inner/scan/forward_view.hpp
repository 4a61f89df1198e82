// Where a forward call keeps its arrays, which functions of a cell it calls, and how the state
// enters and leaves the walk. Nothing here is compiled for a cell: its integers are read at run
// time.
#pragma once

#include "../cells/cell.hpp"
#include "../weights.hpp"
#include "rows.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
class ForwardView;

// Where row `rank` of a step finds and leaves what: looked up once for all its panels.
template <class T>
struct Place {
    Index rank;
    const T *old_h, *seen;  // seen: what R sees
    T* h;                   // the next h, or u if that is projected
    T *c, *y, *gates, *u;
    bool cut;  // the state it leaves is not what comes next
};

// What the forward call needs of a cell: its integers, and functions that are called once for a
// group of rows and panels. A function is null if the cell does not need it. `acc` has the sums of
// panel p + j of row i at acc[(j * n + i) * width], width = width_of(p).
template <class T>
struct ForwardCell {
    CellInfo info;
    // The cell, and everything that the step leaves behind, for n rows and the panels [p, p + few).
    void (*finish)(const ForwardView<T>& at, Index s, const Place<T>* places, Index n, Index p,
                   Index few, const T* acc);
    // late > 0: the early slots and gate(h) of n rows and the panels [p, p + few).
    void (*gate)(const ForwardView<T>& at, const Place<T>* places, Index n, Index p, Index few,
                 const T* acc);
    // norm: everything after the products of a row.
    void (*row)(const ForwardView<T>& at, Index s, Index r);
};

template <class T>
class ForwardView {
  public:
    using V = vec<T>;
    static constexpr Index L = kLanes<T>;

    ForwardView(const Forward<T>& call, const ForwardCell<T>& cell, int direction, int thread,
                int threads)
        : cell_(cell),
          gates_(cell.info.gates),
          x_gates_(cell.info.x_gates),
          h_first_(cell.info.h_first),
          early_(cell.info.gates - cell.info.late),
          states_(cell.info.states),
          units_(panel_units(cell.info)),
          call_(call),
          at_(call.layout),
          dir_(call.direction[direction]),
          rows_(call, direction),
          by_units_(call.split == Split::kUnits),
          row_(rows_of(call, thread, threads)),
          panels_((vectors_of<T>(at_.hidden) + units_ - 1) / units_),
          last_pitch_(pitch_of<T>(cell.info, at_.hidden, panels_ - 1)),
          width_(panel_vectors<T>(cell.info, at_.hidden, 0, gates_) * L),
          last_width_(panel_vectors<T>(cell.info, at_.hidden, panels_ - 1, gates_) * L),
          panel_(panels_, by_units_ ? thread : 0, by_units_ ? threads : 1),
          first_unit_(panel_.begin * units_ * L),
          last_unit_(least(panel_.end * units_ * L, vectors_of<T>(at_.hidden) * L)),
          out_panel_((vectors_of<T>(at_.output) + 3) / 4, by_units_ ? thread : 0,
                     by_units_ ? threads : 1),
          y_(call.y + direction * at_.output),
          gather_(dir_.scratch + at_.fwd_gather + thread * at_.fwd_gather_thread),
          slots_(dir_.saved != nullptr ? gates_ + states_ - 1 : gates_),
          settles_(call.zone_h != T(0) || call.zone_c != T(0) || dir_.drop != nullptr ||
                   rows_.cuts()),
          x_(weights(0, x_gates_, at_.pack_x, dir_.w_ih, at_.input)),
          h_(weights(h_first_, early_, at_.pack_h, dir_.w_hh, at_.output)) {}

    static Index least(Index a, Index b) { return a < b ? a : b; }

    // h is double-buffered: every thread reads all of it while it writes its part of the next.
    T* h(Index s, Index r) const {
        return dir_.scratch + at_.fwd_h + ((s & 1) * at_.batch + r) * at_.out_row;
    }
    // What R sees: h, or h times the recurrent dropout's mask.
    T* operand(Index s, Index r) const {
        if (dir_.drop == nullptr) return h(s, r);
        return dir_.scratch + at_.fwd_drop + ((s & 1) * at_.batch + r) * at_.out_row;
    }
    // Between two phases of a step: gate(h), or what the projection reads.
    T* u(Index r) const { return dir_.scratch + at_.fwd_u + r * at_.state_row; }
    T* c(Index r) const { return dir_.scratch + at_.fwd_c + r * at_.state_row; }
    T* gates(Index s, Index r) const {
        if (dir_.saved != nullptr) return dir_.saved + rows_.saved(s, r);
        return dir_.scratch + at_.fwd_gates + ((s - block_) * at_.batch + r) * at_.gate_row;
    }

    // The weights of the slots [s0, s1); their panels start at byte `from` of the pack.
    Weights<T> weights(int s0, int s1, Index from, const T* matrix, Index k) const {
        return {{cell_.info, at_.hidden, s0, s1}, matrix, k, panels(from)};
    }
    const std::byte* panels(Index from) const { return at_.unpacked ? nullptr : dir_.pack + from; }

    void wait() const {
        if (by_units_ && call_.barrier.wait != nullptr) call_.barrier.wait(call_.barrier.self);
    }

    // This thread's part of state k, in lanes [first, last).
    Index width(int k) const { return k == 0 ? at_.output : at_.hidden; }
    Index first(int k) const {
        return k == 0 && at_.project ? out_panel_.begin * 4 * L : first_unit_;
    }
    Index last(int k) const {
        return k == 0 && at_.project ? least(out_panel_.end * 4 * L, vectors_of<T>(at_.output) * L)
                                     : last_unit_;
    }

    // Functions that are not inline are for what few calls have; they stand once for all cells.
    [[gnu::noinline]] V initial(int k, Index r, Index unit) const {
        const int real = static_cast<int>(least(L, width(k) - unit));
        if (dir_.initial[k] == nullptr) return V{};
        return take(dir_.initial[k] + rows_.batch(r) * width(k) + unit, real);
    }

    Place<T> place(Index s, Index r) const {
        return {r,
                h(s, r),
                operand(s, r),
                at_.project ? u(r) : h(s + 1, r),
                c(r),
                y_ + rows_.y(s, r),
                gates(s, r),
                u(r),
                rows_.cut(s + 1, r)};
    }

    FUSEDRNN_INLINE void keep_h(Index s, Index r, Index unit, V value) const {
        store(h(s, r) + unit, value);
        if (dir_.drop != nullptr) keep_dropped(s, r, unit, value);
    }
    [[gnu::noinline]] void keep_dropped(Index s, Index r, Index unit, V value) const {
        const int real = static_cast<int>(least(L, at_.output - unit));
        const T* drop = dir_.drop + rows_.batch(r) * at_.output + unit;
        store(operand(s, r) + unit, value * take(drop, real));
    }

    // Loads this thread's part of the state that enters walk step 0.
    void enter() {
        for (Index r = row_.begin; r < row_.end; ++r)
            for (int k = 0; k < states_; ++k)
                for (Index unit = first(k); unit < last(k); unit += L) {
                    const T* from = dir_.state_in[k];
                    const int real = static_cast<int>(least(L, width(k) - unit));
                    V value{};
                    if (rows_.cut(0, r))
                        value = initial(k, r, unit);
                    else if (from != nullptr)
                        value = take(from + rows_.batch(r) * width(k) + unit, real);
                    if (k == 0)
                        keep_h(0, r, unit, value);
                    else
                        store(c(r) + unit, value);
                }
        wait();
    }

    void leave() {
        for (Index r = row_.begin; r < row_.end; ++r)
            for (int k = 0; k < states_; ++k) {
                const T* from = k == 0 ? h(rows_.length(r), r) : c(r);
                T* to = dir_.state_out[k] + rows_.batch(r) * width(k);
                for (Index unit = first(k); unit < last(k); unit += L)
                    put(to + unit, load(from + unit), static_cast<int>(least(L, width(k) - unit)));
            }
    }

    // Panel `p` of the buffer: units, row stride and vectors of its slots.
    Index units_of(Index p) const { return least(units_, vectors_of<T>(at_.hidden) - p * units_); }
    Index pitch(Index p) const { return p + 1 < panels_ ? L : last_pitch_; }
    Index width_of(Index p) const { return p + 1 < panels_ ? width_ : last_width_; }

    // The old state where zoneout keeps it, or the expectation of that.
    FUSEDRNN_INLINE V zoned(int k, Index s, Index r, Index unit, V fresh, V old) const {
        const T rate = k == 0 ? call_.zone_h : call_.zone_c;
        return rate == T(0) ? fresh : old_or_fresh(rate, k, s, r, unit, fresh, old);
    }
    [[gnu::noinline]] V old_or_fresh(T rate, int k, Index s, Index r, Index unit, V fresh,
                                     V old) const {
        if (dir_.keep[k] == nullptr) return fma(splat(rate), old - fresh, fresh);
        const int real = static_cast<int>(least(L, width(k) - unit));
        const V keep = take(dir_.keep[k] + rows_.at(s, r) * width(k) + unit, real);
        return select(keep > V{}, old, fresh);
    }

    // The new h, before zoneout, goes to y and to the next step.
    FUSEDRNN_INLINE void give(Index s, const Place<T>& at, Index unit, V fresh) const {
        const V now = zoned(0, s, at.rank, unit, fresh, load(at.old_h + unit));
        put(at.y + unit, now, static_cast<int>(least(L, at_.output - unit)));
        keep_h(s + 1, at.rank, unit, at.cut ? initial(0, at.rank, unit) : now);
    }

    // The new c, before zoneout, goes to what backward reads and to the next step.
    FUSEDRNN_INLINE void keep_c(Index s, const Place<T>& at, Index unit, V fresh, V old) const {
        const V now = zoned(1, s, at.rank, unit, fresh, old);
        if (dir_.saved != nullptr) store(at.gates + slot_at<T>(unit, gates_, slots_), now);
        store(at.c + unit, at.cut ? initial(1, at.rank, unit) : now);
    }

    // What a step does with new states after the cell's formulas: zoneout, recurrent dropout, cuts,
    // and y of a panel whose lanes are not all real. old_c: c before the step, if there is zoneout.
    [[gnu::noinline]] void settle(Index s, const Place<T>& at, Index unit, const T* old_c) const {
        if (states_ > 1) keep_c(s, at, unit, load(at.c + unit), load(old_c));
        if (!at_.project) give(s, at, unit, load(at.h + unit));
    }

    const ForwardCell<T>& cell_;
    const int gates_, x_gates_, h_first_, early_, states_, units_;
    const Forward<T>& call_;
    const Layout& at_;
    const ForwardDirection<T>& dir_;
    const Rows<T> rows_;
    const bool by_units_;
    const Share row_;
    // The last panel may have fewer units, and its slots may share vectors.
    const Index panels_, last_pitch_, width_, last_width_;
    const Share panel_;
    const Index first_unit_, last_unit_;
    const Share out_panel_;
    T* const y_;
    T* const gather_;
    const int slots_;
    const bool settles_;      // whether a step of this call needs settle() for every panel
    const Weights<T> x_, h_;  // of W x and of R h
    Index block_ = 0;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
