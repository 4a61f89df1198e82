// Weight gradients and dx of a block of steps, for every cell. They are in one file because they
// read the same da while it is in the cache. Each partial sum covers partial_steps steps (or 512
// rows of a step) in walk order, and the partial sums are added in walk order.
//
// A gradient of weights is a product of da, whose elements are broadcast, with the rows that the
// weights saw, which are loaded as vectors: so it is computed as the API has it, and the first
// partial sum is written where the others are added.
//
// All rows share a weight gradient, or every group of rows has its own. In the first case threads
// divide the units of a gradient; in the second case they divide the groups.
#pragma once

#include "../pack.hpp"
#include "backward.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Rows of a matrix, laid out for products that load them as vectors: four vectors of columns of
// every row, then the next four.
template <class T>
struct RowPanels {
    static constexpr Index wide = kPanelVectors * kLanes<T>;
    T* base;
    Index rows, columns;

    Index panels() const { return column_panels<T>(columns); }
    Index width(Index p) const {
        const Index left = vectors_of<T>(columns - p * wide) * kLanes<T>;
        return left < wide ? left : wide;
    }
    T* at(Index p, Index row) const { return base + p * wide * rows + row * width(p); }
};

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
          da_panel_(own_ + at_.bwd_panel + (grouped() ? 0 : thread * at_.bwd_panel_thread)),
          x_{own_ + at_.bwd_x, at_.bwd_rows, at_.input},
          u_{own_ + at_.bwd_u, at_.bwd_rows, at_.output},
          late_{own_ + at_.bwd_late, at_.bwd_rows, at_.hidden} {}

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

    // What is left of the gradient that all rows share.
    void finish() {
        if (grouped() || thread_ != 0) return;
        if (rows_.before(at_.steps) == 0) no_rows(dir_);
        totals_to(dir_, true);
    }

  private:
    bool grouped() const { return at_.group > 0; }

    // Where the gradients of weights go.
    using Outputs = BackwardDirection<T>;

    // The rows of a partial sum, in walk order, and row 0 of what belongs to each of them; `place`
    // is their first row in x_, u_ and late_. The first partial sum is written to the gradients,
    // the others are added.
    struct Partial {
        const Outputs& to;
        bool first;
        Cursor<T> from;
        Index n, place;
        const T *da, *terms, *dy;
    };

    void shared_gradients() {
        T* base = dir_.scratch;
        const Share share(end_ - begin_, thread_, threads_);
        if (share.begin < share.end) {
            const Index q = begin_ + share.begin;
            gather(at(q), share.end - share.begin, q);
        }
        if (call_.barrier.wait != nullptr) call_.barrier.wait(call_.barrier.self);
        const bool last_block = rows_.before(at_.steps) == rows_.before(block_end_);
        for (Index q = begin_; q < end_; q += kPartialRows)
            add({dir_, last_block && q == 0, at(q), least(kPartialRows, end_ - q), q,
                 base + at_.bwd_da + (at_.batch + q) * at_.gate_row, this->terms_at(q),
                 base + at_.bwd_dy + q * at_.out_row});
    }

    [[gnu::noinline]] void add(const Partial& part) const {
        for (Index p = panel_.begin; any_weight() && p < panel_.end; ++p) weight_gradients(part, p);
        for (Index p = unit_.begin; part.to.dw_hr != nullptr && p < unit_.end; ++p)
            project(part, p);
    }

    // The block's part of the gradients of one group: at most one partial sum. Its rows are not
    // neighbours in the buffers of the block, so they are copied first.
    void group(Index k) {
        clear(own_ + at_.bwd_db, own_ + at_.bwd_x + at_.bwd_thread);
        const Outputs to = of_group(k);
        const Index* list = call_.schedule.grouped;
        Cursor<T> from(rows_, block_end_ - 1, k * at_.group, (k + 1) * at_.group, -1, list);
        Index n = 0;
        for (Index i = from.first; i < from.last; ++i) {
            const Index length = rows_.length(list == nullptr ? i : list[i]);
            n += length > call_.block ? least(length, block_end_) - call_.block : 0;
        }
        // Blocks are walked from the last steps to the first, and so are their sums added.
        const bool first = block_end_ == at_.steps;
        if (n > 0) {
            const Index term_row = (cell_.info.vectors + kNormBiases) * at_.padded;
            T *da_rows = own_ + at_.bwd_own_da, *term_rows = own_ + at_.bwd_own_terms;
            T* dy_rows = own_ + at_.bwd_own_dy;
            const Cursor<T> start(from);
            gather(start, n, 0);
            for (Index q = 0; q < n; ++q, from.next()) {
                copy(da(from.s, from.r), da_rows + q * at_.gate_row, at_.gate_row);
                if (cell_.info.norm)
                    copy(terms(from.s, from.r), term_rows + q * term_row, term_row);
                if (at_.project) copy(dy(from.s, from.r), dy_rows + q * at_.out_row, at_.out_row);
            }
            add({to, first, start, n, 0, da_rows, term_rows, dy_rows});
        } else if (first) {
            no_rows(to);
        }
        totals_to(to, first);
    }

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

    // The gradients of matrices to which no row adds.
    void no_rows(const Outputs& to) const {
        const Index rows = x_gates_ * at_.hidden;
        auto zeros = [](T* out, Index n) {
            if (out != nullptr) clear(out, out + n);
        };
        zeros(to.dw_ih, rows * at_.input);
        zeros(to.dw_hh, rows * at_.output);
        zeros(to.dw_hr, at_.output * at_.hidden);
    }

    // Writes (or adds) the totals of biases and per-unit vectors to their gradients.
    void totals_to(const Outputs& to, bool first) const {
        const Index hidden = at_.hidden;
        auto vector = [&](T* out, Index k) {
            add_rows(own_ + at_.bwd_dp + k * at_.padded, 1, vectors_of<T>(hidden) * L, 0, hidden,
                     out, first);
        };
        // The biases of the slots [s0, s1), or of a normalised cell those whose slot norm[k] is
        // one.
        auto biases = [&](int s0, int s1, const int* norm, int from, T* out) {
            for (int k = 0; cell_.info.norm && k < kNormBiases; ++k)
                if (norm[k] >= 0) vector(out + (norm[k] - from) * hidden, cell_.info.vectors + k);
            for (int s = s0; !cell_.info.norm && s < s1; ++s)
                for (Index unit = 0; unit < hidden; unit += L)
                    add_rows(own_ + at_.bwd_db + (unit * gates_ + s * L), 1, L, unit, hidden,
                             out + api_rows(cell_.info, s) * hidden, first);
        };
        if (to.db_ih != nullptr) biases(0, x_gates_, cell_.norm_x, 0, to.db_ih);
        if (to.db_hh != nullptr) biases(h_first_, gates_, cell_.norm_h, h_first_, to.db_hh);
        for (Index k = 0; to.dp != nullptr && k < cell_.info.vectors; ++k)
            vector(to.dp + k * hidden, k);
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

    // x, what R saw and gate(h) of n rows in walk order, the operands of dW and dR, to the rows
    // from `place` on.
    void gather(Cursor<T> c, Index n, Index place) const {
        for (const Index end = place + n; place < end; ++place, c.next()) {
            if (call_.tokens == nullptr && dir_.dw_ih != nullptr) {
                const T* x = rows_.x(c.s, c.r);
                each_column(x_, place, [&](Index, Index v) {
                    return take(x + v, static_cast<int>(least(L, at_.input - v)));
                });
            }
            if (recurrent(cell_.info) && dir_.dw_hh != nullptr)
                each_column(u_, place, [&](Index at, Index unit) {
                    V h = previous(0, c.s, c.r, unit);
                    if (dir_.drop != nullptr) h = h * drop(c.r, unit);
                    if (cell_.info.late > 0)
                        store(late_.base + at, cell_.gated(*this, c.s, c.r, unit, h));
                    return h;
                });
        }
    }

    // Stores value(its place, first column) in each vector of a row.
    template <class Value>
    FUSEDRNN_INLINE void each_column(const RowPanels<T>& to, Index row, Value value) const {
        for (Index p = 0; p < to.panels(); ++p) {
            const Index at = to.at(p, row) - to.base, first = p * to.wide;
            for (Index v = 0; v < to.width(p); v += L)
                store(to.base + at + v, value(at + v, first + v));
        }
    }

    Index units_of(Index p) const { return least(units_, vectors_of<T>(at_.hidden) - p * units_); }

    Index pitch(Index p) const { return pitch_of<T>(cell_.info, at_.hidden, p); }
    Index vectors(Index p, Index slots) const {
        return panel_vectors<T>(cell_.info, at_.hidden, p, slots);
    }

    // Row stride of da_panel_: a block more than the slots take, so that rows do not compete for
    // the same set of a cache.
    Index da_row(Index p) const { return vectors(p, gates_) * L + kBlock<T>; }

    // da of panel p of the part's rows as a contiguous panel; bias sums on the way.
    // If slots share vectors, a store also writes lanes of the slots and rows after it, which are
    // stored later and so overwrite them (start_from_gates in forward.hpp).
    void pack_da(const Partial& part, Index p) const {
        const Index units = units_of(p), width = da_row(p), by = pitch(p);
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
        const Outputs& to = part.to;
        pack_da(part, p);
        if (call_.tokens != nullptr && to.dw_ih != nullptr)
            token_gradients(part, p);
        else if (to.dw_ih != nullptr)
            slots(part, x_, p, 0, x_gates_, to.dw_ih);
        if (recurrent(cell_.info) && to.dw_hh != nullptr) {
            slots(part, u_, p, h_first_, early_, to.dw_hh);
            if (cell_.info.late > 0) slots(part, late_, p, early_, gates_, to.dw_hh);
        }
        if (cell_.info.norm)
            term_sums(part, p);
        else if (cell_.info.vectors > 0)
            vector_gradients(part, p);
    }

    // Lanes of da_panel_ that are rows of a gradient.
    struct Lanes {
        Index row, rows, lane;
    };
    // Lanes that follow each other, `rows` altogether.
    struct Run {
        const Lanes *begin, *end;
        Index rows;
    };

    // The lanes of the slots [s0, s1) in panel p; returns how many entries of `out` there are.
    int lanes_of(Index p, int s0, int s1, Lanes (&out)[kPanelVectors]) const {
        int n = 0;
        const Index by = pitch(p), first = s0 * by;  // a panel of several units has all slots
        SlotPanels<T>{cell_.info, at_.hidden, s0, s1}.each(
            p,
            [&](Index row, Index rows, Index offset) { out[n++] = {row, rows, first + offset}; });
        return n;
    }

    // dW of the slots [s0, s1) of panel p, from rows u. Slots whose lanes follow each other are one
    // product, so that tiles are full.
    void slots(const Partial& part, const RowPanels<T>& u, Index p, int s0, int s1, T* out) const {
        Lanes of[kPanelVectors];
        const int count = lanes_of(p, s0, s1, of);
        for (const Lanes *begin = of, *end = of; begin < of + count; begin = end) {
            Index rows = 0;
            for (; end < of + count && end->lane == begin->lane + rows; ++end) rows += end->rows;
            const Run run{begin, end, rows};
            for (Index c = 0; c < u.panels(); ++c) whole_vectors(part, u, p, c, run, out);
            if (u.columns % L != 0) last_columns(part, u, p, run, out);
        }
    }

    // The columns of column panel c that fill vectors.
    void whole_vectors(const Partial& part, const RowPanels<T>& u, Index p, Index c, const Run& run,
                       T* out) const {
        alignas(kBlockBytes) T acc[RowPanels<T>::wide * RowPanels<T>::wide];
        const Index first = c * u.wide, n = least(u.wide, u.columns - first) / L * L;
        if (n == 0) return;
        multiply_rows(run.rows, {da_panel_ + run.begin->lane, 1, da_row(p), part.n},
                      {u.at(c, part.place), u.width(c)}, n, acc);
        const T* sums = acc;
        for (const Lanes* of = run.begin; of < run.end; sums += of++->rows * n)
            add_rows(sums, of->rows, n, first, u.columns, out + of->row * u.columns, part.first);
    }

    // The other columns, fewer than a vector. Here the operands change places, because a vector of
    // them would be mostly empty: with one input, as long as a product of sixteen.
    void last_columns(const Partial& part, const RowPanels<T>& u, Index p, const Run& run,
                      T* out) const {
        alignas(kBlockBytes) T acc[kLanes<T> * RowPanels<T>::wide];
        const Index first = u.columns / L * L, left = u.columns - first, c = first / u.wide;
        const Index n = vectors_of<T>(run.rows) * L;
        multiply_rows(left, {u.at(c, part.place) + first % u.wide, 1, u.width(c), part.n},
                      {da_panel_ + run.begin->lane, da_row(p)}, n, acc);
        const T* sums = acc;
        for (const Lanes* of = run.begin; of < run.end; ++of)
            for (Index i = 0; i < of->rows; ++i, ++sums) {
                T* const to = out + (of->row + i) * u.columns + first;
                for (Index k = 0; k < left; ++k)
                    to[k] = part.first ? sums[k * n] : to[k] + sums[k * n];
            }
    }

    // acc[row][column] = sum over K of a[row][K] w[K][column] for `n` columns, whole vectors.
    [[gnu::noinline]] void multiply_rows(Index rows, const Operand<T>& a, const Panels<T>& w,
                                         Index n, T* acc) const {
        for (Index v = 0; v < rows * n; v += L) store(acc + v, V{});
        product<T>(rows, static_cast<int>(n / L), 1, {acc, n}, a, w);
    }

    // Writes or adds rows of `n` sums to the columns from `first` on of rows of a gradient.
    [[gnu::noinline]] void add_rows(const T* acc, Index rows, Index n, Index first, Index columns,
                                    T* out, bool write) const {
        for (Index i = 0; i < rows; ++i, acc += n, out += columns)
            for (Index v = 0; v < n; v += L) {
                const int real = static_cast<int>(least(L, columns - first - v));
                T* const to = out + first + v;
                put(to, write ? load(acc + v) : take(to, real) + load(acc + v), real);
            }
    }

    // dW_hr: dh' times m, which the gates and c' give again.
    void project(const Partial& part, Index p) const {
        alignas(kBlockBytes) T acc[RowPanels<T>::wide * RowPanels<T>::wide];
        const Index first = p * 4 * L;
        const Index wide = least(4, vectors_of<T>(at_.hidden) - 4 * p) * L;
        Cursor<T> c(part.from);
        for (Index q = 0; q < part.n; ++q, c.next())
            cell_.output(*this, c.s, c.r, first, wide, da_panel_ + q * wide);
        for (Index row = 0; row < at_.output; row += RowPanels<T>::wide) {
            const Index rows = least(RowPanels<T>::wide, at_.output - row);
            multiply_rows(rows, {part.dy + row, 1, at_.out_row, part.n}, {da_panel_, wide}, wide,
                          acc);
            add_rows(acc, rows, wide, first, at_.hidden, part.to.dw_hr + row * at_.hidden,
                     part.first);
        }
    }

    // A token's column of dW takes the rows that read it: the same sums as with one-hot input.
    void token_gradients(const Partial& part, Index p) const {
        const Index width = da_row(p), n = part.n;
        T* const out = part.to.dw_ih;
        Lanes of[kPanelVectors];
        const int count = lanes_of(p, 0, x_gates_, of);
        for (int k = 0; part.first && k < count; ++k) {
            T* const rows = out + of[k].row * at_.input;
            clear(rows, rows + of[k].rows * at_.input);
        }
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
            for (int k = 0; !follows[q] && k < count; ++k) {
                V sum{}, piece{};
                for (Index i = q, at = q / kPiece; i < n; i = next[i]) {
                    if (i / kPiece != at) {
                        sum = sum + piece;
                        piece = V{};
                        at = i / kPiece;
                    }
                    piece = piece + load(da_panel_ + i * width + of[k].lane);
                }
                sum = sum + piece;
                T* to = out + of[k].row * at_.input + token[q];
                for (Index i = 0; i < of[k].rows; ++i, to += at_.input) *to += sum[i];
            }
    }

    void vector_gradients(const Partial& part, Index p) const {
        const Index width = da_row(p), by = pitch(p);
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
    const RowPanels<T> x_, u_, late_;
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
