// Copies weights into panels.
//
// Weights arrive in T, the type that kernels compute in; panels of weights hold them in W. Biases
// and per-unit vectors are T.
//
// A forward panel holds all slots of a few unit vectors: [unit panel][K][unit vector][slot][lane];
// in the last panel the slots may share vectors (pitch_of). A backward panel holds four vectors of
// columns: [column panel][K][vector][lane]. There K runs over the pre-activations in the order
// [H/block][slot][unit of the block], which is the same on every instruction set.
//
// Every element of a pack is written, so its memory need not be cleared first: lanes past the last
// real row or column are stored as zeros with their vector, and the thread that writes the last
// panel of a region also clears the rest of the region. Threads divide the panels.
#pragma once

#include "cells/slots.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// K indices are copied in runs of this many, so that the cache lines that a run writes stay in L1.
inline constexpr Index kPackRun = 64;

template <class E>
[[gnu::noinline]] void clear(E* from, const E* end) {
    for (; from < end; ++from) *from = E(0);
}

// The forward panels of the slots [s0, s1) of a matrix [n*H][K]. Panel p starts at element
// start(p) * K and has stride(p) elements for each K index.
template <class T>
struct SlotPanels {
    static constexpr Index L = kLanes<T>;
    const CellInfo& cell;
    Index hidden;
    int s0, s1;

    Index slots() const { return s1 - s0; }
    Index count() const {
        return (vectors_of<T>(hidden) + panel_units(cell) - 1) / panel_units(cell);
    }
    Index start(Index p) const { return p * panel_units(cell) * slots() * L; }
    Index stride(Index p) const { return panel_vectors<T>(cell, hidden, p, slots()) * L; }
    Index pitch(Index p) const { return pitch_of<T>(cell, hidden, p); }

    // Calls visit(row, rows, offset) for each unit vector and slot of panel p: the rows
    // [row, row + rows) of the matrix are the lanes from `offset` on of each K index.
    template <class Visit>
    void each(Index p, Visit visit) const {
        const Index units = panel_units(cell), all = vectors_of<T>(hidden);
        for (Index u = 0; u < units && p * units + u < all; ++u)
            for (int s = s0; s < s1; ++s) {
                const Index unit = (p * units + u) * L, left = hidden - unit;
                visit(api_rows(cell, s) * hidden + unit, left < L ? left : L,
                      (u * slots() + s - s0) * pitch(p));
            }
    }
};

// W_hr [P][H] is packed like the weights of a cell with one slot and P units.
inline constexpr CellInfo kOneSlot{"", 1, 1, 1, 0, 1, 0};

// Loads the transpose of `rows` rows of n numbers; both are at most kLanes. Lanes from `rows` on
// are zeros.
template <class T>
FUSEDRNN_INLINE void load_transposed(const T* from, Index from_row, Index rows, Index n,
                                     vec<T> (&m)[kLanes<T>]) {
    constexpr Index L = kLanes<T>;
    alignas(kBlockBytes) T whole[L * L];
    if (rows < L || n < L) {
        for (Index i = 0; i < L; ++i)
            store(whole + i * L,
                  i < rows ? load_n(from + i * from_row, static_cast<int>(n)) : vec<T>{});
        from = whole;
        from_row = L;
    }
    load_columns(from, from_row, m);
}

// Copies the transpose: n rows, of which `lanes` numbers are written.
template <class T, class W>
[[gnu::noinline]] void transpose_block(const T* from, Index from_row, Index rows, Index n, W* to,
                                       Index to_row, Index lanes) {
    constexpr int L = kLanes<T>;
    vec<T> m[L];
    load_transposed(from, from_row, rows, n, m);
    if (n == L && lanes == L)
        FUSEDRNN_UNROLL for (int i = 0; i < L; ++i) store_as<T>(to + i * to_row, m[i]);
    else
        FUSEDRNN_UNROLL for (int i = 0; i < L; ++i) if (i < n)
            store_n_as<T>(to + i * to_row, m[i], static_cast<int>(lanes));
}

