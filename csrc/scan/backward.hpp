// Walks back: per step dh = da R of the step after as a product, the cell's derivative as its
// epilogue; da of a block of steps stays in scratch for reduce.hpp.
#pragma once

#include "../cells/cell.hpp"
#include "rows.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// What the two halves of a backward call (this file and reduce.hpp) both need: where things lie.
template <Cell C, class T>
class BackwardView {
  protected:
    using V = vec<T>;
    static constexpr CellInfo kCell = C::kInfo;
    static constexpr int G = kCell.gates, XG = kCell.x_gates, HF = kCell.h_first;
    static constexpr int kEarly = G - kCell.late, kStates = kCell.states;
    static constexpr int kSlots = G + kStates - 1;
    static constexpr Index L = kLanes<T>;
    static constexpr bool kLate = kCell.late > 0;

    BackwardView(const Backward<T>& call)
        : call_(call),
          at_(call.layout),
          dir_(call.direction[call.which]),
          rows_(call, call.which),
          block_end_(least(call.block + at_.partial_steps, at_.steps)),
          offset_(call.which * at_.hidden) {
        // Blocks are counted from the last step, so the one that holds step 0 may be short.
        const Index part = at_.steps % at_.partial_steps;
        if (call.block == 0 && part != 0) block_end_ = part;
    }

    static Index least(Index a, Index b) { return a < b ? a : b; }

    // Rows of the block in walk order: steps falling, ranks rising. The step after the block was
    // copied to the front of the buffer.
    T* da(Index s, Index r) const {
        const Index q =
            s >= block_end_ ? r : at_.batch + rows_.before(block_end_) - rows_.before(s + 1) + r;
        return dir_.scratch + at_.bwd_da + q * at_.gate_row;
    }

    // State k of the row that entered walk step s, n lanes from `unit` on.
    V previous(int k, Index s, Index r, Index unit, int n) const {
        const bool cut = rows_.cut(s, r);
        if (s == 0 || cut) {
            const T* from = cut ? dir_.initial[k] : dir_.state_in[k];
            return from == nullptr ? V{} : take(from + rows_.batch(r) * at_.hidden + unit, n);
        }
        if (k == 0) return take(call_.y + offset_ + rows_.y(s - 1, r) + unit, n);
        return load(dir_.saved + rows_.saved(s - 1, r) + slot_at<T>(unit, G, kSlots));
    }

    // out += da of `n` rows times the slots [s0, s1) of one output panel of transposed weights.
    void multiply(T* out, const T* da, Index n, int s0, int s1, const T* panel, Index vectors) const {
        const Index block = kBlock<T>, slots = s1 - s0, full = at_.hidden / block;
        const Index tail = at_.hidden % block, row = at_.gate_row, width = vectors * L;
        const bool all = slots == G;
        const int nv = static_cast<int>(vectors);
        const T* first = da + s0 * block;
        const Operand<T> body{first, row, 1, all ? full * G * block : slots * block,
                              all ? 1 : full, all ? 0 : G * block};
        const Operand<T> rest{first + full * G * block, row, 1, tail, slots, block};
        if (full > 0) product<T>(n, nv, 1, {out, width}, body, {panel, width});
        if (tail > 0)
            product<T>(n, nv, 1, {out, width}, rest, {panel + full * slots * block * width, width});
    }

    const Backward<T>& call_;
    const Layout& at_;
    const BackwardDirection<T>& dir_;
    const Rows<T> rows_;
    Index block_end_;
    const Index offset_;
};

template <Cell C, class T>
class BackwardSteps : BackwardView<C, T> {
    using Base = BackwardView<C, T>;
    using typename Base::V;
    using Base::at_, Base::call_, Base::da, Base::dir_, Base::G, Base::HF, Base::kCell, Base::kEarly;
    using Base::kLate, Base::kSlots, Base::kStates, Base::L, Base::least, Base::multiply;
    using Base::offset_, Base::previous, Base::rows_;

