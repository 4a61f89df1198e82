// Where a forward call keeps what, who reads it, and the states at both ends of the walk.
#pragma once

#include "../cells/cell.hpp"
#include "../weights.hpp"
#include "rows.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <Cell C, class T>
class ForwardView {
  protected:
    using V = vec<T>;
    static constexpr CellInfo kCell = C::kInfo;
    static constexpr int G = kCell.gates, XG = kCell.x_gates, HF = kCell.h_first;
    static constexpr int kEarly = G - kCell.late, kStates = kCell.states;
    static constexpr int kUnits = panel_units(kCell);
    static constexpr Index L = kLanes<T>;
    static constexpr bool kLate = kCell.late > 0;

  public:
    ForwardView(const Forward<T>& call, int direction, int thread, int threads)
        : call_(call),
          at_(call.layout),
          dir_(call.direction[direction]),
          rows_(call, direction),
          by_units_(call.split == Split::kUnits),
          row_(rows_of(call, thread, threads)),
          panel_((vectors_of<T>(at_.hidden) + kUnits - 1) / kUnits, by_units_ ? thread : 0,
                 by_units_ ? threads : 1),
          first_unit_(panel_.begin * kUnits * L),
          last_unit_(least(panel_.end * kUnits * L, vectors_of<T>(at_.hidden) * L)),
          out_panel_((vectors_of<T>(at_.output) + 3) / 4, by_units_ ? thread : 0,
                     by_units_ ? threads : 1),
          y_(call.y + direction * at_.output),
          gather_(dir_.scratch + at_.fwd_gather + thread * at_.fwd_gather_thread),
          slots_(dir_.saved != nullptr ? G + kStates - 1 : G),
          x_(weights(0, XG, at_.pack_x, dir_.w_ih, at_.input)),
          h_(weights(HF, kEarly, at_.pack_h, dir_.w_hh, at_.output)) {}

  protected:
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

    // The weights of the slots [s0, s1); their panels start `from` elements into the pack.
    Weights<T> weights(int s0, int s1, Index from, const T* matrix, Index k) const {
        return {{kCell, at_.hidden, s0, s1}, matrix, k, panels(from), at_.far};
    }
    const T* panels(Index from) const { return at_.unpacked ? nullptr : dir_.pack + from; }

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

    V initial(int k, Index r, Index unit) const {
        const int real = static_cast<int>(least(L, width(k) - unit));
        if (dir_.initial[k] == nullptr) return V{};
        return take(dir_.initial[k] + rows_.batch(r) * width(k) + unit, real);
    }

    // Where row `rank` of a step finds and leaves what: looked up once for all its panels.
    struct Place {
        Index rank;
        const T* old_h;
        T *h, *c, *y, *saved;  // saved: null where nothing is
        bool cut;              // the state it leaves is not what comes next
    };
    Place place(Index s, Index r) const {
        return {r,
                h(s, r),
                h(s + 1, r),
                c(r),
                y_ + rows_.y(s, r),
                dir_.saved != nullptr ? gates(s, r) : nullptr,
                rows_.cut(s + 1, r)};
    }

    void keep_h(Index s, Index r, Index unit, V value) const {
        store(h(s, r) + unit, value);
        if (dir_.drop == nullptr) return;
        const int real = static_cast<int>(least(L, at_.output - unit));
        const T* drop = dir_.drop + rows_.batch(r) * at_.output + unit;
        store(operand(s, r) + unit, value * take(drop, real));
    }

    // Loads this thread's part of the state that enters walk step 0.
    void enter() {
        for (Index r = row_.begin; r < row_.end; ++r)
            for (int k = 0; k < kStates; ++k)
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
            for (int k = 0; k < kStates; ++k) {
                const T* from = k == 0 ? h(rows_.length(r), r) : c(r);
                T* to = dir_.state_out[k] + rows_.batch(r) * width(k);
                for (Index unit = first(k); unit < last(k); unit += L)
                    put(to + unit, load(from + unit), static_cast<int>(least(L, width(k) - unit)));
            }
    }

    // Panel `p` of the buffer: units, row stride and vectors of its slots.
    Index units_of(Index p) const { return least(kUnits, vectors_of<T>(at_.hidden) - p * kUnits); }
    Index pitch(Index p) const { return pitch_of<T>(kCell, at_.hidden, p); }
    Index vectors(Index p, Index slots) const {
        return panel_vectors<T>(kCell, at_.hidden, p, slots);
    }
    Index width_of(Index p) const { return vectors(p, G) * L; }

    const Forward<T>& call_;
    const Layout& at_;
    const ForwardDirection<T>& dir_;
    const Rows<T> rows_;
    const bool by_units_;
    const Share row_, panel_;
    const Index first_unit_, last_unit_;
    const Share out_panel_;
    T* const y_;
    T* const gather_;
    const int slots_;
    const Weights<T> x_, h_;  // of W x and of R h
    Index block_ = 0;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
