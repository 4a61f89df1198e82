// Weights into panels, and weight gradients out of them.
//
// Forward panels hold all slots of a few unit vectors, [unit panel][K][unit vector][slot][lane],
// and the last one may be denser (pitch_of); backward panels hold four vectors of outputs, [output
// panel][K][vector][lane], K running over gates in the order of the fixed blocks:
// [H/block][slot][unit of the block].
#pragma once

#include "cells/slots.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// K is taken in runs of this many, so that a run's destination lines stay in L1.
inline constexpr Index kPackRun = 64;

template <class T>
T bias_of(const T* b, Index i) {
    return b == nullptr ? T(0) : b[i];
}

// Visits each real (matrix row, panel element) pair of a forward panel of `slots` [s0, s1):
// visit(row, offset of K index 0, K stride).
template <class T, class Visit>
void each_panel_row(const CellInfo& cell, Index hidden, int s0, int s1, Index k, Visit visit) {
    const Index units = panel_units(cell), slots = s1 - s0, all = vectors_of<T>(hidden);
    for (Index v0 = 0; v0 < all; v0 += units) {
        const Index n = all - v0 < units ? all - v0 : units;
        const Index pitch = pitch_of<T>(cell, hidden, v0 / units);
        const Index stride = vectors_of<T>(n * slots * pitch) * kLanes<T>;
        for (Index u = 0; u < n; ++u)
            for (int s = s0; s < s1; ++s)
                for (Index lane = 0; lane < kLanes<T>; ++lane) {
                    const Index unit = (v0 + u) * kLanes<T> + lane;
                    if (unit >= hidden) break;
                    visit(api_rows(cell, s) * hidden + unit,
                          v0 * slots * kLanes<T> * k + (u * slots + s - s0) * pitch + lane, stride);
                }
    }
}

template <class T>
void pack_rows(const CellInfo& cell, Index hidden, int s0, int s1, const T* w, Index k, T* out) {
    for (Index k0 = 0; k0 < k; k0 += kPackRun) {
        const Index n = k - k0 < kPackRun ? k - k0 : kPackRun;
        each_panel_row<T>(cell, hidden, s0, s1, k, [&](Index row, Index at, Index stride) {
            const T* from = w + row * k + k0;
            T* to = out + at + k0 * stride;
            for (Index i = 0; i < n; ++i) to[i * stride] = from[i];
        });
    }
}

// The inverse: a gradient from panels into [n*H][K].
template <class T>
void unpack_rows(const CellInfo& cell, Index hidden, int s0, int s1, const T* panels, Index k,
                 T* out) {
    for (Index k0 = 0; k0 < k; k0 += kPackRun) {
        const Index n = k - k0 < kPackRun ? k - k0 : kPackRun;
        each_panel_row<T>(cell, hidden, s0, s1, k, [&](Index row, Index at, Index stride) {
            const T* from = panels + at + k0 * stride;
            T* to = out + row * k + k0;
            for (Index i = 0; i < n; ++i) to[i] = from[i * stride];
        });
    }
}

// Chain starts [unit vector][slot][lane]: both biases rounded once where a slot sees W and R.
template <class T>
void pack_bias(const Pack<T>& job, T* out) {
    const CellInfo& cell = job.cell;
    const Index hidden = job.layout.hidden;
    for (Index unit = 0; unit < hidden; ++unit)
        for (int s = 0; s < cell.gates; ++s) {
            const Index row = api_rows(cell, s) * hidden + unit;
            const T x = s < cell.x_gates ? bias_of(job.b_ih, row) : T(0);
            const T h = s >= cell.h_first ? bias_of(job.b_hh, row) : T(0);
            const Index v = unit / kLanes<T>, pitch = pitch_of<T>(cell, hidden, v);
            out[v * cell.gates * kLanes<T> + s * pitch + unit % kLanes<T>] = x + h;
        }
}