  public:
    BackwardSteps(const Backward<T>& call, int thread, int threads)
        : Base(call),
          by_units_(call.split == Split::kUnits),
          row_(at_.batch, by_units_ ? 0 : thread, by_units_ ? 1 : threads),
          panel_((vectors_of<T>(at_.hidden) + 3) / 4, by_units_ ? thread : 0,
                 by_units_ ? threads : 1) {}

    void run() {
        if (call_.end == at_.steps) enter();
        for (Index s = call_.end - 1; s >= call_.begin; --s) {
            each_tile(s, rows_.live(s), [&](Index r, Index n, Index p) { through(s, r, n, p); });
            wait();
            if constexpr (kLate) {
                each_tile(s, rows_.live(s), [&](Index r, Index n, Index p) { late(s, r, n, p); });
                wait();
            }
        }
    }

    // The gradient of the state that entered step 0.
    void finish() {
        if (at_.steps == 0) enter();
        each_tile(-1, at_.batch, [&](Index r, Index n, Index p) { through(-1, r, n, p); });
    }

  private:
    T* dh(Index r) const { return dir_.scratch + at_.bwd_dh + r * at_.state_row; }
    T* dc(Index r) const { return dir_.scratch + at_.bwd_dc + r * at_.state_row; }

    void wait() const {
        if (by_units_ && recurrent(kCell) && call_.barrier.wait != nullptr)
            call_.barrier.wait(call_.barrier.self);
    }

    Index vectors_in(Index p) const { return least(4, vectors_of<T>(at_.hidden) - 4 * p); }

    void enter() {
        const Index end = least(panel_.end * 4, vectors_of<T>(at_.hidden)) * L;
        for (Index r = row_.begin; r < row_.end; ++r)
            for (int k = 0; k < kStates; ++k) {
                const T* from = dir_.dstate_out[k];
                T* to = k == 0 ? dh(r) : dc(r);
                for (Index unit = panel_.begin * 4 * L; unit < end; ++unit)
                    to[unit] = from != nullptr && unit < at_.hidden
                                   ? from[rows_.batch(r) * at_.hidden + unit]
                                   : T(0);
            }
    }

    // body(first rank, rows, output panel) over this thread's part of ranks [0, live).
    template <class Body>
    void each_tile(Index, Index live, Body body) const {
        Index left = least(row_.end, live) - row_.begin, r = row_.begin;
        for (Index groups = left > 0 ? (left + kGroupRows - 1) / kGroupRows : 0; groups > 0; --groups) {
            const Index n = (left + groups - 1) / groups;
            for (Index p = panel_.begin; p < panel_.end; ++p) body(r, n, p);
            r += n;
            left -= n;
        }
    }

