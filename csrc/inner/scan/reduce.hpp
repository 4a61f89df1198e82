// Weight gradients and dx of a block of steps, for every cell. They are in one file because they
// read the same da while it is in the cache. Each partial sum covers partial_steps steps (or 512
// rows of a step) in walk order, and the partial sums are added in walk order.
//
// All rows share a weight gradient, or every group of rows has its own. In the first case threads
// divide the panels of a gradient; in the second case they divide the groups.
#pragma once

#include "../pack.hpp"
#include "backward.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
class Reduce : BackwardView<T> {
    using Base = BackwardView<T>;
    using Base::at_, Base::block_end_, Base::call_, Base::cell_, Base::da, Base::dir_, Base::drop;
    using Base::dy, Base::early_, Base::gates_, Base::h_first_, Base::L, Base::least;
    using Base::multiply, Base::previous, Base::rows_, Base::slot_columns, Base::terms,
        Base::x_gates_;
    using typename Base::V;

  public:
    Reduce(const Backward<T>& call, const BackwardCell<T>& cell, int direction, int thread,
           int threads)
        : Base(call, cell, direction),
          units_(panel_units(cell.info)),
          thread_(thread),
          threads_(threads),
          all_(rows_.before(block_end_) - rows_.before(call.block)),
          begin_(least(call.begin * kPartialRows, all_)),
          end_(least(call.end * kPartialRows, all_)),
          panel_((vectors_of<T>(at_.hidden) + units_ - 1) / units_, grouped() ? 0 : thread,
                 grouped() ? 1 : threads),
          unit_((vectors_of<T>(at_.hidden) + 3) / 4, grouped() ? 0 : thread,
                grouped() ? 1 : threads),
          own_(dir_.scratch + (grouped() ? thread * at_.bwd_thread : 0)),
          da_panel_(own_ + at_.bwd_panel + (grouped() ? 0 : thread * at_.bwd_panel_thread)) {}

    void products() {
        if (begin_ == end_) return;
        if (!grouped()) shared_gradients();
        if (dir_.dx != nullptr) input_gradients();
        if (end_ == all_) hand_over();
    }

    // The weight gradients of the groups of this slice.
    void groups() {
        const Share mine(call_.end - call_.begin, thread_, threads_);
        for (Index k = mine.begin; k < mine.end; ++k) group(call_.begin + k);
    }

    // Writes the totals of the gradient that all rows share.
    void finish() {
        if (grouped()) return;
        totals_to(dir_, [](T* to, Index, auto write) { write(to); });
    }

  private:
    bool grouped() const { return at_.group > 0; }

    // The rows of a partial sum, in walk order, and row 0 of what belongs to each of them.
    struct Partial {
        Cursor<T> from;
        Index n;
        const T *da, *terms, *dy, *x, *u, *late;
    };

    void shared_gradients() {
        T* base = dir_.scratch;
        const Share share(end_ - begin_, thread_, threads_);
        if (share.begin < share.end) {
            const Index q = begin_ + share.begin;
            gather(at(q), share.end - share.begin, base + at_.bwd_x + q * at_.bwd_x_row,
                   base + at_.bwd_u + q * at_.out_row, base + at_.bwd_late + q * at_.state_row);
        }
        if (call_.barrier.wait != nullptr) call_.barrier.wait(call_.barrier.self);
        for (Index q = begin_; q < end_; q += kPartialRows)
            add({at(q), least(kPartialRows, end_ - q),
                 base + at_.bwd_da + (at_.batch + q) * at_.gate_row, this->terms_at(q),
                 base + at_.bwd_dy + q * at_.out_row, base + at_.bwd_x + q * at_.bwd_x_row,
                 base + at_.bwd_u + q * at_.out_row, base + at_.bwd_late + q * at_.state_row});
    }

    void add(const Partial& part) {
        for (Index p = panel_.begin; any_weight() && p < panel_.end; ++p) weight_gradients(part, p);
        for (Index p = unit_.begin; dir_.dw_hr != nullptr && p < unit_.end; ++p) project(part, p);
    }

