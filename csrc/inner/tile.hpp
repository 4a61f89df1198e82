// The register tile: multiplies a few rows by a panel of weights and adds the products to a buffer
// of sums. It is the same for all cells.
//
// An element's products are summed in pieces of at most kPiece K indices. Each piece is an fma
// chain in rising K that starts at 0, and pieces are added in rising order. Tiles do not change
// this, so results do not depend on batch, threads or instruction set. (At K = 1024 the error of
// one chain over all of K is up to eleven times that of BLAS. With pieces it is less than that of
// BLAS; each piece costs one addition.)
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// The operand whose elements are broadcast: `segs` segments of `len` K indices. Row i has its K
// index g * len + q at a[i * row + g * seg + q * k].
template <class T>
struct Operand {
    const T* a;
    Index row, k, len;
    Index segs = 1, seg = 0;
};

// The operand whose elements are loaded as vectors: vector v at K index q of panel j starts at
// w[j * panel + q * k + v * kLanes]. W is the type of the elements in memory; a tile converts them
// to T, the type that it computes in.
template <class W>
struct Panels {
    const W* w;
    Index k;
    Index panel = 0;
};

// The buffer of sums: vector v of row i of panel j starts at acc[j * panel + i * row + v * kLanes].
template <class T>
struct Accumulator {
    T* acc;
    Index row;
    Index panel = 0;
};

// kTileRows[v] is the largest number of rows of a tile with v vectors. The registers limit it.
// (Measured with GCC 12: on AVX2 the smaller operand must stay in registers; on AVX-512 a tile of 8
// rows and 4 vectors spills.)
//
// Tiles prefetch the next piece, each of them its share: at most a cache line for each K index, so
// that loads of this piece do not wait behind prefetches. A piece of four vectors takes 16 KB on
// AVX2, so that two of them fit L1 (kFetchTo = 3); on AVX-512 it takes 32 KB, and the next one is
// brought to L2 (2). Tiles of less than kFetchingRows rows wait for bandwidth, not for latency, and
// do not prefetch.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int kRegisters = 32, kTileRows[5] = {0, 12, 12, 8, 6};
inline constexpr int kFewPanels = 4, kFetchingRows = 4, kFetchTo = 2;
#elif defined(__FMA__)
inline constexpr int kRegisters = 16, kTileRows[5] = {0, 8, 6, 4, 3};
inline constexpr int kFewPanels = 2, kFetchingRows = 3, kFetchTo = 3;
#else
inline constexpr int kRegisters = 16, kTileRows[5] = {0, 8, 4, 3, 2};
inline constexpr int kFewPanels = 2, kFetchingRows = 4, kFetchTo = 2;
#endif
// With at most so many rows, a tile takes up to kFewPanels panels.
inline constexpr Index kFewRows = 1;
// The same if panels have a single vector.
inline constexpr int kFewRowsOfOne = 6;
// K indices of a piece. 128 x 4 vectors of weights stay in L1 while all tiles of the rows use them.
inline constexpr Index kPiece = 128;

// What all tiles of a piece have in common: the distances of Operand, Panels and Accumulator, and
// the K indices of the piece, `segs` segments of `len`. A tile receives its pointers beside it, in
// registers: if each tile changed them in a struct, it would first wait for its own stores, for 2
// to 9 % of its time.
struct Piece {
    Index row, k, len, segs, seg, w_k, w_panel, out_row, out_panel;
};

// acc += a w for one piece. At each K index a tile that prefetches asks for `next` and adds `fetch`
// to it.
template <class T, class W, int R, int NV, int NP>
[[gnu::noinline]] void tile(T* acc, const T* a, const W* w, const W* next, Index fetch,
                            const Piece& of) {
    using V = vec<T>;
    V c[NP][R][NV];
    FUSEDRNN_UNROLL for (int j = 0; j < NP; ++j) FUSEDRNN_UNROLL for (int i = 0; i < R; ++i)
        FUSEDRNN_UNROLL for (int v = 0; v < NV; ++v) c[j][i][v] = V{};
    const Index row = of.row, k = of.k, w_k = of.w_k, w_panel = of.w_panel, len = of.len;
    for (Index g = 0; g < of.segs; ++g) {
        const T* ap = a + g * of.seg;
        for (Index q = 0; q < len; ++q, ap += k, w += w_k) {
            if constexpr (R >= kFetchingRows) {
                __builtin_prefetch(next, 0, kFetchTo);
                next += fetch;
            }
            if constexpr (R <= NP * NV) {
                V b[R];
                FUSEDRNN_UNROLL for (int i = 0; i < R; ++i) b[i] = splat(ap[i * row]);
                FUSEDRNN_UNROLL for (int j = 0; j < NP; ++j)
                    FUSEDRNN_UNROLL for (int v = 0; v < NV; ++v) {
                    V x = load_as<T>(w + j * w_panel + v * kLanes<T>);
                    if constexpr (R > 1 && R * NP * NV + R + 1 < kRegisters) x = in_register(x);
                    FUSEDRNN_UNROLL for (int i = 0; i < R; ++i) c[j][i][v] =
                        fma(b[i], x, c[j][i][v]);
                }
            } else {
                V x[NP][NV];
                FUSEDRNN_UNROLL for (int j = 0; j < NP; ++j)
                    FUSEDRNN_UNROLL for (int v = 0; v < NV; ++v) x[j][v] =
                        load_as<T>(w + j * w_panel + v * kLanes<T>);
                FUSEDRNN_UNROLL for (int i = 0; i < R; ++i) {
                    const V b = splat(ap[i * row]);
                    FUSEDRNN_UNROLL for (int j = 0; j < NP; ++j)
                        FUSEDRNN_UNROLL for (int v = 0; v < NV; ++v) c[j][i][v] =
                            fma(b, x[j][v], c[j][i][v]);
                }
            }
        }
    }
    const Index out_row = of.out_row, out_panel = of.out_panel;
    FUSEDRNN_UNROLL for (int j = 0; j < NP; ++j) FUSEDRNN_UNROLL for (int i = 0; i < R; ++i)
        FUSEDRNN_UNROLL for (int v = 0; v < NV; ++v) {
        T* to = acc + j * out_panel + i * out_row + v * kLanes<T>;
        store(to, load(to) + c[j][i][v]);
    }
}