    // dh of `n` rows: the chain from step s + 1 on, then this step's cell.
    void through(Index s, Index r, Index n, Index p) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const Index vectors = vectors_in(p), width = vectors * L, first = p * 4 * L;
        for (Index v = 0; v < n * width; v += L) store(acc + v, V{});
        const Index came = s + 1 < at_.steps ? least(n, rows_.live(s + 1) - r) : 0;
        if constexpr (recurrent(kCell))
            if (came > 0)
                multiply(acc, da(s + 1, r), came, HF, kEarly,
                         dir_.pack + at_.back_h + first * at_.hidden * (kEarly - HF), vectors);
        for (Index i = 0; i < n; ++i) {
            // The pointwise part is often the larger: added last, it does not coarsen the chain.
            for (Index v = 0; v < width; v += L) {
                T* sum = acc + i * width + v;
                store(sum, load(sum) + load(dh(r + i) + first + v));
            }
            const bool cut = i < came && rows_.cut(s + 1, r + i);
            if (s < 0)
                leave(r + i, cut, acc + i * width, first, vectors);
            else
                derive(s, r + i, cut, acc + i * width, first, vectors);
        }
    }

    void leave(Index r, bool cut, const T* chain, Index first, Index vectors) const {
        const Index batch = rows_.batch(r) * at_.hidden + first;
        for (Index v = 0; v < vectors * L; v += L) {
            const int real = static_cast<int>(least(L, at_.hidden - first - v));
            put(dir_.dstate_in[0] + batch + v, cut ? V{} : load(chain + v), real);
            if constexpr (kStates > 1)
                put(dir_.dstate_in[1] + batch + v, cut ? V{} : load(dc(r) + first + v), real);
        }
    }

    void derive(Index s, Index r, bool cut, const T* chain, Index first, Index vectors) const {
        const T* saved = dir_.saved + rows_.saved(s, r);
        const T* dy = call_.dy == nullptr ? nullptr : call_.dy + offset_ + rows_.y(s, r) + first;
        T* out = da(s, r);
        for (Index v = 0; v < vectors * L; v += L) {
            const Index unit = first + v;
            const int real = static_cast<int>(least(L, at_.hidden - unit));
            V a[G], prev[kStates], next[kStates], ds[kStates], gate[G];
            V par[kCell.vectors > 0 ? kCell.vectors : 1];
            for (int k = 0; k < G; ++k) {
                a[k] = load(saved + slot_at<T>(unit, k, kSlots));
                gate[k] = V{};
            }
            for (int k = 0; k < kCell.vectors; ++k)
                par[k] = load(dir_.pack + at_.back_vectors + k * at_.padded + unit);
            ds[0] = cut ? V{} : load(chain + v);
            if (dy != nullptr) ds[0] = ds[0] + take(dy + v, real);
            next[0] = V{};  // no cell's derivative needs h'; prev[0] is loaded where one does
            prev[0] = kStates == 1 ? previous(0, s, r, unit, real) : V{};
            if constexpr (kStates > 1) {
                ds[1] = cut ? V{} : load(dc(r) + unit);
                prev[1] = previous(1, s, r, unit, real);
                next[1] = load(saved + slot_at<T>(unit, G, kSlots));
            }
            C::backward(a, prev, next, ds, gate, par);
            for (int k = 0; k < G; ++k) store(out + slot_at<T>(unit, k, G), gate[k]);
            store(dh(r) + unit, ds[0]);
            if constexpr (kStates > 1) store(dc(r) + unit, ds[1]);
        }
    }

    // The early slots of a cell whose late slots saw R gate(h): du = da R first.
    void late(Index s, Index r, Index n, Index p) const {
        if constexpr (kLate) {
            alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
            const Index vectors = vectors_in(p), width = vectors * L, first = p * 4 * L;
            for (Index v = 0; v < n * width; v += L) store(acc + v, V{});
            multiply(acc, da(s, r), n, kEarly, G,
                     dir_.pack + at_.back_late + first * at_.hidden * (G - kEarly), vectors);
            for (Index i = 0; i < n; ++i) {
                const T* saved = dir_.saved + rows_.saved(s, r + i);
                T* out = da(s, r + i);
                for (Index v = 0; v < width; v += L) {
                    const Index unit = first + v;
                    const int real = static_cast<int>(least(L, at_.hidden - unit));
                    V a[G], ds[kStates], gate[G];
                    for (int k = 0; k < G; ++k) {
                        a[k] = load(saved + slot_at<T>(unit, k, kSlots));
                        gate[k] = load(out + slot_at<T>(unit, k, G));
                    }
                    ds[0] = load(dh(r + i) + unit);
                    C::gate_backward(a, previous(0, s, r + i, unit, real), load(acc + i * width + v),
                                     ds, gate);
                    for (int k = 0; k < kEarly; ++k) store(out + slot_at<T>(unit, k, G), gate[k]);
                    store(dh(r + i) + unit, ds[0]);
                }
            }
        }
    }

    const bool by_units_;
    const Share row_, panel_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