// Divides the run of K indices that starts at k0 into blocks and calls visit(first, n) for each. n
// is kLanes; it may be less in the last block of the last run.
template <class T, class Visit>
FUSEDRNN_INLINE void each_block(Index k0, Index k, Visit visit) {
    const Index end = k - k0 < kPackRun ? k : k0 + kPackRun;
    for (Index i = k0; i < end; i += kLanes<T>) visit(i, end - i < kLanes<T> ? end - i : kLanes<T>);
}

// Copies the rows of w [n*H][k] into their panels. The region of these panels ends at `end`.
template <class T, class W>
void pack_rows(const SlotPanels<T>& panels, const T* w, Index k, W* out, const W* end,
               const Share& share) {
    for (Index p = share.begin; p < share.end; ++p) {
        const Index stride = panels.stride(p), lanes = panels.pitch(p);
        W* const to = out + panels.start(p) * k;
        if (lanes < kLanes<T>)
            clear(to, to + stride * k);  // no slot writes the lanes after the last one
        for (Index k0 = 0; k0 < k; k0 += kPackRun)
            panels.each(p, [&](Index row, Index rows, Index offset) {
                each_block<T>(k0, k, [&](Index i, Index n) {
                    transpose_block(w + row * k + i, k, rows, n, to + i * stride + offset, stride,
                                    lanes);
                });
            });
        if (p + 1 == panels.count()) clear(to + stride * k, end);
    }
}

// Writes the biases at which the chains start, [unit vector][slot][lane]. If a slot receives both
// W x and R h, its bias is b_ih + b_hh, rounded once.
template <class T>
void pack_bias(const Pack<T>& job, T* out) {
    constexpr Index L = kLanes<T>;
    const CellInfo& cell = job.cell;
    const Index hidden = job.layout.hidden, all = vectors_of<T>(hidden);
    auto part = [&](const T* b, Index row, Index n) {
        return b == nullptr ? vec<T>{} : load_n(b + row, static_cast<int>(n < L ? n : L));
    };
    clear(out + (all - 1) * cell.gates * L, out + job.layout.padded * cell.gates);
    for (Index v = 0; v < all; ++v)
        for (int s = 0; s < cell.gates; ++s) {
            const Index row = api_rows(cell, s) * hidden + v * L, left = hidden - v * L;
            const vec<T> x = part(s < cell.x_gates ? job.b_ih : nullptr, row, left);
            const vec<T> h = part(s >= cell.h_first ? job.b_hh : nullptr, row, left);
            const Index pitch = pitch_of<T>(cell, hidden, v);
            store_n(out + v * cell.gates * L + s * pitch, x + h, static_cast<int>(pitch));
        }
}

template <class T>
void copy_vectors(const Pack<T>& job, T* out) {
    const Index hidden = job.layout.hidden, padded = job.layout.padded;
    for (Index v = 0; v < job.cell.vectors; ++v, out += padded) {
        for (Index unit = 0; unit < hidden; ++unit) out[unit] = job.p[v * hidden + unit];
        clear(out + hidden, out + padded);
    }
}

template <class T, class W>
void pack_forward(void* call, int thread, int threads) {
    const auto& job = *static_cast<const Pack<T>*>(call);
    const CellInfo& cell = job.cell;
    const Layout& at = job.layout;
    const int early = cell.gates - cell.late;
    auto rows = [&](const SlotPanels<T>& panels, const T* w, Index k, Index from, Index end) {
        pack_rows(panels, w, k, in_pack<W>(job.out, from), in_pack<W>(job.out, end),
                  {panels.count(), thread, threads});
    };
    if (thread == 0) {
        pack_bias(job, in_pack<T>(job.out, at.pack_bias));
        copy_vectors(job, in_pack<T>(job.out, at.pack_vectors));
    }
    if (job.head_only) return;
    rows({cell, at.hidden, 0, cell.x_gates}, job.w_ih, at.input, at.pack_x, at.pack_h);
    if (!recurrent(cell)) return;
    rows({cell, at.hidden, cell.h_first, early}, job.w_hh, at.output, at.pack_h, at.pack_late);
    if (cell.late > 0)
        rows({cell, at.hidden, early, cell.gates}, job.w_hh, at.output, at.pack_late,
             at.pack_project);
    if (at.project)
        rows({kOneSlot, at.output, 0, 1}, job.w_hr, at.hidden, at.pack_project, at.pack_total);
}

