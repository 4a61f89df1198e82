// Weight gradients and dx of a block of steps, for every cell. They are in one file because they
// read the same da while it is in the cache. Each partial sum covers partial_steps steps (or 512
// rows of a step) in walk order, and the partial sums are added in walk order.
#pragma once

#include "../pack.hpp"
#include "backward.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
class Reduce : BackwardView<T> {
    using Base = BackwardView<T>;
    using Base::at_, Base::block_end_, Base::call_, Base::cell_, Base::da, Base::dir_, Base::drop;
    using Base::early_, Base::gates_, Base::h_first_, Base::L, Base::least, Base::multiply;
    using Base::previous, Base::rows_, Base::x_gates_;
    using typename Base::V;

  public:
    Reduce(const Backward<T>& call, const BackwardCell<T>& cell, int thread, int threads)
        : Base(call, cell),
          units_(panel_units(cell.info)),
          thread_(thread),
          threads_(threads),
          all_(rows_.before(block_end_) - rows_.before(call.block)),
          begin_(least(call.begin * kPartialRows, all_)),
          end_(least(call.end * kPartialRows, all_)),
          panel_((vectors_of<T>(at_.hidden) + units_ - 1) / units_, thread, threads),
          unit_((vectors_of<T>(at_.hidden) + 3) / 4, thread, threads),
          da_panel_(dir_.scratch + at_.bwd_panel + thread * at_.bwd_panel_thread) {}

    void products() {
        if (begin_ == end_) return;
        gather();
        if (call_.barrier.wait != nullptr) call_.barrier.wait(call_.barrier.self);
        for (Index q = begin_; q < end_; q += kPartialRows) {
            const Index n = least(kPartialRows, end_ - q);
            for (Index p = panel_.begin; any_weight() && p < panel_.end; ++p)
                weight_gradients(q, n, p);
            for (Index p = unit_.begin; dir_.dw_hr != nullptr && p < unit_.end; ++p)
                project(q, n, p);
        }
        if (call_.dx != nullptr) input_gradients();
        if (end_ == all_) hand_over();
    }

    // Copies the totals out of their panels.
    void finish() {
        T* base = dir_.scratch;
        const Index hidden = at_.hidden;
        auto rows = [&](int s0, int s1, Index from, Index k, T* to) {
            if (to != nullptr)
                unpack_rows<T>({cell_.info, hidden, s0, s1}, base + from, k, to, panel_);
        };
        rows(0, x_gates_, at_.bwd_dw_ih, at_.input, dir_.dw_ih);
        if (recurrent(cell_.info)) {
            const Index early = at_.padded * (early_ - h_first_) * at_.output;
            rows(h_first_, early_, at_.bwd_dw_hh, at_.output, dir_.dw_hh);
            if (cell_.info.late > 0)
                rows(early_, gates_, at_.bwd_dw_hh + early, at_.output, dir_.dw_hh);
        }
        if (thread_ == 0) {
            for (Index unit = 0; !cell_.info.norm && unit < hidden; ++unit)
                for (int s = 0; s < gates_; ++s) {
                    const Index row = api_rows(cell_.info, s) * hidden + unit;
                    const T sum = base[at_.bwd_db + (unit / L * gates_ + s) * L + unit % L];
                    if (s < x_gates_ && dir_.db_ih != nullptr) dir_.db_ih[row] = sum;
                    if (recurrent(cell_.info) && s >= h_first_ && dir_.db_hh != nullptr)
                        dir_.db_hh[row] = sum;
                }
            for (Index v = 0; dir_.dp != nullptr && v < cell_.info.vectors; ++v)
                copy(base + at_.bwd_dp + v * at_.padded, dir_.dp + v * hidden, hidden);
            if (cell_.info.norm)
                for (int k = 0; k < kNormBiases; ++k) {
                    const T* sum = base + at_.bwd_dp + (cell_.info.vectors + k) * at_.padded;
                    if (cell_.norm_x[k] >= 0 && dir_.db_ih != nullptr)
                        copy(sum, dir_.db_ih + cell_.norm_x[k] * hidden, hidden);
                    if (cell_.norm_h[k] >= 0 && dir_.db_hh != nullptr)
                        copy(sum, dir_.db_hh + (cell_.norm_h[k] - h_first_) * hidden, hidden);
                }
        }
        if (thread_ == threads_ - 1) {
            for (Index unit = 0; dir_.dw_hr != nullptr && unit < hidden; unit += 4 * L) {
                const Index n = least(4 * L, hidden - unit), wide = vectors_of<T>(n) * L;
                for (Index p = 0; p < at_.output; ++p)
                    copy(base + at_.bwd_dw_hr + unit * at_.output + p * wide,
                         dir_.dw_hr + p * hidden + unit, n);
            }
        }
    }