    // The block's part of the gradients of one group. Its rows are not neighbours in the buffers of
    // the block, so they are copied first.
    void group(Index k) {
        clear(own_ + at_.bwd_dw_ih, own_ + at_.bwd_x + at_.bwd_thread);
        const Index* list = call_.schedule.grouped;
        Cursor<T> from(rows_, block_end_ - 1, k * at_.group, (k + 1) * at_.group, -1, list);
        Index left = 0;
        for (Index i = from.first; i < from.last; ++i) {
            const Index length = rows_.length(list == nullptr ? i : list[i]);
            left += length > call_.block ? least(length, block_end_) - call_.block : 0;
        }
        const Index term_row = (cell_.info.vectors + kNormBiases) * at_.padded;
        T *da_rows = own_ + at_.bwd_own_da, *term_rows = own_ + at_.bwd_own_terms;
        T *dy_rows = own_ + at_.bwd_own_dy, *x = own_ + at_.bwd_x, *u = own_ + at_.bwd_u;
        for (Index n; left > 0; left -= n) {
            n = least(kPartialRows, left);
            const Cursor<T> first(from);
            gather(first, n, x, u, own_ + at_.bwd_late);
            for (Index q = 0; q < n; ++q, from.next()) {
                copy(da(from.s, from.r), da_rows + q * at_.gate_row, at_.gate_row);
                if (cell_.info.norm)
                    copy(terms(from.s, from.r), term_rows + q * term_row, term_row);
                if (at_.project) copy(dy(from.s, from.r), dy_rows + q * at_.out_row, at_.out_row);
            }
            add({first, n, da_rows, term_rows, dy_rows, x, u, own_ + at_.bwd_late});
        }
        // Blocks are walked from the last steps to the first, and so are their sums added.
        const bool first_block = block_end_ == at_.steps;
        T* room = own_ + at_.bwd_sum;
        totals_to(of_group(k), [&](T* to, Index n, auto write) {
            write(first_block ? to : room);
            for (Index i = 0; !first_block && i < n; ++i) to[i] += room[i];
        });
    }

    // Where the gradients of weights go.
    using Outputs = BackwardDirection<T>;

    Outputs of_group(Index k) const {
        Outputs to = dir_;
        const Index rows = x_gates_ * at_.hidden;
        auto move = [&](T*& gradient, Index size) {
            if (gradient != nullptr) gradient += k * size;
        };
        move(to.dw_ih, rows * at_.input);
        move(to.dw_hh, rows * at_.output);
        move(to.db_ih, rows);
        move(to.db_hh, rows);
        move(to.dp, cell_.info.vectors * at_.hidden);
        move(to.dw_hr, at_.output * at_.hidden);
        return to;
    }

    // Copies the totals out of their panels: calls put(gradient, its size, write), where write(out)
    // writes this thread's part of the gradient to `out`.
    template <class Put>
    void totals_to(const Outputs& to, Put put) const {
        const T* base = own_;
        const Index hidden = at_.hidden, rows = x_gates_ * hidden;
        if (to.dw_ih != nullptr)
            put(to.dw_ih, rows * at_.input,
                [&](T* out) { unpack(0, x_gates_, base + at_.bwd_dw_ih, at_.input, out); });
        if (to.dw_hh != nullptr)
            put(to.dw_hh, rows * at_.output, [&](T* out) {
                const Index early = at_.padded * (early_ - h_first_) * at_.output;
                unpack(h_first_, early_, base + at_.bwd_dw_hh, at_.output, out);
                if (cell_.info.late > 0)
                    unpack(early_, gates_, base + at_.bwd_dw_hh + early, at_.output, out);
            });
        if (grouped() || thread_ == 0) {
            if (to.db_ih != nullptr)
                put(to.db_ih, rows, [&](T* out) { biases(0, x_gates_, cell_.norm_x, 0, out); });
            if (to.db_hh != nullptr)
                put(to.db_hh, rows,
                    [&](T* out) { biases(h_first_, gates_, cell_.norm_h, h_first_, out); });
            if (to.dp != nullptr)
                put(to.dp, cell_.info.vectors * hidden, [&](T* out) {
                    for (Index v = 0; v < cell_.info.vectors; ++v)
                        copy(base + at_.bwd_dp + v * at_.padded, out + v * hidden, hidden);
                });
        }
        if (to.dw_hr != nullptr && (grouped() || thread_ == threads_ - 1))
            put(to.dw_hr, at_.output * hidden, [&](T* out) {
                for (Index unit = 0; unit < hidden; unit += 4 * L) {
                    const Index n = least(4 * L, hidden - unit), wide = vectors_of<T>(n) * L;
                    for (Index p = 0; p < at_.output; ++p)
                        copy(base + at_.bwd_dw_hr + unit * at_.output + p * wide,
                             out + p * hidden + unit, n);
                }
            });
    }