// The number of backward panels. Each has four vectors of columns, the last one may have fewer.
template <class T>
constexpr Index column_panels(Index columns) {
    return (vectors_of<T>(columns) + kPanelVectors - 1) / kPanelVectors;
}
// The vectors of panel p.
template <class T>
constexpr Index column_vectors(Index columns, Index p) {
    const Index left = vectors_of<T>(columns) - p * kPanelVectors;
    return left < kPanelVectors ? left : kPanelVectors;
}

// Copies `rows` rows of w [..][columns] to the K indices from k on of this thread's panels, which
// have `depth` K indices.
template <class T, class W>
void copy_columns(const T* w, Index rows, Index columns, Index depth, Index k, W* out,
                  const Share& share) {
    constexpr Index L = kLanes<T>, wide = kPanelVectors * L;
    for (Index p = share.begin; p < share.end; ++p) {
        const Index c0 = p * wide, left = columns - c0;
        const Index stride = column_vectors<T>(columns, p) * L;
        const T* from = w + c0;
        W* to = out + c0 * depth + k * stride;
        for (Index r = 0; r < rows; ++r, from += columns, to += stride)
            if (left >= wide)
                FUSEDRNN_UNROLL for (int v = 0; v < kPanelVectors; ++v)
                    store_as<T>(to + v * L, load(from + v * L));
            else
                for (Index v = 0; v < stride; v += L)
                    store_as<T>(to + v, load_n(from + v, static_cast<int>(left - v)));
    }
}

// Copies the columns of w [n*H][columns] into their panels; K runs over the slots [s0, s1). The
// region of these panels ends at `end`.
template <class T, class W>
void pack_columns(const CellInfo& cell, Index hidden, int s0, int s1, const T* w, Index columns,
                  W* out, const W* end, const Share& share) {
    const Index depth = hidden * (s1 - s0);
    for (Index u0 = 0, k = 0; u0 < hidden; u0 += kBlock<T>) {
        const Index left = hidden - u0, units = left < kBlock<T> ? left : kBlock<T>;
        for (int s = s0; s < s1; ++s, k += units)
            copy_columns(w + (api_rows(cell, s) * hidden + u0) * columns, units, columns, depth, k,
                         out, share);
    }
    if (share.end == column_panels<T>(columns))
        clear(out + vectors_of<T>(columns) * kLanes<T> * depth, end);
}

template <class T, class W>
void pack_backward(void* call, int thread, int threads) {
    const auto& job = *static_cast<const Pack<T>*>(call);
    const CellInfo& cell = job.cell;
    const Layout& at = job.layout;
    const int early = cell.gates - cell.late;
    auto columns = [&](const CellInfo& of, Index hidden, int s0, int s1, const T* w, Index n,
                       Index from, Index end) {
        pack_columns(of, hidden, s0, s1, w, n, in_pack<W>(job.out, from), in_pack<W>(job.out, end),
                     {column_panels<T>(n), thread, threads});
    };
    if (thread == 0) {
        if (cell.norm) pack_bias(job, in_pack<T>(job.out, at.back_bias));
        copy_vectors(job, in_pack<T>(job.out, at.back_vectors));
    }
    columns(cell, at.hidden, 0, cell.x_gates, job.w_ih, at.input, at.back_x, at.back_project);
    if (!recurrent(cell)) return;
    columns(cell, at.hidden, cell.h_first, early, job.w_hh, at.output, at.back_h, at.back_late);
    if (cell.late > 0)
        columns(cell, at.hidden, early, cell.gates, job.w_hh, at.output, at.back_late, at.back_x);
    if (at.project)
        columns(kOneSlot, at.output, 0, 1, job.w_hr, at.hidden, at.back_project, at.back_total);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
