// Weights into panels, and weight gradients out of them.
//
// Forward panels hold all slots of a few unit vectors, [unit panel][K][unit vector][slot][lane],
// and the last one may be denser (pitch_of); backward panels hold four vectors of outputs, [output
// panel][K][vector][lane], K running over gates in the order of the fixed blocks:
// [H/block][slot][unit of the block].
//
// A pack is written whole, so its memory need not be cleared before: lanes past the last real row
// or column are stored as zeros with the vector that they belong to, and the thread that writes the
// last panel of a region also clears what no panel reaches there. Threads divide panels.
#pragma once

#include "cells/slots.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// K is taken in runs of this many, so that a run's destination lines stay in L1.
inline constexpr Index kPackRun = 64;

template <class T>
void clear(T* from, const T* end) {
    for (; from < end; ++from) *from = T(0);
}

// The forward panels of the slots [s0, s1) of a matrix [n*H][K]. Panel p starts at element
// start(p) * K, and stride(p) elements of it belong to each K index.
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

    // Calls visit(row, rows, place) for each unit vector and slot of panel p: `rows` rows of the
    // matrix from `row` on are lanes from `place` on, in each K index's part of the panel.
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

// W_hr [P][H] has the forward panels of a single slot of P units.
inline constexpr CellInfo kOneSlot{"", 1, 1, 1, 0, 1, 0};

// The transpose of `rows` rows of n numbers, neither more than a vector has lanes; lanes from
// `rows` on are zeros.
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

// Writes that transpose: n rows of `lanes` numbers.
template <class T>
[[gnu::noinline]] void transpose_block(const T* from, Index from_row, Index rows, Index n, T* to,
                                       Index to_row, Index lanes) {
    constexpr int L = kLanes<T>;
    vec<T> m[L];
    load_transposed(from, from_row, rows, n, m);
    if (n == L && lanes == L)
        FUSEDRNN_UNROLL for (int i = 0; i < L; ++i) store(to + i * to_row, m[i]);
    else
        FUSEDRNN_UNROLL for (int i = 0; i < L; ++i) if (i < n)
            store_n(to + i * to_row, m[i], static_cast<int>(lanes));
}

// Calls visit(first, n) for each block of the run of K indices that starts at k0: as many of them
// as a vector has lanes, and fewer in the last block of all.
template <class T, class Visit>
FUSEDRNN_INLINE void each_block(Index k0, Index k, Visit visit) {
    const Index end = k - k0 < kPackRun ? k : k0 + kPackRun;
    for (Index i = k0; i < end; i += kLanes<T>) visit(i, end - i < kLanes<T> ? end - i : kLanes<T>);
}

// The rows of w [n*H][k] into their panels, which end before `end`.
template <class T>
void pack_rows(const SlotPanels<T>& panels, const T* w, Index k, T* out, const T* end,
               const Share& share) {
    for (Index p = share.begin; p < share.end; ++p) {
        const Index stride = panels.stride(p), lanes = panels.pitch(p);
        T* const to = out + panels.start(p) * k;
        if (lanes < kLanes<T>)
            clear(to, to + stride * k);  // slots that share vectors write no pads
        for (Index k0 = 0; k0 < k; k0 += kPackRun)
            panels.each(p, [&](Index row, Index rows, Index place) {
                each_block<T>(k0, k, [&](Index i, Index n) {
                    transpose_block(w + row * k + i, k, rows, n, to + i * stride + place, stride,
                                    lanes);
                });
            });
        if (p + 1 == panels.count()) clear(to + stride * k, end);
    }
}

// The inverse: a gradient from panels into [n*H][k].
template <class T>
void unpack_rows(const SlotPanels<T>& panels, const T* from, Index k, T* out, const Share& share) {
    for (Index p = share.begin; p < share.end; ++p) {
        const Index stride = panels.stride(p);
        const T* const panel = from + panels.start(p) * k;
        for (Index k0 = 0; k0 < k; k0 += kPackRun)
            panels.each(p, [&](Index row, Index rows, Index place) {
                each_block<T>(k0, k, [&](Index i, Index n) {
                    transpose_block(panel + i * stride + place, stride, n, rows, out + row * k + i,
                                    k, n);
                });
            });
    }
}

// Chain starts [unit vector][slot][lane]: both biases rounded once where a slot sees W and R.
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

template <class T>
void pack_forward(void* call, int thread, int threads) {
    const auto& job = *static_cast<const Pack<T>*>(call);
    const CellInfo& cell = job.cell;
    const Layout& at = job.layout;
    T* const out = job.out;
    const int early = cell.gates - cell.late;
    auto rows = [&](const SlotPanels<T>& panels, const T* w, Index k, Index from, Index end) {
        pack_rows(panels, w, k, out + from, out + end, {panels.count(), thread, threads});
    };
    if (thread == 0) {
        pack_bias(job, out + at.pack_bias);
        copy_vectors(job, out + at.pack_vectors);
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

// Backward panels: four vectors of columns each, but for the last.
template <class T>
constexpr Index column_panels(Index columns) {
    return (vectors_of<T>(columns) + kPanelVectors - 1) / kPanelVectors;
}

// `rows` rows of w [...][columns], as the K indices from k on of a thread's panels.
template <class T>
void copy_columns(const T* w, Index rows, Index columns, Index depth, Index k, T* out,
                  const Share& share) {
    constexpr Index L = kLanes<T>, wide = kPanelVectors * L;
    for (Index p = share.begin; p < share.end; ++p) {
        const Index c0 = p * wide, left = columns - c0;
        const Index stride = left < wide ? vectors_of<T>(left) * L : wide;
        const T* from = w + c0;
        T* to = out + c0 * depth + k * stride;
        for (Index r = 0; r < rows; ++r, from += columns, to += stride)
            if (left >= wide)
                FUSEDRNN_UNROLL for (int v = 0; v < kPanelVectors; ++v)
                    store(to + v * L, load(from + v * L));
            else
                for (Index v = 0; v < stride; v += L)
                    store(to + v, load_n(from + v, static_cast<int>(left - v)));
    }
}

// The columns of w [n*H][columns] into their panels, which end before `end`; K runs over the slots
// [s0, s1) in the order of the fixed blocks.
template <class T>
void pack_columns(const CellInfo& cell, Index hidden, int s0, int s1, const T* w, Index columns,
                  T* out, const T* end, const Share& share) {
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

template <class T>
void pack_backward(void* call, int thread, int threads) {
    const auto& job = *static_cast<const Pack<T>*>(call);
    const CellInfo& cell = job.cell;
    const Layout& at = job.layout;
    T* const out = job.out;
    const int early = cell.gates - cell.late;
    auto columns = [&](const CellInfo& of, Index hidden, int s0, int s1, const T* w, Index n,
                       Index from, Index end) {
        pack_columns(of, hidden, s0, s1, w, n, out + from, out + end,
                     {column_panels<T>(n), thread, threads});
    };
    if (thread == 0) {
        if (cell.norm) pack_bias(job, out + at.back_bias);
        copy_vectors(job, out + at.back_vectors);
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
