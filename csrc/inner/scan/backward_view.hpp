// Where a backward call keeps what, and which functions of a cell the walk and the products call.
// Nothing here is compiled for a cell: its integers are read at run time.
#pragma once

#include "../cells/cell.hpp"
#include "rows.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
class BackwardView;

// The rows [r, r + n) of walk step s and the units [first, first + wide). d has `wide` numbers for
// each row. The first `came` rows also live at step s + 1.
template <class T>
struct Patch {
    Index s, r, n, came, first, wide;
    const T* d;
};

// What the backward call needs of a cell: its integers, and functions that are called once for a
// group of rows and units. A function is null if the cell does not need it.
template <class T>
struct BackwardCell {
    CellInfo info;
    // From d, the gradient of h' (of m if projected), to da and the pointwise part of the gradients
    // of the previous states. dh holds what zoneout passed by.
    void (*derive)(const BackwardView<T>& at, const Patch<T>& patch);
    // late > 0: from d, the gradient of gate(h), to da of the early slots; adds to dh.
    void (*gate)(const BackwardView<T>& at, const Patch<T>& patch);
    // late > 0: gate(h) of one vector of units, from h.
    vec<T> (*gated)(const BackwardView<T>& at, Index s, Index r, Index unit, vec<T> h);
    // states > 1: m of one row, which W_hr multiplies, of the units [first, first + wide).
    void (*output)(const BackwardView<T>& at, Index s, Index r, Index first, Index wide, T* to);
    // vectors > 0: adds what the n rows from `from` on add to the gradients of the per-unit
    // vectors. Slot k of row q of da starts at da[q * row + k * kLanes]; vector k of the totals
    // starts at total[k * padded].
    void (*terms)(const BackwardView<T>& at, Cursor<T> from, Index n, Index unit, const T* da,
                  Index row, T* total);
    // norm: from dy of a row to its da and its terms; and the slots of W x and of R h that each
    // pre-activation is made of (cells/norm.hpp).
    void (*row)(const BackwardView<T>& at, Index s, Index r);
    const int *norm_x, *norm_h;
};

// What the walk (backward.hpp), the products (reduce.hpp) and the cells' functions
// (derivative.hpp, norm_backward.hpp) all need: where things lie.
template <class T>
class BackwardView {
  public:
    using V = vec<T>;
    static constexpr Index L = kLanes<T>;

    BackwardView(const Backward<T>& call, const BackwardCell<T>& cell, int direction)
        : cell_(cell),
          gates_(cell.info.gates),
          x_gates_(cell.info.x_gates),
          h_first_(cell.info.h_first),
          early_(cell.info.gates - cell.info.late),
          slots_(cell.info.gates + cell.info.states - 1),
          call_(call),
          at_(call.layout),
          dir_(call.direction[direction]),
          rows_(call, direction),
          block_end_(least(call.block + at_.partial_steps, at_.steps)),
          offset_(direction * at_.output) {
        // Blocks are counted from the last step, so the one that holds step 0 may be short.
        const Index part = at_.steps % at_.partial_steps;
        if (call.block == 0 && part != 0) block_end_ = part;
    }

    static Index least(Index a, Index b) { return a < b ? a : b; }

    // Rows of the block in walk order: steps falling, ranks rising. The step after the block was
    // copied to the front of the buffer.
    FUSEDRNN_INLINE T* da(Index s, Index r) const {
        const Index q =
            s >= block_end_ ? r : at_.batch + rows_.before(block_end_) - rows_.before(s + 1) + r;
        return dir_.scratch + at_.bwd_da + q * at_.gate_row;
    }

    // Real lanes of state k from `unit` on.
    Index width(int k) const { return k == 0 ? at_.output : at_.hidden; }
    FUSEDRNN_INLINE int real(int k, Index unit) const {
        return static_cast<int>(least(L, width(k) - unit));
    }

    // State k of the row that entered walk step s.
    FUSEDRNN_INLINE V previous(int k, Index s, Index r, Index unit) const {
        if (s == 0 || rows_.cut(s, r)) return given(k, s, r, unit);
        if (k == 0) return take(call_.y + offset_ + rows_.y(s - 1, r) + unit, real(0, unit));
        return load(dir_.saved + rows_.saved(s - 1, r) + slot_at<T>(unit, gates_, slots_));
    }
    // The same where no step left it: rare, so it stands once.
    [[gnu::noinline, gnu::pure]] V given(int k, Index s, Index r, Index unit) const {
        const T* from = rows_.cut(s, r) ? dir_.initial[k] : dir_.state_in[k];
        if (from == nullptr) return V{};
        return take(from + rows_.batch(r) * width(k) + unit, real(k, unit));
    }