    void unpack(int s0, int s1, const T* from, Index k, T* out) const {
        unpack_rows<T>({cell_.info, at_.hidden, s0, s1}, from, k, out, panel_);
    }

    // The biases of the slots [s0, s1), or of a normalised cell those whose slot norm[k] is one.
    void biases(int s0, int s1, const int* norm, int first, T* out) const {
        const T* base = own_;
        const Index hidden = at_.hidden;
        for (int k = 0; cell_.info.norm && k < kNormBiases; ++k)
            if (norm[k] >= 0)
                copy(base + at_.bwd_dp + (cell_.info.vectors + k) * at_.padded,
                     out + (norm[k] - first) * hidden, hidden);
        for (Index unit = 0; !cell_.info.norm && unit < hidden; ++unit)
            for (int s = s0; s < s1; ++s)
                out[api_rows(cell_.info, s) * hidden + unit] =
                    base[at_.bwd_db + (unit / L * gates_ + s) * L + unit % L];
    }

    // Whether a gradient is wanted that comes from the panels of da.
    bool any_weight() const {
        return dir_.dw_ih != nullptr || dir_.dw_hh != nullptr || dir_.db_ih != nullptr ||
               dir_.db_hh != nullptr || dir_.dp != nullptr;
    }

    // Row q of the block.
    Cursor<T> at(Index q) const {
        Cursor<T> c(rows_, block_end_ - 1, 0, at_.batch, -1);
        for (; q > 0 && q >= rows_.live(c.s); --c.s) q -= rows_.live(c.s);
        c.r = c.i = q;
        return c;
    }

    // x, what R saw and gate(h) of n rows in walk order, the operands of dW and dR.
    void gather(Cursor<T> c, Index n, T* x, T* u, T* late) const {
        for (; n > 0; --n, c.next()) {
            if (call_.tokens == nullptr && dir_.dw_ih != nullptr)
                copy(rows_.x(c.s, c.r), x, at_.input);
            if (recurrent(cell_.info) && dir_.dw_hh != nullptr)
                for (Index unit = 0; unit < at_.output; unit += L) {
                    V h = previous(0, c.s, c.r, unit);
                    if (dir_.drop != nullptr) h = h * drop(c.r, unit);
                    store(u + unit, h);
                    if (cell_.info.late > 0)
                        store(late + unit, cell_.gated(*this, c.s, c.r, unit, h));
                }
            x += at_.bwd_x_row;
            u += at_.out_row;
            late += at_.state_row;
        }
    }

    Index units_of(Index p) const { return least(units_, vectors_of<T>(at_.hidden) - p * units_); }

    Index pitch(Index p) const { return pitch_of<T>(cell_.info, at_.hidden, p); }
    Index vectors(Index p, Index slots) const {
        return panel_vectors<T>(cell_.info, at_.hidden, p, slots);
    }

    // da of panel p of the part's rows as a contiguous panel; bias sums on the way.
    // If slots share vectors, a store also writes lanes of the slots and rows after it, which are
    // stored later and so overwrite them (start_from_gates in forward.hpp).
    void pack_da(const Partial& part, Index p) const {
        const Index units = units_of(p), width = vectors(p, gates_) * L, by = pitch(p);
        const Index n = part.n;
        const T* from = part.da;
        T* total = own_ + at_.bwd_db + p * units_ * gates_ * L;
        for (Index u = 0; u < units; ++u) {
            const T* row = from + slot_at<T>((p * units_ + u) * L, 0, gates_);
            for (int s = 0; s < gates_; s += kPanelVectors) {
                const Index at = u * gates_ + s;
                const Strip strip{row + s * kBlock<T>, da_panel_ + at * by, total + at * L, width,
                                  by};
                switch (gates_ - s) {
                    case 1:
                        pack_slots<1>(n, strip);
                        break;
                    case 2:
                        pack_slots<2>(n, strip);
                        break;
                    case 3:
                        pack_slots<3>(n, strip);
                        break;
                    default:
                        pack_slots<4>(n, strip);
                        break;
                }
            }
        }
    }

    // From, to, and where the sums are added; distances of rows and of slots in `to`.
    struct Strip {
        const T* from;
        T *to, *total;
        Index row, by;
    };

    // K slots of n rows.
    template <int K>
    void pack_slots(Index n, const Strip& at) const {
        V sum[K] = {};
        const T* from = at.from;
        T* to = at.to;
        for (Index q = 0; q < n; ++q, from += at_.gate_row, to += at.row)
            for (int s = 0; s < K; ++s) {
                const V v = load(from + s * kBlock<T>);
                store(to + s * at.by, v);
                sum[s] = sum[s] + v;
            }
        for (int s = 0; s < K; ++s) store(at.total + s * L, load(at.total + s * L) + sum[s]);
    }

