// The weights that kernels multiply by. A forward kernel reads panels of a pack, or the matrix as
// the API has it; a backward kernel reads panels of the transposed matrix.
//
// The walk over time does not know the type of the packed weights: W is named here, in pack.hpp and
// in tile.hpp. Only where W is T do a matrix and its pack give the same bits.
//
// A pack pays only if many steps read it. A call of one or two steps reads the matrix itself:
// blocks are transposed in registers just before they are used, so that every weight is loaded from
// memory once and none is written. Every element is the same sum of fma chains as in tile.hpp, so
// the bits are those that packed weights give.
#pragma once

#include "pack.hpp"
#include "tile.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// K indices that are used for one vector of units before the next vector of units follows: 64 bytes
// of each row, so that the chains of several vectors overlap. With 64-byte vectors, transposing
// takes as long as a chain, so a run is a whole piece: caches work better on few rows at a time.
template <class T>
inline constexpr Index kMatrixRun = kVectorBytes == 64 ? kPiece : kBlock<T>;

// Continues the chain c with a[j] * m[j] for j = 0, ..., n - 1; n is at most kLanes.
template <class T>
FUSEDRNN_INLINE vec<T> chain(vec<T> c, const T* a, const vec<T> (&m)[kLanes<T>], Index n) {
    FUSEDRNN_UNROLL for (int j = 0; j < kLanes<T>; ++j) if (j < n) c = fma(splat(a[j]), m[j], c);
    return c;
}

// out += a w for panel p of w [n*H][k] and `rows` rows, at most kGroupRows. The K indices of a row
// of `a` are contiguous.
template <class T>
[[gnu::noinline]] void product_of_matrix(Index rows, const SlotPanels<T>& panels, Index p,
                                         const Accumulator<T>& out, const Operand<T>& a, const T* w,
                                         Index k) {
    constexpr Index L = kLanes<T>, sum_row = kPanelVectors * L;
    alignas(kBlockBytes) T sum[kGroupRows * sum_row];
    struct {
        const T* from;
        Index rows, offset;
    } part[kPanelVectors];
    int parts = 0;
    panels.each(p, [&](Index row, Index count, Index offset) {
        part[parts++] = {w + row * k, count, offset};
    });
    const int lanes = static_cast<int>(panels.pitch(p));
    for (Index k0 = 0; k0 < k; k0 += kPiece) {
        const Index end = k - k0 < kPiece ? k : k0 + kPiece;
        for (Index v = 0; v < rows * sum_row; v += L) store(sum + v, vec<T>{});
        for (Index q0 = k0; q0 < end; q0 += kMatrixRun<T>) {
            const Index stop = end - q0 < kMatrixRun<T> ? end : q0 + kMatrixRun<T>;
            for (int v = 0; v < parts; ++v) {
                const T* const from = part[v].from;
                T* const to = sum + v * L;
                vec<T> m[L];
                Index q = q0;
                if (rows == 1 && part[v].rows == L) {  // most calls: no partial blocks
                    vec<T> c = load(to);
                    for (; q + L <= stop; q += L) {
                        load_columns(from + q, k, m);
                        c = chain(c, a.a + q, m, L);
                    }
                    store(to, c);
                }
                for (; q < stop; q += L) {
                    const Index n = stop - q < L ? stop - q : L;
                    load_transposed(from + q, k, part[v].rows, n, m);
                    const T* x = a.a + q;
                    if (n == L)
                        for (Index i = 0; i < rows; ++i, x += a.row)
                            store(to + i * sum_row, chain(load(to + i * sum_row), x, m, L));
                    else
                        for (Index i = 0; i < rows; ++i, x += a.row)
                            store(to + i * sum_row, chain(load(to + i * sum_row), x, m, n));
                }
            }
        }
        for (int v = 0; v < parts; ++v)
            for (Index i = 0; i < rows; ++i) {
                T* const to = out.acc + part[v].offset + i * out.row;
                store_n(to, load_n(to, lanes) + load(sum + i * sum_row + v * L), lanes);
            }
    }
}

template <class T, class W = T>
class Weights {
    static constexpr Index L = kLanes<T>;

  public:
    // matrix: [n*H][k]; panels: those of the slots in the pack, or null to read the matrix.
    [[gnu::noinline]] Weights(const SlotPanels<T>& slots, const T* matrix, Index k,
                              const std::byte* panels)
        : slots_(slots),
          matrix_(matrix),
          panels_(reinterpret_cast<const W*>(panels)),
          k_(k),
          last_(slots.count() - 1),
          wide_(slots.start(1)),
          last_wide_(slots.stride(last_)) {}

    // out += a w for `rows` rows and `count` panels from p on. If the last panel is narrower, it
    // must be multiplied alone.
    [[gnu::noinline]] void multiply(Index rows, Index p, Index count, Accumulator<T> out,
                                    const Operand<T>& a) const {
        const Index wide = p < last_ ? wide_ : last_wide_;
        if (panels_ != nullptr) {
            const Index panel = wide_ * k_;
            return product<T, W>(rows, static_cast<int>(wide / L), static_cast<int>(count), out, a,
                                 {panels_ + p * panel, wide, panel});
        }
        for (Index j = 0; j < count; ++j, out.acc += out.panel)
            product_of_matrix(rows, slots_, p + j, out, a, matrix_, k_);
    }

    // The weights of K index `at` in panel p, [slot][lane]: in the pack, or copied to `buffer`.
    [[gnu::noinline]] const T* row(Index p, Index at, T (&buffer)[kPanelVectors * L]) const {
        const Index wide = p < last_ ? wide_ : last_wide_;
        if (panels_ != nullptr) {
            const W* from = panels_ + p * wide_ * k_ + at * wide;
            if constexpr (std::same_as<T, W>) return from;
            for (Index v = 0; v < wide; v += L) store(buffer + v, load_as<T>(from + v));
            return buffer;
        }
        clear(buffer, buffer + wide);
        slots_.each(p, [&](Index row, Index count, Index offset) {
            for (Index i = 0; i < count; ++i) buffer[offset + i] = matrix_[(row + i) * k_ + at];
        });
        return buffer;
    }

  private:
    const SlotPanels<T> slots_;
    const T* matrix_;
    const W* panels_;
    // A K index has last_wide_ elements in panel last_, and wide_ in the others.
    Index k_, last_, wide_, last_wide_;
};

// Panel p of a transposed matrix, as pack_columns packs it: up to kPanelVectors vectors of columns
// at each of `depth` K indices. `panels`: the region of the matrix in the backward pack.
template <class T, class W = T>
class ColumnPanel {
    static constexpr Index wide = kPanelVectors * kLanes<T>;

  public:
    ColumnPanel(const std::byte* panels, Index p, Index columns, Index depth)
        : vectors(column_vectors<T>(columns, p)),
          panel_(reinterpret_cast<const W*>(panels) + p * wide * depth) {}

    // out += a w for `rows` rows, from K index k on.
    void multiply(Index rows, const Accumulator<T>& out, const Operand<T>& a, Index k = 0) const {
        const Index width = vectors * kLanes<T>;
        product<T, W>(rows, static_cast<int>(vectors), 1, out, a, {panel_ + k * width, width});
    }

    const Index vectors;

  private:
    const W* panel_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