template <class T, class W, int NV, int NP, int R>
void tile_of(Index rows, T* acc, const T* a, const W* w, const W* next, Index fetch,
             const Piece& of) {
    if (rows == R)
        tile<T, W, R, NV, NP>(acc, a, w, next, fetch, of);
    else if constexpr (R > 1)
        tile_of<T, W, NV, NP, R - 1>(rows, acc, a, w, next, fetch, of);
}

// Splits rows evenly among tiles: 7 = 4 + 3, not 6 + 1.
template <class T, class W, int NV>
void tile_rows(Index rows, T* acc, const T* a, const W* w, const Piece& of) {
    constexpr Index kMax = kTileRows[NV];
    Index tiles = (rows + kMax - 1) / kMax;
    const W* next = w + of.segs * of.len * of.w_k;
    const Index fetch = of.w_k / tiles;
    for (; tiles > 0; --tiles) {
        const Index n = (rows + tiles - 1) / tiles;
        tile_of<T, W, NV, 1, static_cast<int>(kMax)>(n, acc, a, w, next, fetch, of);
        next += kPiece * fetch;
        acc += n * of.out_row;
        a += n * of.row;
        rows -= n;
    }
}

// A single row is multiplied by several panels at once, so that enough independent chains are in
// flight; so are a few rows if panels have a single vector.
template <class T, class W, int NV, int NP = kFewPanels>
void tile_panels(Index rows, int panels, T* acc, const T* a, const W* w, const Piece& of) {
    if constexpr (NP > 1) {
        if (NV == 1 && NP == kFewPanels && panels == NP && rows <= kFewRowsOfOne)
            tile_of<T, W, 1, kFewPanels, kFewRowsOfOne>(rows, acc, a, w, w, 0, of);
        else if (rows == 1 && panels == NP)
            tile<T, W, 1, NV, NP>(acc, a, w, w, 0, of);
        else
            tile_panels<T, W, NV, NP - 1>(rows, panels, acc, a, w, of);
    } else {
        for (int j = 0; j < panels; ++j, acc += of.out_panel, w += of.w_panel)
            tile_rows<T, W, NV>(rows, acc, a, w, of);
    }
}

// acc += a w over all of K for `rows` rows and `panels` panels of `vectors` vectors each.
template <class T, class W = T>
void product(Index rows, int vectors, int panels, const Accumulator<T>& out, const Operand<T>& a,
             const Panels<W>& w) {
    if (rows == 0 || a.len == 0) return;
    // A piece is a part of a single segment, or as many whole segments as fit.
    const bool whole = a.segs == 1 && a.len > kPiece;
    Index left = whole ? a.len : a.segs;
    const Index most = whole ? kPiece : (a.len < kPiece ? kPiece / a.len : 1);
    const T* from = a.a;
    const W* weights = w.w;
    while (left > 0) {
        const Index n = left < most ? left : most;
        const Piece of{a.row, a.k,     whole ? n : a.len, whole ? 1 : n, a.seg,
                       w.k,   w.panel, out.row,           out.panel};
        switch (vectors) {
            case 1:
                tile_panels<T, W, 1>(rows, panels, out.acc, from, weights, of);
                break;
            case 2:
                tile_panels<T, W, 2>(rows, panels, out.acc, from, weights, of);
                break;
            case 3:
                tile_panels<T, W, 3>(rows, panels, out.acc, from, weights, of);
                break;
            default:
                tile_panels<T, W, 4>(rows, panels, out.acc, from, weights, of);
                break;
        }
        from += n * (whole ? a.k : a.seg);
        weights += n * (whole ? 1 : a.len) * w.k;
        left -= n;
    }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