  private:
    // Whether a gradient is wanted that comes from the panels of da.
    bool any_weight() const {
        return dir_.dw_ih != nullptr || dir_.dw_hh != nullptr || dir_.db_ih != nullptr ||
               dir_.db_hh != nullptr || dir_.dp != nullptr;
    }

    Cursor<T> first(Index r0, Index r1) const {
        return Cursor<T>(rows_, block_end_ - 1, r0, r1, -1);
    }
    Cursor<T> at(Index q) const {
        Cursor<T> c = first(0, at_.batch);
        for (; q > 0 && q >= rows_.live(c.s); --c.s) q -= rows_.live(c.s);
        c.r = q;
        return c;
    }

    // x, what R saw and gate(h) of the block as rows in walk order, the operands of dW and dR.
    void gather() const {
        const Share share(end_ - begin_, thread_, threads_);
        if (share.begin == share.end) return;
        Cursor<T> c = at(begin_ + share.begin);
        for (Index q = begin_ + share.begin; q < begin_ + share.end; ++q, c.next()) {
            if (call_.tokens == nullptr && dir_.dw_ih != nullptr)
                copy(rows_.x(c.s, c.r), dir_.scratch + at_.bwd_x + q * at_.bwd_x_row, at_.input);
            if (recurrent(cell_.info) && dir_.dw_hh != nullptr) {
                T* u = dir_.scratch + at_.bwd_u + q * at_.out_row;
                for (Index unit = 0; unit < at_.output; unit += L) {
                    V h = previous(0, c.s, c.r, unit);
                    if (dir_.drop != nullptr) h = h * drop(c.r, unit);
                    store(u + unit, h);
                    if (cell_.info.late > 0)
                        store(dir_.scratch + at_.bwd_late + q * at_.state_row + unit,
                              cell_.gated(*this, c.s, c.r, unit, h));
                }
            }
        }
    }

    Index units_of(Index p) const { return least(units_, vectors_of<T>(at_.hidden) - p * units_); }

    Index pitch(Index p) const { return pitch_of<T>(cell_.info, at_.hidden, p); }
    Index vectors(Index p, Index slots) const {
        return panel_vectors<T>(cell_.info, at_.hidden, p, slots);
    }