    void weight_gradients(const Partial& part, Index p) const {
        const Index n = part.n;
        pack_da(part, p);
        if (call_.tokens != nullptr && dir_.dw_ih != nullptr)
            token_gradients(part, p);
        else if (dir_.dw_ih != nullptr)
            slots(part.x, at_.bwd_x_row, n, p, 0, x_gates_, at_.input, own_ + at_.bwd_dw_ih);
        if (recurrent(cell_.info) && dir_.dw_hh != nullptr) {
            const Index early = at_.padded * (early_ - h_first_) * at_.output;
            T* total = own_ + at_.bwd_dw_hh;
            slots(part.u, at_.out_row, n, p, h_first_, early_, at_.output, total);
            if (cell_.info.late > 0)
                slots(part.late, at_.state_row, n, p, early_, gates_, at_.output, total + early);
        }
        if (cell_.info.norm)
            term_sums(part, p);
        else if (cell_.info.vectors > 0)
            vector_gradients(part, p);
    }

    // dW of the slots [s0, s1) of panel p, from rows u.
    void slots(const T* u, Index u_row, Index n, Index p, int s0, int s1, Index columns,
               T* totals) const {
        const Index count = s1 - s0;
        outer(u, u_row, n, columns, {da_panel_ + s0 * L, vectors(p, gates_) * L}, vectors(p, count),
              totals + p * units_ * count * L * columns);
    }

