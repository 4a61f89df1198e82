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
// to T, the type that it computes in. If `far` (the weights exceed L2), a tile prefetches the next
// piece: at each K index one cache line, `ahead` elements on.
template <class W>
struct Panels {
    const W* w;
    Index k;
    Index panel = 0;
    bool far = false;
    Index ahead = 0;
};

// The buffer of sums: vector v of row i of panel j starts at acc[j * panel + i * row + v * kLanes].
template <class T>
struct Accumulator {
    T* acc;
    Index row;
    Index panel = 0;
};

// kTileRows[v] is the largest number of rows of a tile with v vectors. The registers limit it:
// there are 32 on AVX-512 and NEON, 16 elsewhere. (Measured with GCC 12: on AVX2 the smaller
// operand must stay in registers; on AVX-512 a tile of 8 rows and 4 vectors spills.)
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int kTileRows[5] = {0, 12, 12, 8, 6};
inline constexpr int kFewPanels = 4;
#elif defined(__FMA__)
inline constexpr int kTileRows[5] = {0, 8, 6, 4, 3};
inline constexpr int kFewPanels = 2;
#else
inline constexpr int kTileRows[5] = {0, 8, 4, 3, 2};
inline constexpr int kFewPanels = 2;
#endif
// With at most so many rows, a tile takes up to kFewPanels panels.
inline constexpr Index kFewRows = 1;
// The same if panels have a single vector.
inline constexpr int kFewRowsOfOne = 6;
// Tiles of fewer rows do not prefetch: they wait for bandwidth, not for latency, and prefetches
// would delay their loads.
inline constexpr int kFetchingRows = 4;
// K indices of a piece. 128 x 4 vectors of weights stay in L1 while all tiles of the rows use them.
inline constexpr Index kPiece = 128;

template <class T, class W, int R, int NV, int NP>
[[gnu::noinline]] void tile(const Accumulator<T>& out, const Operand<T>& a, const Panels<W>& w) {
    using V = vec<T>;
    V c[NP][R][NV];
    FUSEDRNN_UNROLL for (int j = 0; j < NP; ++j) FUSEDRNN_UNROLL for (int i = 0; i < R; ++i)
        FUSEDRNN_UNROLL for (int v = 0; v < NV; ++v) c[j][i][v] = V{};
    const W* wp = w.w;
    const Index row = a.row, step = a.k, wk = w.k, wpanel = w.panel, len = a.len, ahead = w.ahead;
    for (Index g = 0; g < a.segs; ++g) {
        const T* ap = a.a + g * a.seg;
        for (Index q = 0; q < len; ++q, ap += step, wp += wk) {
            if constexpr (R >= kFetchingRows) __builtin_prefetch(wp + ahead, 0, 2);
            if constexpr (R <= NP * NV) {
                V b[R];
                FUSEDRNN_UNROLL for (int i = 0; i < R; ++i) b[i] = splat(ap[i * row]);
                FUSEDRNN_UNROLL for (int j = 0; j < NP; ++j)
                    FUSEDRNN_UNROLL for (int v = 0; v < NV; ++v) {
                    const V x = load_as<T>(wp + j * wpanel + v * kLanes<T>);
                    FUSEDRNN_UNROLL for (int i = 0; i < R; ++i) c[j][i][v] =
                        fma(b[i], x, c[j][i][v]);
                }
            } else {
                V x[NP][NV];
                FUSEDRNN_UNROLL for (int j = 0; j < NP; ++j)
                    FUSEDRNN_UNROLL for (int v = 0; v < NV; ++v) x[j][v] =
                        load_as<T>(wp + j * wpanel + v * kLanes<T>);
                FUSEDRNN_UNROLL for (int i = 0; i < R; ++i) {
                    const V b = splat(ap[i * row]);
                    FUSEDRNN_UNROLL for (int j = 0; j < NP; ++j)
                        FUSEDRNN_UNROLL for (int v = 0; v < NV; ++v) c[j][i][v] =
                            fma(b, x[j][v], c[j][i][v]);
                }
            }
        }
    }
    FUSEDRNN_UNROLL for (int j = 0; j < NP; ++j) FUSEDRNN_UNROLL for (int i = 0; i < R; ++i)
        FUSEDRNN_UNROLL for (int v = 0; v < NV; ++v) {
        T* to = out.acc + j * out.panel + i * out.row + v * kLanes<T>;
        store(to, load(to) + c[j][i][v]);
    }
}

