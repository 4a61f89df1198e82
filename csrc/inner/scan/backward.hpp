// The walk over time of a backward call, for every cell, from the last step to the first. A step
// multiplies da of the step after it by R, which gives dh, and then calls the derivative of the
// cell on groups of rows and units. da of a block of steps stays in scratch for reduce.hpp.
#pragma once

#include "backward_view.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
class BackwardWalk : public BackwardView<T> {
    using Base = BackwardView<T>;
    using Base::across, Base::at_, Base::call_, Base::cell_, Base::da, Base::dc, Base::dh,
        Base::dir_, Base::drop;
    using Base::dy, Base::early_, Base::gates_, Base::h_first_, Base::L, Base::least;
    using Base::multiply, Base::offset_, Base::real, Base::rows_, Base::slot_columns, Base::width,
        Base::zoned;
    using typename Base::V;

  public:
    BackwardWalk(const Backward<T>& call, const BackwardCell<T>& cell, int direction, int thread,
                 int threads)
        : Base(call, cell, direction),
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
            if (cell_.info.norm) {
                for (Index r = row_.begin; r < least(row_.end, rows_.live(s)); ++r)
                    cell_.row(*this, s, r);
                continue;  // threads divide the rows of a normalised cell
            }
            wait();
            if (at_.project) {
                each_tile(unit_, rows_.live(s),
                          [&](Index r, Index n, Index p) { project(s, r, n, p); });
                wait();
            }
            if (cell_.info.late > 0) {
                each_tile(unit_, rows_.live(s),
                          [&](Index r, Index n, Index p) { late(s, r, n, p); });
                wait();
            }
        }
    }

    // The gradient of the state that entered step 0.
    void finish() {
        if (at_.steps == 0) enter();
        if (dir_.dstate_in[0] == nullptr && dir_.dinitial[0] == nullptr) return;
        through_all(-1);
        if (cell_.info.states > 1)
            for (Index r = row_.begin; r < row_.end; ++r)
                each_vector(unit_, 1, [&](Index unit) {
                    const V value = across(1, 0, r, unit, load(dc(r) + unit));
                    if (dir_.dstate_in[1] != nullptr)
                        put(dir_.dstate_in[1] + rows_.batch(r) * at_.hidden + unit, value,
                            real(1, unit));
                });
    }

  private:
    // dh of the whole step, or of the state that entered step 0.
    void through_all(Index s) const {
        each_tile(out_, s < 0 ? at_.batch : rows_.live(s),
                  [&](Index r, Index n, Index p) { through(s, r, n, p); });
    }

    void wait() const {
        if (by_units_ && recurrent(cell_.info) && call_.barrier.wait != nullptr)
            call_.barrier.wait(call_.barrier.self);
    }

    template <class Body>
    void each_vector(const Share& panels, int k, Body body) const {
        const Index end = least(panels.end * 4, vectors_of<T>(width(k))) * L;
        for (Index unit = panels.begin * 4 * L; unit < end; unit += L) body(unit);
    }

    void enter() {
        for (Index r = row_.begin; r < row_.end; ++r)
            for (int k = 0; k < cell_.info.states; ++k)
                each_vector(k == 0 ? out_ : unit_, k, [&](Index unit) {
                    const T* from = dir_.dstate_out[k];
                    V value{};
                    if (from != nullptr)
                        value = take(from + rows_.batch(r) * width(k) + unit, real(k, unit));
                    store((k == 0 ? dh(r) : dc(r)) + unit,
                          across(k, rows_.length(r), r, unit, value));
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

    // dh of `n` rows: the chain from step s + 1 on, then this step's cell.
    void through(Index s, Index r, Index n, Index p) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const ColumnPanel<T> w = slot_columns(at_.back_h, p, at_.output, h_first_, early_);
        const Index wide = w.vectors * L, first = p * 4 * L;
        for (Index v = 0; v < n * wide; v += L) store(acc + v, V{});
        const Index came = s + 1 < at_.steps ? least(n, rows_.live(s + 1) - r) : 0;
        if (recurrent(cell_.info) && came > 0)
            multiply(acc, da(s + 1, r), came, h_first_, early_, w);
        for (Index i = 0; i < n; ++i)
            for (Index v = 0; v < wide; v += L) {
                const Index unit = first + v;
                // The pointwise part is often the larger: added last, it does not coarsen the
                // chain.
                const V direct = load(dh(r + i) + unit), sum = load(acc + i * wide + v);
                const V chain =
                    dir_.drop == nullptr ? sum + direct : fma(drop(r + i, unit), sum, direct);
                store(acc + i * wide + v, arrive(s, r + i, unit, chain, i < came));
            }
        if (s >= 0 && !whole()) cell_.derive(*this, {s, r, n, came, first, wide, acc});
    }

    // Whether the cell needs all of dh' of a row before its derivative.
    bool whole() const { return at_.project || cell_.info.norm; }

    // The whole gradient of h' of walk step s is known: returns the part that the cell passes on.
    FUSEDRNN_INLINE V arrive(Index s, Index r, Index unit, V chain, bool came) const {
        if (came) chain = across(0, s + 1, r, unit, chain);
        if (s < 0) {
            if (dir_.dstate_in[0] != nullptr)
                put(dir_.dstate_in[0] + rows_.batch(r) * at_.output + unit, chain, real(0, unit));
            return chain;
        }
        if (call_.dy != nullptr)
            chain = chain + take(call_.dy + offset_ + rows_.dy(s, r, call_) + unit, real(0, unit));
        V old{};
        const V fresh = zoned(0, s, r, unit, chain, old);
        if (whole()) store(dy(s, r) + unit, fresh);
        if (whole() || call_.zone_h != T(0)) store(dh(r) + unit, old);
        return fresh;
    }

    // dm = dh' W_hr, then the cell.
    void project(Index s, Index r, Index n, Index p) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const ColumnPanel<T> w(dir_.pack + at_.back_project, p, at_.hidden, at_.output);
        const Index wide = w.vectors * L, first = p * 4 * L;
        for (Index v = 0; v < n * wide; v += L) store(acc + v, V{});
        w.multiply(n, {acc, wide}, {dy(s, r), at_.out_row, 1, at_.output});
        cell_.derive(*this, {s, r, n, rows_.live(s + 1) - r, first, wide, acc});
    }

    // The early slots of a cell whose late slots saw R gate(h): du = da R first.
    void late(Index s, Index r, Index n, Index p) const {
        alignas(kBlockBytes) T acc[kGroupRows * 4 * L];
        const ColumnPanel<T> w = slot_columns(at_.back_late, p, at_.hidden, early_, gates_);
        const Index wide = w.vectors * L, first = p * 4 * L;
        for (Index v = 0; v < n * wide; v += L) store(acc + v, V{});
        multiply(acc, da(s, r), n, early_, gates_, w);
        cell_.gate(*this, {s, r, n, 0, first, wide, acc});
    }

    const bool by_units_;
    const Share row_, out_, unit_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