    // total[k] += sum over n rows of u[row][k] times the row's panel vectors.
    void outer(const T* u, Index u_row, Index n, Index columns, const Panels<T>& w, Index vectors,
               T* total) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const Index wide = vectors * L;
        Index left = columns, k = 0;
        for (Index groups = (left + kGroupRows - 1) / kGroupRows; groups > 0; --groups) {
            const Index rows = (left + groups - 1) / groups;
            for (Index v = 0; v < rows * wide; v += L) store(acc + v, V{});
            product<T>(rows, static_cast<int>(vectors), 1, {acc, wide}, {u + k, 1, u_row, n}, w);
            for (Index v = 0; v < rows * wide; v += L)
                store(total + k * wide + v, load(total + k * wide + v) + load(acc + v));
            k += rows;
            left -= rows;
        }
    }

    // dW_hr: dh' times m, which the gates and c' give again.
    void project(const Partial& part, Index p) const {
        const Index first = p * 4 * L, vectors = least(4, vectors_of<T>(at_.hidden) - 4 * p);
        const Index wide = vectors * L;
        Cursor<T> c(part.from);
        for (Index q = 0; q < part.n; ++q, c.next())
            cell_.output(*this, c.s, c.r, first, wide, da_panel_ + q * wide);
        outer(part.dy, at_.out_row, part.n, at_.output, {da_panel_, wide}, vectors,
              own_ + at_.bwd_dw_hr + first * at_.output);
    }

    // A token's column of dW takes the rows that read it: the same sums as with one-hot input.
    void token_gradients(const Partial& part, Index p) const {
        const Index width = vectors(p, gates_) * L, wide = vectors(p, x_gates_) * L, n = part.n;
        T* total = own_ + at_.bwd_dw_ih + p * units_ * x_gates_ * L * at_.input;
        Index token[kPartialRows], next[kPartialRows];
        bool follows[kPartialRows];
        Cursor<T> c(part.from);
        for (Index q = 0; q < n; ++q, c.next()) {
            token[q] = rows_.token(c.s, c.r);
            next[q] = n;
            Index i = q - 1;
            while (i >= 0 && token[i] != token[q]) --i;
            follows[q] = i >= 0;
            if (i >= 0) next[i] = q;
        }
        for (Index q = 0; q < n; ++q)
            for (Index v = 0; !follows[q] && v * L < wide; ++v) {
                const Index from = (v / x_gates_ * gates_ + v % x_gates_) * L;
                V sum{}, piece{};
                for (Index i = q, at = q / kPiece; i < n; i = next[i]) {
                    if (i / kPiece != at) {
                        sum = sum + piece;
                        piece = V{};
                        at = i / kPiece;
                    }
                    piece = piece + load(da_panel_ + i * width + from);
                }
                sum = sum + piece;
                T* t = total + token[q] * wide + v * L;
                store(t, load(t) + sum);
            }
    }

    void vector_gradients(const Partial& part, Index p) const {
        const Index width = vectors(p, gates_) * L, by = pitch(p);
        for (Index u = 0; u < units_of(p); ++u) {
            const Index unit = (p * units_ + u) * L;
            cell_.terms(*this, part.from, part.n, unit, da_panel_ + u * gates_ * by, width, by,
                        own_ + at_.bwd_dp + unit);
        }
    }

    // The gradients of gains and biases of a normalised cell: sums of what each row left in
    // terms().
    void term_sums(const Partial& part, Index p) const {
        const Index all = cell_.info.vectors + kNormBiases, row = all * at_.padded;
        for (Index k = 0; k < all; ++k) {
            const Index at = k * at_.padded + p * L;
            V sum{};
            for (Index q = 0; q < part.n; ++q) sum = sum + load(part.terms + q * row + at);
            T* t = own_ + at_.bwd_dp + at;
            store(t, load(t) + sum);
        }
    }

    void input_gradients() const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const Share share(end_ - begin_, thread_, threads_);
        const Index panels = column_panels<T>(at_.input);
        Index left = share.end - share.begin, q = begin_ + share.begin;
        for (Index groups = (left + kGroupRows - 1) / kGroupRows; groups > 0; --groups) {
            const Index n = (left + groups - 1) / groups;
            const Cursor<T> from = at(q);
            for (Index p = 0; p < panels; ++p) {
                const ColumnPanel<T> w = slot_columns(at_.back_x, p, at_.input, 0, x_gates_);
                const Index width = w.vectors * L;
                for (Index v = 0; v < n * width; v += L) store(acc + v, V{});
                multiply(acc, dir_.scratch + at_.bwd_da + (at_.batch + q) * at_.gate_row, n, 0,
                         x_gates_, w);
                Cursor<T> to(from);
                for (Index i = 0; i < n; ++i, to.next())
                    put_dx(to, acc + i * width, p * 4 * L, w.vectors);
            }
            q += n;
            left -= n;
        }
    }

    void put_dx(const Cursor<T>& to, const T* acc, Index first, Index vectors) const {
        T* dx = dir_.dx + rows_.time(to.s, to.r) * dir_.dx_step + rows_.batch(to.r) * dir_.dx_row +
                first;
        for (Index v = 0; v < vectors * L; v += L) {
            const int real = static_cast<int>(least(L, at_.input - first - v));
            V sum = load(acc + v);
            if (dir_.add_dx) sum = take(dx + v, real) + sum;
            put(dx + v, sum, real);
        }
    }

    // The block's first step goes to the front of the buffer, where the next block looks for it.
    void hand_over() const {
        const Index n = rows_.live(call_.block);
        const Share share(n, thread_, threads_);
        T* front = dir_.scratch + at_.bwd_da;
        for (Index r = share.begin; r < share.end; ++r)
            copy(da(call_.block, r), front + r * at_.gate_row, at_.gate_row);
    }

    const Index units_;  // unit vectors of a panel
    const int thread_, threads_;
    const Index all_, begin_, end_;  // rows of the block, and those of this slice
    const Share panel_, unit_;
    T* const own_;  // the scratch in which totals are kept
    T* const da_panel_;
};

template <class T>
void backward(const Backward<T>& call, const BackwardCell<T>& cell, int direction, int thread,
              int threads) {
    switch (call.stage) {
        case Stage::kSteps:
            BackwardWalk<T>(call, cell, direction, thread, threads).run();
            break;
        case Stage::kProducts:
            Reduce<T>(call, cell, direction, thread, threads).products();
            break;
        case Stage::kGroups:
            Reduce<T>(call, cell, direction, thread, threads).groups();
            break;
        case Stage::kFinish:
            BackwardWalk<T>(call, cell, direction, thread, threads).finish();
            Reduce<T>(call, cell, direction, thread, threads).finish();
            break;
    }
}

template <class T>
void backward(const Backward<T>& call, const BackwardCell<T>& cell, int thread, int threads) {
    const int directions = call.layout.directions;
    const bool both = call.split == Split::kDirections && directions > 1;
    const bool apart = both && threads > 1;
    for (int d = 0; d < directions; ++d) {
        if (both ? apart && thread % 2 != d : call.which != d) continue;
        if (apart)
            backward(call, cell, d, thread / 2, (threads + 1 - d) / 2);
        else
            backward(call, cell, d, thread, threads);
    }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