template <class T, class W, int NV, int R>
void tile_of(Index rows, const Accumulator<T>& out, const Operand<T>& a, const Panels<W>& w) {
    if (rows == R)
        tile<T, W, R, NV, 1>(out, a, w);
    else if constexpr (R > 1)
        tile_of<T, W, NV, R - 1>(rows, out, a, w);
}

// Splits rows evenly among tiles: 7 = 4 + 3, not 6 + 1. If the weights are far, each tile
// prefetches another vector of the K indices of the next piece.
template <class T, class W, int NV>
void tile_rows(Index rows, Accumulator<T> out, Operand<T> a, Panels<W> w) {
    constexpr Index kMax = kTileRows[NV];
    if (w.far) w.ahead = kPiece * w.k;
    for (Index tiles = (rows + kMax - 1) / kMax; tiles > 0; --tiles) {
        const Index n = (rows + tiles - 1) / tiles;
        tile_of<T, W, NV, static_cast<int>(kMax)>(n, out, a, w);
        if (w.far) w.ahead += kLanes<T>;
        out.acc += n * out.row;
        a.a += n * a.row;
        rows -= n;
    }
}

// Multiplies up to R rows by kFewPanels panels of one vector.
template <class T, class W, int R = kFewRowsOfOne>
void tile_few(Index rows, const Accumulator<T>& out, const Operand<T>& a, const Panels<W>& w) {
    if (rows == R)
        tile<T, W, R, 1, kFewPanels>(out, a, w);
    else if constexpr (R > 1)
        tile_few<T, W, R - 1>(rows, out, a, w);
}

// A single row is multiplied by several panels at once, so that enough independent chains are in
// flight; so are a few rows if panels have a single vector.
template <class T, class W, int NV, int NP = kFewPanels>
void tile_panels(Index rows, int panels, Accumulator<T> out, const Operand<T>& a, Panels<W> w) {
    if constexpr (NP > 1) {
        if (NV == 1 && NP == kFewPanels && panels == NP && rows <= kFewRowsOfOne)
            tile_few<T, W>(rows, out, a, w);
        else if (rows == 1 && panels == NP)
            tile<T, W, 1, NV, NP>(out, a, w);
        else
            tile_panels<T, W, NV, NP - 1>(rows, panels, out, a, w);
    } else {
        for (int j = 0; j < panels; ++j, out.acc += out.panel, w.w += w.panel)
            tile_rows<T, W, NV>(rows, out, a, w);
    }
}

// acc += a w over all of K for `rows` rows and `panels` panels of `vectors` vectors each.
template <class T, class W = T>
void product(Index rows, int vectors, int panels, const Accumulator<T>& out, Operand<T> a,
             Panels<W> w) {
    if (rows == 0 || a.len == 0) return;
    // A piece is a part of a single segment, or as many whole segments as fit.
    const bool whole = a.segs == 1 && a.len > kPiece;
    Index left = whole ? a.len : a.segs;
    const Index most = whole ? kPiece : (a.len < kPiece ? kPiece / a.len : 1);
    while (left > 0) {
        const Index n = left < most ? left : most;
        (whole ? a.len : a.segs) = n;
        switch (vectors) {
            case 1:
                tile_panels<T, W, 1>(rows, panels, out, a, w);
                break;
            case 2:
                tile_panels<T, W, 2>(rows, panels, out, a, w);
                break;
            case 3:
                tile_panels<T, W, 3>(rows, panels, out, a, w);
                break;
            default:
                tile_panels<T, W, 4>(rows, panels, out, a, w);
                break;
        }
        a.a += n * (whole ? a.k : a.seg);
        w.w += n * (whole ? 1 : a.len) * w.k;
        left -= n;
    }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