template <class T>
void copy_vectors(const Pack<T>& job, T* out) {
    for (Index v = 0; v < job.cell.vectors; ++v)
        for (Index unit = 0; unit < job.layout.hidden; ++unit)
            out[v * job.layout.padded + unit] = job.p[v * job.layout.hidden + unit];
}

// W_hr [outputs][hidden] into panels of four output vectors, K running over hidden units.
template <class T>
void pack_projection(const T* w, Index outputs, Index hidden, T* out) {
    const Index wide = 4 * kLanes<T>;
    for (Index p0 = 0; p0 < outputs; p0 += wide) {
        const Index n = outputs - p0 < wide ? outputs - p0 : wide;
        const Index stride = vectors_of<T>(n) * kLanes<T>;
        for (Index k = 0; k < hidden; ++k)
            for (Index i = 0; i < n; ++i)
                out[p0 * hidden + k * stride + i] = w[(p0 + i) * hidden + k];
    }
}

template <class T>
void pack_forward(const Pack<T>& job) {
    const CellInfo& cell = job.cell;
    const Layout& at = job.layout;
    const int early = cell.gates - cell.late;
    pack_bias(job, job.out + at.pack_bias);
    copy_vectors(job, job.out + at.pack_vectors);
    pack_rows(cell, at.hidden, 0, cell.x_gates, job.w_ih, at.input, job.out + at.pack_x);
    if (!recurrent(cell)) return;
    pack_rows(cell, at.hidden, cell.h_first, early, job.w_hh, at.output, job.out + at.pack_h);
    if (cell.late > 0)
        pack_rows(cell, at.hidden, early, cell.gates, job.w_hh, at.output, job.out + at.pack_late);
    if (at.project) pack_projection(job.w_hr, at.output, at.hidden, job.out + at.pack_project);
}

// Columns of w into panels of four vectors: row(k) is the row of w that K index k takes.
template <class T, class Row>
void pack_columns(Index depth, Row row, const T* w, Index columns, T* out) {
    const Index wide = 4 * kLanes<T>;
    for (Index c0 = 0; c0 < columns; c0 += wide) {
        const Index n = columns - c0 < wide ? columns - c0 : wide;
        const Index stride = vectors_of<T>(n) * kLanes<T>;
        T* to = out + c0 * depth;
        for (Index k = 0; k < depth; ++k, to += stride) {
            const T* from = w + row(k) * columns + c0;
            for (Index i = 0; i < n; ++i) to[i] = from[i];
        }
    }
}

// K runs over the slots [s0, s1) in the order of the fixed blocks.
template <class T>
void pack_gates(const CellInfo& cell, Index hidden, int s0, int s1, const T* w, Index columns,
                T* out) {
    const Index slots = s1 - s0, run = kBlock<T> * slots;
    auto row = [&](Index k) {
        const Index u0 = k / run * kBlock<T>, left = hidden - u0;
        const Index units = left < kBlock<T> ? left : kBlock<T>;
        const Index in = k % run;
        return api_rows(cell, s0 + static_cast<int>(in / units)) * hidden + u0 + in % units;
    };
    pack_columns(hidden * slots, row, w, columns, out);
}

template <class T>
void pack_backward(const Pack<T>& job) {
    const CellInfo& cell = job.cell;
    const Layout& at = job.layout;
    const int early = cell.gates - cell.late;
    if (cell.norm) pack_bias(job, job.out + at.back_bias);
    copy_vectors(job, job.out + at.back_vectors);
    pack_gates(cell, at.hidden, 0, cell.x_gates, job.w_ih, at.input, job.out + at.back_x);
    if (!recurrent(cell)) return;
    pack_gates(cell, at.hidden, cell.h_first, early, job.w_hh, at.output, job.out + at.back_h);
    if (cell.late > 0)
        pack_gates(cell, at.hidden, early, cell.gates, job.w_hh, at.output, job.out + at.back_late);
    if (at.project)
        pack_columns(
            at.output, [](Index k) { return k; }, job.w_hr, at.hidden, job.out + at.back_project);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
