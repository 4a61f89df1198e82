// Walks time, in one file because the phases of a step share every buffer: per step and phase a
// product from packed panels, then the cell as a row-wise epilogue on the sums while they are in
// L1.
#pragma once

#include "../cells/cell.hpp"
#include "../twin.hpp"
#include "rows.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <Cell C, class T>
class ForwardScan {
  protected:
    using V = vec<T>;
    static constexpr CellInfo kCell = C::kInfo;
    static constexpr int G = kCell.gates, XG = kCell.x_gates, HF = kCell.h_first;
    static constexpr int kEarly = G - kCell.late, kStates = kCell.states;
    static constexpr int kUnits = panel_units(kCell);
    static constexpr Index L = kLanes<T>;
    static constexpr bool kLate = kCell.late > 0;

  public:
    ForwardScan(const Forward<T>& call, int direction, int thread, int threads)
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
          slots_(dir_.saved != nullptr ? G + kStates - 1 : G) {}

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

    // Panel `p` of the buffer: units, row stride and vectors of its slots.
    Index units_of(Index p) const { return least(kUnits, vectors_of<T>(at_.hidden) - p * kUnits); }

    void start_from_bias(T* acc, Index p, Index n) const {
        const Index width = units_of(p) * G * L;
        const T* bias = dir_.pack + at_.pack_bias + p * kUnits * G * L;
        for (Index i = 0; i < n; ++i)
            for (Index v = 0; v < width; v += L) store(acc + i * width + v, load(bias + v));
    }

    // One token's row of W^T stands for the product with a one-hot vector.
    void add_token(T* acc, Index p, Index token) const {
        const Index n = units_of(p);
        const T* w = dir_.pack + at_.pack_x + (p * kUnits * at_.input + token * n) * XG * L;
        for (Index u = 0; u < n; ++u)
            for (Index v = 0; v < XG; ++v) {
                T* a = acc + (u * G + v) * L;
                store(a, load(a) + load(w + (u * XG + v) * L));
            }
    }

    void start_from_gates(T* acc, Index p, const Cursor<T>& from, Index n) const {
        const Index units = units_of(p);
        for (Index i = 0; i < n; ++i) {
            const T* g = gates(from.s, from.r + i);
            for (Index u = 0; u < units; ++u)
                for (int s = 0; s < G; ++s)
                    store(acc + ((i * units + u) * G + s) * L,
                          load(g + slot_at<T>((p * kUnits + u) * L, s, slots_)));
        }
    }

    // acc += operand times the slots [s0, s1) of `few` panels from p on.
    void multiply(T* acc, Index p, Index few, Index n, const Operand<T>& a, Index pack, int s0,
                  int s1, Index depth) const {
        const Index units = units_of(p), width = units * G * L, wide = units * (s1 - s0);
        const Panels<T> w{dir_.pack + pack + p * kUnits * (s1 - s0) * L * depth, wide * L,
                          kUnits * (s1 - s0) * L * depth, at_.far};
        product(n, static_cast<int>(wide), static_cast<int>(few), {acc + s0 * L, width, n * width},
                a, w);
    }

    // Calls body(acc, first panel, panels) over this thread's panels for n rows of step s. Every
    // other step goes backwards: what the last one left in the cache is read before it is lost.
    template <class Body>
    void each_panel(Index s, Index n, Body body) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const Index all = vectors_of<T>(at_.hidden), most = n <= kFewRows ? kFewPanels : 1;
        const Index groups = (panel_.end - panel_.begin + most - 1) / most;
        const bool back = ((call_.sweep + s) & 1) != 0;
        for (Index g = 0; g < groups; ++g) {
            Index p = panel_.begin + (back ? groups - 1 - g : g) * most;
            for (Index end = least(p + most, panel_.end), few; p < end; p += few) {
                few = end - p;
                if (few > 1 && end * kUnits > all) --few;  // a narrower last panel goes alone
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
            each_panel(from.s, n, [&](T* acc, Index p, Index few) {
                const Index width = units_of(p) * G * L;
                for (Index j = 0; j < few; ++j) start_from_bias(acc + j * n * width, p + j, n);
                multiply(acc, p, few, n, a, at_.pack_x, 0, XG, at_.input);
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
                      load(acc + (u * G + s) * L));
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
        each_panel(s, n, [&](T* acc, Index p, Index few) {
            const Index width = units_of(p) * G * L;
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
            if (!projected && dense) multiply(acc, p, few, n, x, at_.pack_x, 0, XG, at_.input);
            if constexpr (recurrent(kCell))
                multiply(acc, p, few, n, a, at_.pack_h, HF, kEarly, at_.output);
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
            Place places[kGroupRows];
            for (Index i = 0; i < n; ++i) places[i] = place(s, r + i);
            each_panel(s, n, [&](T* acc, Index p, Index few) {
                const Index width = units_of(p) * G * L;
                for (Index j = 0; j < few; ++j)
                    start_from_gates(acc + j * n * width, p + j, from, n);
                multiply(acc, p, few, n, a, at_.pack_late, kEarly, G, at_.hidden);
                finish_panels(s, places, n, p, few, acc);
            });
        }
    }

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
        const Index width = units_of(p) * G * L;
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
    [[gnu::noinline]] void finish(Index s, const Place* at, Index next_at, Index p, Index next_p, const T* acc,
                Index next_acc) const {
        using W = std::conditional_t<N == 1, V, Twin<V>>;
        for (Index i = 0; i < units_of(p); ++i) {
            const Index first = (p * kUnits + i) * L, next_unit = next_p * kUnits * L;
            W a[G], state[kStates], par[kCell.vectors > 0 ? kCell.vectors : 1];
            for (int k = 0; k < G; ++k)
                a[k] = each_of<W>([&](Index w) { return load(acc + w * next_acc + (i * G + k) * L); });
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

    // h' = W_hr m, the last phase of a projected cell.
    void project(Index s, Index r, Index n) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const Index all = vectors_of<T>(at_.output);
        const Operand<T> a{u(r), at_.state_row, 1, at_.hidden};
        for (Index p = out_panel_.begin; p < out_panel_.end; ++p) {
            const Index vectors = least(4, all - 4 * p), width = vectors * L;
            for (Index v = 0; v < n * width; v += L) store(acc + v, V{});
            product<T>(n, static_cast<int>(vectors), 1, {acc, width}, a,
                       {dir_.pack + at_.pack_project + p * 4 * L * at_.hidden, width});
            for (Index i = 0; i < n; ++i)
                for (Index v = 0; v < width; v += L)
                    give(s, place(s, r + i), p * 4 * L + v, load(acc + i * width + v));
        }
    }

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
    Index block_ = 0;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