    // da of panel p, rows [q0, q0 + n) of the block, as a contiguous panel; bias sums on the way.
    // If slots share vectors, a store also writes lanes of the slots and rows after it, which are
    // stored later and so overwrite them (start_from_gates in forward.hpp).
    void pack_da(Index q0, Index n, Index p) const {
        const Index units = units_of(p), width = vectors(p, gates_) * L, by = pitch(p);
        const T* from = dir_.scratch + at_.bwd_da + (at_.batch + q0) * at_.gate_row;
        T* total = dir_.scratch + at_.bwd_db + p * units_ * gates_ * L;
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

    void weight_gradients(Index q0, Index n, Index p) const {
        pack_da(q0, n, p);
        T* base = dir_.scratch;
        if (call_.tokens != nullptr && dir_.dw_ih != nullptr)
            token_gradients(q0, n, p);
        else if (dir_.dw_ih != nullptr)
            slots(base + at_.bwd_x + q0 * at_.bwd_x_row, at_.bwd_x_row, n, p, 0, x_gates_,
                  at_.input, base + at_.bwd_dw_ih);
        if (recurrent(cell_.info) && dir_.dw_hh != nullptr) {
            const Index early = at_.padded * (early_ - h_first_) * at_.output;
            slots(base + at_.bwd_u + q0 * at_.out_row, at_.out_row, n, p, h_first_, early_,
                  at_.output, base + at_.bwd_dw_hh);
            if (cell_.info.late > 0)
                slots(base + at_.bwd_late + q0 * at_.state_row, at_.state_row, n, p, early_, gates_,
                      at_.output, base + at_.bwd_dw_hh + early);
        }
        if (cell_.info.norm)
            term_sums(q0, n, p);
        else if (cell_.info.vectors > 0)
            vector_gradients(q0, n, p);
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
    void project(Index q0, Index n, Index p) const {
        const Index first = p * 4 * L, vectors = least(4, vectors_of<T>(at_.hidden) - 4 * p);
        const Index wide = vectors * L;
        Cursor<T> c = at(q0);
        for (Index q = 0; q < n; ++q, c.next())
            cell_.output(*this, c.s, c.r, first, wide, da_panel_ + q * wide);
        outer(dir_.scratch + at_.bwd_dy + q0 * at_.out_row, at_.out_row, n, at_.output,
              {da_panel_, wide}, vectors, dir_.scratch + at_.bwd_dw_hr + first * at_.output);
    }

    // A token's column of dW takes the rows that read it: the same sums as with one-hot input.
    void token_gradients(Index q0, Index n, Index p) const {
        const Index width = vectors(p, gates_) * L, wide = vectors(p, x_gates_) * L;
        T* total = dir_.scratch + at_.bwd_dw_ih + p * units_ * x_gates_ * L * at_.input;
        Index token[kPartialRows], next[kPartialRows];
        bool follows[kPartialRows];
        Cursor<T> c = at(q0);
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

    void vector_gradients(Index q0, Index n, Index p) const {
        const Index width = vectors(p, gates_) * L, by = pitch(p);
        for (Index u = 0; u < units_of(p); ++u) {
            const Index unit = (p * units_ + u) * L;
            cell_.terms(*this, at(q0), n, unit, da_panel_ + u * gates_ * by, width, by,
                        dir_.scratch + at_.bwd_dp + unit);
        }
    }

    // The gradients of gains and biases of a normalised cell: sums of what each row left in
    // terms().
    void term_sums(Index q0, Index n, Index p) const {
        for (Index k = 0; k < cell_.info.vectors + kNormBiases; ++k) {
            const Index at = k * at_.padded + p * L;
            V sum{};
            for (Index q = q0; q < q0 + n; ++q) sum = sum + load(this->terms_at(q) + at);
            T* t = dir_.scratch + at_.bwd_dp + at;
            store(t, load(t) + sum);
        }
    }

    void input_gradients() const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const Share share(end_ - begin_, thread_, threads_);
        const Index vectors = vectors_of<T>(at_.input);
        Index left = share.end - share.begin, q = begin_ + share.begin;
        for (Index groups = (left + kGroupRows - 1) / kGroupRows; groups > 0; --groups) {
            const Index n = (left + groups - 1) / groups;
            const Cursor<T> from = at(q);
            for (Index v0 = 0; v0 < vectors; v0 += 4) {
                const Index nv = least(4, vectors - v0), width = nv * L;
                for (Index v = 0; v < n * width; v += L) store(acc + v, V{});
                multiply(acc, dir_.scratch + at_.bwd_da + (at_.batch + q) * at_.gate_row, n, 0,
                         x_gates_, dir_.pack + at_.back_x + v0 * L * at_.hidden * x_gates_, nv);
                Cursor<T> to(from);
                for (Index i = 0; i < n; ++i, to.next()) put_dx(to, acc + i * width, v0 * L, nv);
            }
            q += n;
            left -= n;
        }
    }

    void put_dx(const Cursor<T>& to, const T* acc, Index first, Index vectors) const {
        T* dx = call_.dx + rows_.time(to.s, to.r) * call_.dx_step +
                rows_.batch(to.r) * call_.dx_row + first;
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
    T* const da_panel_;
};

template <class T>
void backward(const Backward<T>& call, const BackwardCell<T>& cell, int thread, int threads) {
    switch (call.stage) {
        case Stage::kSteps:
            BackwardWalk<T>(call, cell, thread, threads).run();
            break;
        case Stage::kProducts:
            Reduce<T>(call, cell, thread, threads).products();
            break;
        case Stage::kFinish:
            BackwardWalk<T>(call, cell, thread, threads).finish();
            Reduce<T>(call, cell, thread, threads).finish();
            break;
    }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
