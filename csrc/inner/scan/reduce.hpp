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
    Index width(Index p) const { return column_vectors<T>(columns, p) * kLanes<T>; }
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
          together_(gates_ * L < kGradientLanes ? kGradientLanes / (gates_ * L) : 1),
          da_row_(together_ * gates_ * L + kBlock<T>),
          thread_(thread),
          threads_(threads),
          all_(rows_.before(block_end_) - rows_.before(call.block)),
          begin_(least(call.begin * kPartialRows, all_)),
          end_(least(call.end * kPartialRows, all_)),
          unit_(vectors_of<T>(at_.hidden), grouped() ? 0 : thread, grouped() ? 1 : threads),
          column_(column_panels<T>(at_.hidden), grouped() ? 0 : thread, grouped() ? 1 : threads),
          own_(dir_.scratch + (grouped() ? thread * at_.bwd_thread : 0)),
          strip_(own_ + at_.bwd_strip + (grouped() ? 0 : thread * at_.bwd_strip_thread)),
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

    // What is left of the gradient that all rows share: totals of vectors, and zeros if no row
    // added to its matrices.
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
        for (Index v = unit_.begin; any_weight() && v < unit_.end; v += together_)
            weight_gradients(part, {v, least(together_, unit_.end - v)});
        for (Index p = column_.begin; part.to.dw_hr != nullptr && p < column_.end; ++p)
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

    // Whether a gradient is wanted that comes from the strips of da.
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
            if (call_.tokens == nullptr && dir_.dw_ih != nullptr)
                for (Index p = 0, all = x_.panels(); p < all; ++p) {
                    const Index first = p * x_.wide;
                    copy(rows_.x(c.s, c.r) + first, x_.at(p, place),
                         least(x_.wide, at_.input - first));
                }
            if (recurrent(cell_.info) && dir_.dw_hh != nullptr)
                for (Index p = 0, all = u_.panels(); p < all; ++p) gather_state(c, p, place);
        }
    }

    // Columns of panel p of what R saw.
    void gather_state(const Cursor<T>& c, Index p, Index place) const {
        T *u = u_.at(p, place), *late = late_.at(p, place);
        const Index width = u_.width(p);
        for (Index v = 0; v < width; v += L) {
            const Index unit = p * u_.wide + v;
            V h = previous(0, c.s, c.r, unit);
            if (dir_.drop != nullptr) h = h * drop(c.r, unit);
            store(u + v, h);
            if (cell_.info.late > 0) store(late + v, cell_.gated(*this, c.s, c.r, unit, h));
        }
    }

    // Unit vectors whose gradients are computed together.
    struct Units {
        Index first, count;
    };

    // da of some units as a strip, [n][unit vector][slot][lane], whose rows are da_row_ apart; bias
    // sums on the way.
    void pack_da(const Partial& part, Units units) const {
        for (Index v = 0; v < units.count; ++v) {
            const T* from = part.da + slot_at<T>((units.first + v) * L, 0, gates_);
            for (int s = 0; s < gates_; s += kPanelVectors) {
                const Index at = (v * gates_ + s) * L;
                const Strip strip{from + s * kBlock<T>, strip_ + at,
                                  own_ + at_.bwd_db + units.first * gates_ * L + at};
                switch (gates_ - s) {
                    case 1:
                        pack_slots<1>(part.n, strip);
                        break;
                    case 2:
                        pack_slots<2>(part.n, strip);
                        break;
                    case 3:
                        pack_slots<3>(part.n, strip);
                        break;
                    default:
                        pack_slots<4>(part.n, strip);
                        break;
                }
            }
        }
    }

    // From, to, and where the sums are added.
    struct Strip {
        const T* from;
        T *to, *total;
    };

    // K slots of n rows.
    template <int K>
    void pack_slots(Index n, const Strip& at) const {
        V sum[K] = {};
        const T* from = at.from;
        T* to = at.to;
        for (Index q = 0; q < n; ++q, from += at_.gate_row, to += da_row_)
            for (int s = 0; s < K; ++s) {
                const V v = load(from + s * kBlock<T>);
                store(to + s * L, v);
                sum[s] = sum[s] + v;
            }
        for (int s = 0; s < K; ++s) store(at.total + s * L, load(at.total + s * L) + sum[s]);
    }

    void weight_gradients(const Partial& part, Units units) const {
        const Outputs& to = part.to;
        pack_da(part, units);
        if (call_.tokens != nullptr && to.dw_ih != nullptr)
            token_gradients(part, units);
        else if (to.dw_ih != nullptr)
            slots(part, x_, units, 0, x_gates_, to.dw_ih);
        if (recurrent(cell_.info) && to.dw_hh != nullptr) {
            slots(part, u_, units, h_first_, early_, to.dw_hh);
            if (cell_.info.late > 0) slots(part, late_, units, early_, gates_, to.dw_hh);
        }
        for (Index v = 0; v < units.count; ++v) {
            const Index unit = (units.first + v) * L;
            if (cell_.info.norm)
                term_sums(part, unit);
            else if (cell_.info.vectors > 0)
                cell_.terms(*this, part.from, part.n, unit, strip_ + v * gates_ * L, da_row_,
                            own_ + at_.bwd_dp + unit);
        }
    }

    // Lanes of the strip that are rows of a gradient.
    struct Lanes {
        Index row, rows, lane;
    };
    // Lanes that follow each other, `rows` altogether.
    struct Run {
        const Lanes *begin, *end;
        Index rows;
    };
    static constexpr Index kMostLanes = kGradientLanes / L;

    // The lanes of the slots [s0, s1); returns how many entries of `out` there are.
    int lanes_of(Units units, int s0, int s1, Lanes (&out)[kMostLanes]) const {
        int n = 0;
        for (Index v = 0; v < units.count; ++v)
            for (int s = s0; s < s1; ++s) {
                const Index unit = (units.first + v) * L;
                out[n++] = {api_rows(cell_.info, s) * at_.hidden + unit,
                            least(L, at_.hidden - unit), (v * gates_ + s) * L};
            }
        return n;
    }

    // dW of the slots [s0, s1), from rows u. Slots whose lanes follow each other are one product,
    // so that tiles are full.
    void slots(const Partial& part, const RowPanels<T>& u, Units units, int s0, int s1,
               T* out) const {
        Lanes of[kMostLanes];
        const int count = lanes_of(units, s0, s1, of);
        for (const Lanes *begin = of, *end = of; begin < of + count; begin = end) {
            Index rows = 0;
            for (; end < of + count && end->lane == begin->lane + rows; ++end) rows += end->rows;
            const Run run{begin, end, rows};
            for (Index c = 0; c < u.panels(); ++c) whole_vectors(part, u, c, run, out);
            if (u.columns % L != 0) last_columns(part, u, run, out);
        }
    }

    // The columns of column panel c that fill vectors.
    void whole_vectors(const Partial& part, const RowPanels<T>& u, Index c, const Run& run,
                       T* out) const {
        alignas(kBlockBytes) T acc[kGradientLanes * RowPanels<T>::wide];
        const Index first = c * u.wide, n = least(u.wide, u.columns - first) / L * L;
        if (n == 0) return;
        // The rows of a gradient are far apart, so they are asked for before the product.
        for (const Lanes* of = run.begin; of < run.end; ++of)
            for (Index i = 0; i < of->rows; ++i)
                for (Index v = 0; v < n; v += kBlock<T>)
                    __builtin_prefetch(out + (of->row + i) * u.columns + first + v, 1);
        multiply_rows(run.rows, {strip_ + run.begin->lane, 1, da_row_, part.n},
                      {u.at(c, part.place), u.width(c)}, n, {acc, n});
        const T* sums = acc;
        for (const Lanes* of = run.begin; of < run.end; sums += of++->rows * n)
            add_rows(sums, of->rows, n, first, u.columns, out + of->row * u.columns, part.first);
    }

    // The other columns, fewer than a vector. Here the operands change places, because a vector of
    // them would be mostly empty: with one input, as long as a product of sixteen.
    void last_columns(const Partial& part, const RowPanels<T>& u, const Run& run, T* out) const {
        alignas(kBlockBytes) T acc[L * kGradientLanes];
        const Index first = u.columns / L * L, left = u.columns - first, c = first / u.wide;
        const Index lanes = vectors_of<T>(run.rows) * L;
        const Operand<T> a{u.at(c, part.place) + first % u.wide, 1, u.width(c), part.n};
        for (Index v = 0; v < lanes; v += u.wide)
            multiply_rows(left, a, {strip_ + run.begin->lane + v, da_row_},
                          least(u.wide, lanes - v), {acc + v, kGradientLanes});
        const T* sums = acc;
        for (const Lanes* of = run.begin; of < run.end; ++of)
            for (Index i = 0; i < of->rows; ++i, ++sums) {
                T* const to = out + (of->row + i) * u.columns + first;
                for (Index k = 0; k < left; ++k) {
                    const T sum = sums[k * kGradientLanes];
                    to[k] = part.first ? sum : to[k] + sum;
                }
            }
    }

    // out[row][column] = sum over K of a[row][K] w[K][column] for `n` columns, whole vectors.
    [[gnu::noinline]] void multiply_rows(Index rows, const Operand<T>& a, const Panels<T>& w,
                                         Index n, const Accumulator<T>& out) const {
        for (Index i = 0; i < rows; ++i)
            for (Index v = 0; v < n; v += L) store(out.acc + i * out.row + v, V{});
        product<T>(rows, static_cast<int>(n / L), 1, out, a, w);
    }

    // Writes or adds rows of `n` sums to the columns from `first` on of rows of a gradient.
    [[gnu::noinline]] void add_rows(const T* acc, Index rows, Index n, Index first, Index columns,
                                    T* out, bool write) const {
        const Index whole = least(n, columns - first) / L * L;
        const int left = whole < n ? static_cast<int>(columns - first - whole) : 0;
        for (Index i = 0; i < rows; ++i, acc += n, out += columns) {
            T* const to = out + first;
            if (write)
                for (Index v = 0; v < whole; v += L) store(to + v, load(acc + v));
            else
                for (Index v = 0; v < whole; v += L) store(to + v, load(to + v) + load(acc + v));
            if (left > 0) {
                const V old = write ? V{} : load_n(to + whole, left);
                store_n(to + whole, write ? load(acc + whole) : old + load(acc + whole), left);
            }
        }
    }

    // dW_hr: dh' times m, which the gates and c' give again.
    void project(const Partial& part, Index p) const {
        alignas(kBlockBytes) T acc[RowPanels<T>::wide * RowPanels<T>::wide];
        const Index first = p * 4 * L, wide = column_vectors<T>(at_.hidden, p) * L;
        Cursor<T> c(part.from);
        for (Index q = 0; q < part.n; ++q, c.next())
            cell_.output(*this, c.s, c.r, first, wide, strip_ + q * wide);
        for (Index row = 0; row < at_.output; row += RowPanels<T>::wide) {
            const Index rows = least(RowPanels<T>::wide, at_.output - row);
            multiply_rows(rows, {part.dy + row, 1, at_.out_row, part.n}, {strip_, wide}, wide,
                          {acc, wide});
            add_rows(acc, rows, wide, first, at_.hidden, part.to.dw_hr + row * at_.hidden,
                     part.first);
        }
    }

    // A token's column of dW takes the rows that read it: the same sums as with one-hot input.
    void token_gradients(const Partial& part, Units units) const {
        const Index n = part.n;
        T* const out = part.to.dw_ih;
        Lanes of[kMostLanes];
        const int count = lanes_of(units, 0, x_gates_, of);
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
                    piece = piece + load(strip_ + i * da_row_ + of[k].lane);
                }
                sum = sum + piece;
                T* to = out + of[k].row * at_.input + token[q];
                for (Index i = 0; i < of[k].rows; ++i, to += at_.input) *to += sum[i];
            }
    }

    // The gradients of gains and biases of a normalised cell: sums of what each row left in
    // terms().
    void term_sums(const Partial& part, Index unit) const {
        const Index all = cell_.info.vectors + kNormBiases, row = all * at_.padded;
        for (Index k = 0; k < all; ++k) {
            const Index at = k * at_.padded + unit;
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

    const Index together_;  // unit vectors of a strip
    // A block more than they take, so that rows do not compete for the same set of a cache.
    const Index da_row_;
    const int thread_, threads_;
    const Index all_, begin_, end_;  // rows of the block, and those of this slice
    const Share unit_, column_;      // vectors of units; panels of columns
    T* const own_;                   // the scratch in which totals are kept
    T* const strip_;
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
