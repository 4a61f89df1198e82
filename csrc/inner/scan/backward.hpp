// Walks back, in one file because a step's phases hand each other da: per step dh = da R of the
// step after as a product, the cell's derivative as its epilogue; da of a block of steps stays in
// scratch for reduce.hpp.
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
          offset_(call.which * at_.output) {
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

    // Real lanes of state k from `unit` on.
    Index width(int k) const { return k == 0 ? at_.output : at_.hidden; }
    int real(int k, Index unit) const { return static_cast<int>(least(L, width(k) - unit)); }

    // State k of the row that entered walk step s.
    V previous(int k, Index s, Index r, Index unit) const {
        const bool cut = rows_.cut(s, r);
        if (s == 0 || cut) {
            const T* from = cut ? dir_.initial[k] : dir_.state_in[k];
            if (from == nullptr) return V{};
            return take(from + rows_.batch(r) * width(k) + unit, real(k, unit));
        }
        if (k == 0) return take(call_.y + offset_ + rows_.y(s - 1, r) + unit, real(0, unit));
        return load(dir_.saved + rows_.saved(s - 1, r) + slot_at<T>(unit, G, kSlots));
    }

    // Recurrent dropout's factors.
    V drop(Index r, Index unit) const {
        return take(dir_.drop + rows_.batch(r) * at_.output + unit, real(0, unit));
    }

    // c' before zoneout, which h' and the peephole of o saw.
    V renewed(Index s, Index r, Index unit, const V (&a)[G], V c) const {
        if constexpr (kStates > 1)
            if (call_.zone_c != T(0)) return C::renew(a, c, call_.options);
        return load(dir_.saved + rows_.saved(s, r) + slot_at<T>(unit, G, kSlots));
    }

    void load_gates(Index s, Index r, Index unit, V (&a)[G]) const {
        const T* saved = dir_.saved + rows_.saved(s, r);
        for (int k = 0; k < G; ++k) a[k] = load(saved + slot_at<T>(unit, k, kSlots));
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
        return dir_.scratch + at_.bwd_terms + q * (kCell.vectors + kNormBiases) * at_.padded;
    }

    // out += da of `n` rows times the slots [s0, s1) of one output panel of transposed weights. K
    // runs block by block, slot by slot within, and pieces are whole blocks: the same on every ISA.
    void multiply(T* out, const T* da, Index n, int s0, int s1, const T* panel,
                  Index vectors) const {
        const Index block = kBlock<T>, slots = s1 - s0, full = at_.hidden / block;
        const Index tail = at_.hidden % block, row = at_.gate_row, width = vectors * L;
        const int nv = static_cast<int>(vectors);
        const T* first = da + s0 * block;
        const Operand<T> body{first, row, 1, slots * block, full, G * block};
        const Operand<T> rest{first + full * G * block, row, 1, tail, slots, block};
        if (full > 0) product<T>(n, nv, 1, {out, width}, body, {panel, width, 0, at_.far});
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
class BackwardSteps : protected BackwardView<C, T> {
  protected:
    using Base = BackwardView<C, T>;
    using Base::at_, Base::call_, Base::da, Base::dir_, Base::drop, Base::dy, Base::G, Base::HF;
    using Base::kCell, Base::kEarly, Base::kLate, Base::kStates, Base::L, Base::least;
    using Base::load_gates, Base::multiply, Base::offset_, Base::previous, Base::real;
    using Base::renewed, Base::rows_, Base::width, Base::XG;
    using typename Base::V;

  public:
    BackwardSteps(const Backward<T>& call, int thread, int threads)
        : Base(call),
          by_units_(call.split == Split::kUnits),
          row_(rows_of(call, thread, threads)),
          out_((vectors_of<T>(at_.output) + 3) / 4, by_units_ ? thread : 0,
               by_units_ ? threads : 1),
          unit_((vectors_of<T>(at_.hidden) + 3) / 4, by_units_ ? thread : 0,
                by_units_ ? threads : 1) {}

    void run() {
        if (call_.end == at_.steps) enter();
        for (Index s = call_.end - 1; s >= call_.begin; --s) {
            through_all(s);
            wait();
            if (at_.project) {
                each_tile(unit_, rows_.live(s),
                          [&](Index r, Index n, Index p) { project(s, r, n, p); });
                wait();
            }
            if constexpr (kLate) {
                each_tile(unit_, rows_.live(s),
                          [&](Index r, Index n, Index p) { late(s, r, n, p); });
                wait();
            }
        }
    }

    // The gradient of the state that entered step 0.
    void finish() {
        if (at_.steps == 0) enter();
        through_all(-1);
        if constexpr (kStates > 1)
            for (Index r = row_.begin; r < row_.end; ++r)
                each_vector(unit_, 1, [&](Index unit) {
                    const V value = rows_.cut(0, r) ? V{} : load(dc(r) + unit);
                    put(dir_.dstate_in[1] + rows_.batch(r) * at_.hidden + unit, value,
                        real(1, unit));
                });
    }

  protected:
    // dh of the whole step, or of the state that entered step 0.
    void through_all(Index s) const {
        each_tile(out_, s < 0 ? at_.batch : rows_.live(s),
                  [&](Index r, Index n, Index p) { through(s, r, n, p); });
    }

    T* dh(Index r) const { return dir_.scratch + at_.bwd_dh + r * at_.out_row; }
    T* dc(Index r) const { return dir_.scratch + at_.bwd_dc + r * at_.state_row; }

    void wait() const {
        if (by_units_ && recurrent(kCell) && call_.barrier.wait != nullptr)
            call_.barrier.wait(call_.barrier.self);
    }

    template <class Body>
    void each_vector(const Share& panels, int k, Body body) const {
        const Index end = least(panels.end * 4, vectors_of<T>(width(k))) * L;
        for (Index unit = panels.begin * 4 * L; unit < end; unit += L) body(unit);
    }

    void enter() {
        for (Index r = row_.begin; r < row_.end; ++r)
            for (int k = 0; k < kStates; ++k)
                each_vector(k == 0 ? out_ : unit_, k, [&](Index unit) {
                    const T* from = rows_.cut(rows_.length(r), r) ? nullptr : dir_.dstate_out[k];
                    V value{};
                    if (from != nullptr)
                        value = take(from + rows_.batch(r) * width(k) + unit, real(k, unit));
                    store((k == 0 ? dh(r) : dc(r)) + unit, value);
                });
    }

    // body(first rank, rows, panel) over this thread's part of ranks [0, live) and of the panels.
    template <class Body>
    void each_tile(const Share& panels, Index live, Body body) const {
        Index left = least(row_.end, live) - row_.begin, r = row_.begin;
        for (Index groups = left > 0 ? (left + kGroupRows - 1) / kGroupRows : 0; groups > 0;
             --groups) {
            const Index n = (left + groups - 1) / groups;
            for (Index p = panels.begin; p < panels.end; ++p) body(r, n, p);
            r += n;
            left -= n;
        }
    }

    // What the derivative of `vectors` unit vectors will read of row r, if that is below `end`: it
    // was written long ago, and comes from afar. Inline: GCC 12 drops calls that only prefetch.
    FUSEDRNN_INLINE void fetch_saved(Index s, Index r, Index end, Index unit, Index vectors) const {
        if (s < 0 || r >= end) return;
        constexpr Index kSlots = G + kStates - 1;
        const char* from = reinterpret_cast<const char*>(dir_.saved + rows_.saved(s, r) +
                                                         slot_at<T>(unit, 0, kSlots));
        const Index blocks = (vectors * kVectorBytes + kBlockBytes - 1) / kBlockBytes;
        for (Index line = 0; line < blocks * kSlots; ++line)
            __builtin_prefetch(from + line * kBlockBytes);
        if (kStates == 1 || s == 0) return;
        const T* c = dir_.saved + rows_.saved(s - 1, r) + slot_at<T>(unit, G, kSlots);
        for (Index k = 0; k < blocks; ++k) __builtin_prefetch(c + k * kSlots * kBlock<T>);
    }

    // dh of `n` rows: the chain from step s + 1 on, then this step's cell.
    void through(Index s, Index r, Index n, Index p) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const Index vectors = least(4, vectors_of<T>(at_.output) - 4 * p);
        const Index wide = vectors * L, first = p * 4 * L;
        for (Index v = 0; v < n * wide; v += L) store(acc + v, V{});
        const Index came = s + 1 < at_.steps ? least(n, rows_.live(s + 1) - r) : 0;
        for (Index i = 0; i < kAhead; ++i) fetch_saved(s, r + i, r + n, first, vectors);
        if constexpr (recurrent(kCell))
            if (came > 0)
                multiply(acc, da(s + 1, r), came, HF, kEarly,
                         dir_.pack + at_.back_h + first * at_.hidden * (kEarly - HF), vectors);
        for (Index i = 0; i < n; ++i) {
            fetch_saved(s, r + i + kAhead, r + n, first, vectors);
            for (Index v = 0; v < wide; v += L) {
                const Index unit = first + v;
                // The pointwise part is often the larger: added last, it does not coarsen the
                // chain.
                const V direct = load(dh(r + i) + unit), sum = load(acc + i * wide + v);
                const V chain =
                    dir_.drop == nullptr ? sum + direct : fma(drop(r + i, unit), sum, direct);
                arrive(s, r + i, unit, chain, i < came);
            }
        }
    }

    // The whole gradient of h' of walk step s is known: pass it on.
    void arrive(Index s, Index r, Index unit, V chain, bool came) const {
        if (came && rows_.cut(s + 1, r)) chain = V{};
        if (s < 0) {
            if (rows_.cut(0, r)) chain = V{};
            put(dir_.dstate_in[0] + rows_.batch(r) * at_.output + unit, chain, real(0, unit));
            return;
        }
        if (call_.dy != nullptr)
            chain = chain + take(call_.dy + offset_ + rows_.y(s, r) + unit, real(0, unit));
        V old{};
        const V fresh = zoned(0, s, r, unit, chain, old);
        if (at_.project || kCell.norm) {
            store(dy(s, r) + unit, fresh);
            store(dh(r) + unit, old);
        } else if constexpr (!kCell.norm) {
            derive(s, r, unit, fresh, old, came);
        }
    }

    // Splits the gradient of a state between the new one (returned) and the one zoneout kept.
    V zoned(int k, Index s, Index r, Index unit, V d, V& old) const {
        const T rate = k == 0 ? call_.zone_h : call_.zone_c;
        if (rate == T(0)) return d;
        if (dir_.keep[k] == nullptr) {
            old = splat(rate) * d;
            return d - old;
        }
        const V keep = take(dir_.keep[k] + rows_.at(s, r) * width(k) + unit, real(k, unit));
        old = select(keep > V{}, d, V{});
        return select(keep > V{}, V{}, d);
    }

    // The cell's derivative, from dh (dm where projected) to da and the pointwise part of ds.
    void derive(Index s, Index r, Index unit, V fresh, V old, bool came) const {
        T* out = da(s, r);
        V a[G], prev[kStates], next[kStates], ds[kStates], gate[G];
        V par[kCell.vectors > 0 ? kCell.vectors : 1];
        load_gates(s, r, unit, a);
        for (int k = 0; k < G; ++k) {
            gate[k] = V{};
            if (dir_.dgate != nullptr && k < XG) {
                const Index row = rows_.at(s, r) * XG + api_rows(kCell, k);
                gate[k] = take(dir_.dgate + row * at_.hidden + unit, real(1, unit));
            }
        }
        for (int k = 0; k < kCell.vectors; ++k)
            par[k] = load(dir_.pack + at_.back_vectors + k * at_.padded + unit);
        ds[0] = fresh;
        next[0] = V{};  // no cell's derivative needs h'; prev[0] is loaded where one does
        prev[0] = kStates == 1 ? previous(0, s, r, unit) : V{};
        V old_c{};
        if constexpr (kStates > 1) {
            V dc_next = came && rows_.cut(s + 1, r) ? V{} : load(dc(r) + unit);
            if (dir_.dcell != nullptr)
                dc_next =
                    dc_next + take(dir_.dcell + rows_.at(s, r) * at_.hidden + unit, real(1, unit));
            ds[1] = zoned(1, s, r, unit, dc_next, old_c);
            prev[1] = previous(1, s, r, unit);
            next[1] = renewed(s, r, unit, a, prev[1]);
        }
        C::backward(a, prev, next, ds, gate, par, call_.options);
        for (int k = 0; k < G; ++k) store(out + slot_at<T>(unit, k, G), gate[k]);
        if (!at_.project) store(dh(r) + unit, call_.zone_h == T(0) ? ds[0] : ds[0] + old);
        if constexpr (kStates > 1)
            store(dc(r) + unit, call_.zone_c == T(0) ? ds[1] : ds[1] + old_c);
    }

    // dm = dh' W_hr, then the cell.
    void project(Index s, Index r, Index n, Index p) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const Index vectors = least(4, vectors_of<T>(at_.hidden) - 4 * p);
        const Index wide = vectors * L, first = p * 4 * L;
        for (Index v = 0; v < n * wide; v += L) store(acc + v, V{});
        product<T>(n, static_cast<int>(vectors), 1, {acc, wide},
                   {dy(s, r), at_.out_row, 1, at_.output},
                   {dir_.pack + at_.back_project + first * at_.output, wide});
        for (Index i = 0; i < n; ++i)
            for (Index v = 0; v < wide; v += L)
                derive(s, r + i, first + v, load(acc + i * wide + v), V{},
                       r + i < rows_.live(s + 1));
    }

    // The early slots of a cell whose late slots saw R gate(h): du = da R first.
    void late(Index s, Index r, Index n, Index p) const {
        if constexpr (kLate) {
            alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
            const Index vectors = least(4, vectors_of<T>(at_.hidden) - 4 * p);
            const Index wide = vectors * L, first = p * 4 * L;
            for (Index v = 0; v < n * wide; v += L) store(acc + v, V{});
            multiply(acc, da(s, r), n, kEarly, G,
                     dir_.pack + at_.back_late + first * at_.hidden * (G - kEarly), vectors);
            for (Index i = 0; i < n; ++i)
                for (Index v = 0; v < wide; v += L)
                    gate(s, r + i, first + v, load(acc + i * wide + v));
        }
    }

    void gate(Index s, Index r, Index unit, V du) const {
        if constexpr (kLate) {
            T* out = da(s, r);
            V a[G], ds[kStates], gate[G];
            load_gates(s, r, unit, a);
            for (int k = 0; k < G; ++k) gate[k] = load(out + slot_at<T>(unit, k, G));
            const V h = previous(0, s, r, unit), direct = load(dh(r) + unit);
            if (dir_.drop == nullptr) {
                ds[0] = direct;
                C::gate_backward(a, h, du, ds, gate, call_.options);
            } else {
                const V factor = drop(r, unit);
                ds[0] = V{};
                C::gate_backward(a, h * factor, du, ds, gate, call_.options);
                ds[0] = fma(factor, ds[0], direct);
            }
            for (int k = 0; k < kEarly; ++k) store(out + slot_at<T>(unit, k, G), gate[k]);
            store(dh(r) + unit, ds[0]);
        }
    }

    // Rows whose saved values are asked for ahead of the one at hand.
    static constexpr Index kAhead = 2;

    const bool by_units_;
    const Share row_, out_, unit_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