    // Recurrent dropout's factors.
    FUSEDRNN_INLINE V drop(Index r, Index unit) const {
        return take(dir_.drop + rows_.batch(r) * at_.output + unit, real(0, unit));
    }

    // The saved values of a row: slot k of a unit starts at slot_at(unit, k, slots_).
    const T* saved(Index s, Index r) const { return dir_.saved + rows_.saved(s, r); }

    // Gradients of h and c of a row, handed from each step to the one before it.
    T* dh(Index r) const { return dir_.scratch + at_.bwd_dh + r * at_.out_row; }
    T* dc(Index r) const { return dir_.scratch + at_.bwd_dc + r * at_.state_row; }

    // Splits the gradient of a state between the new one (returned) and the one zoneout kept.
    FUSEDRNN_INLINE V zoned(int k, Index s, Index r, Index unit, V d, V& old) const {
        const T rate = k == 0 ? call_.zone_h : call_.zone_c;
        return rate == T(0) ? d : split(rate, k, s, r, unit, d, old);
    }
    [[gnu::noinline]] V split(T rate, int k, Index s, Index r, Index unit, V d, V& old) const {
        if (dir_.keep[k] == nullptr) {
            old = splat(rate) * d;
            return d - old;
        }
        const V keep = take(dir_.keep[k] + rows_.at(s, r) * width(k) + unit, real(k, unit));
        old = select(keep > V{}, d, V{});
        return select(keep > V{}, V{}, d);
    }

    // The gradient `d` of the state k that entered walk step s (that left, if s is the row's
    // length): returns the part of the state before it. After a cut that is 0, and `d` is
    // the gradient of `initial`.
    FUSEDRNN_INLINE V across(int k, Index s, Index r, Index unit, V d) const {
        return rows_.cut(s, r) ? to_initial(k, r, unit, d) : d;
    }
    [[gnu::noinline]] V to_initial(int k, Index r, Index unit, V d) const {
        if (T* to = dir_.dinitial[k]; to != nullptr) {
            to += rows_.batch(r) * width(k) + unit;
            put(to, take(to, real(k, unit)) + d, real(k, unit));
        }
        return V{};
    }

    // The gradient of c' of a row: from the step after it, and of the call's output of c.
    FUSEDRNN_INLINE V dc_next(Index s, Index r, Index unit, bool came) const {
        V d = load(dc(r) + unit);
        if (came) d = across(1, s + 1, r, unit, d);
        if (dir_.dcell != nullptr)
            d = d + take(dir_.dcell + rows_.at(s, r) * at_.hidden + unit, real(1, unit));
        return d;
    }

    // Place of (s, r) among the rows of the block.
    Index place(Index s, Index r) const {
        return rows_.before(block_end_) - rows_.before(s + 1) + r;
    }
    // dh' of walk step s where the cell needs it whole: h' = W_hr m, normalised cells.
    T* dy(Index s, Index r) const { return dir_.scratch + at_.bwd_dy + place(s, r) * at_.out_row; }
    // What the row adds to the gradients of gains and biases, [vectors + kNormBiases][padded].
    T* terms(Index s, Index r) const { return terms_at(place(s, r)); }
    T* terms_at(Index q) const {
        return dir_.scratch + at_.bwd_terms + q * (cell_.info.vectors + kNormBiases) * at_.padded;
    }

    // Panel p of the transposed slots [s0, s1), whose panels start at byte `from` of the pack.
    ColumnPanel<T> slot_columns(Index from, Index p, Index columns, int s0, int s1) const {
        return {dir_.pack + from, p, columns, at_.hidden * (s1 - s0)};
    }

    // out += da of `n` rows times w, a panel of the slots [s0, s1). K runs block by block, slot by
    // slot within, and pieces are whole blocks: the same on every ISA.
    void multiply(T* out, const T* da, Index n, int s0, int s1, const ColumnPanel<T>& w) const {
        const Index block = kBlock<T>, slots = s1 - s0, full = at_.hidden / block;
        const Index tail = at_.hidden % block, row = at_.gate_row, width = w.vectors * L;
        const T* first = da + s0 * block;
        const Operand<T> body{first, row, 1, slots * block, full, gates_ * block};
        const Operand<T> rest{first + full * gates_ * block, row, 1, tail, slots, block};
        if (full > 0) w.multiply(n, {out, width}, body);
        if (tail > 0) w.multiply(n, {out, width}, rest, full * slots * block);
    }

    const BackwardCell<T>& cell_;
    const int gates_, x_gates_, h_first_, early_, slots_;
    const Backward<T>& call_;
    const Layout& at_;
    const BackwardDirection<T>& dir_;
    const Rows<T> rows_;
    Index block_end_;
    const Index offset_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
