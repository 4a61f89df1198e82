// The contract between the two houses: plain data and the kernel table, no functions.
//
// The outer house (bind, layout, team, dispatch) fills these structs; the inner house (one copy per
// ISA) reads them. Every pointer carries its shape in brackets, rightmost index fastest, its role,
// and what it may alias. `block` is 64 bytes of units: 16 float32 or 8 float64, on every ISA.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fusedrnn {

using Index = std::int64_t;

inline constexpr Index kBlockBytes = 64;
inline constexpr int kMaxStates = 2, kMaxDirections = 2, kMaxGates = 4;
// Pre-activations of a normalised cell: as many biases, whose gradients follow those of `vectors`.
inline constexpr int kNormBiases = 4;
// Rows that one partial sum of a weight gradient covers (docs/conventions.md, [G7]).
inline constexpr Index kPartialRows = 512;
// Rows that share a panel buffer in L1, and the vectors of a panel.
inline constexpr Index kGroupRows = 60;
inline constexpr Index kPanelVectors = 4;

// What the driver knows of a cell: see cells/cell.hpp for the slot picture.
struct CellInfo {
    const char* name;
    int gates, x_gates, h_first, late, states, vectors;
    bool norm = false;  // layer normalisation: see cells/norm.hpp
};

// Sizes and offsets of one call, in elements of T; computed once by layout.cpp.
struct Layout {
    Index steps, batch, input, hidden;  // T, B, I, H
    Index output;                       // P: size of h and y; H without projection
    int directions;
    bool project;      // h' = W_hr m instead of h' = m
    Index padded;      // hidden rounded up to whole blocks
    Index out_padded;  // output rounded up to whole blocks
    Index state_row;  // row stride of scratch states: padded + a block, against cache-set conflicts
    Index out_row;    // the same for h
    Index gate_row;   // padded * gates
    Index saved_row;  // padded * slots, slots = gates + states - 1
    bool far;         // the weights that a step reads are beyond L2
    bool unpacked;    // a forward walk reads the weights as the API has them, without a pack
    Index block_steps;    // steps whose x-projection is computed at once; 0: W x inside the step
    Index partial_steps;  // S = max(1, 512 / B): steps whose weight gradients form a partial sum
    // forward pack: chain starts, per-unit vectors, panels of W, R and the late slots of R
    Index pack_bias, pack_vectors, pack_x, pack_h, pack_late, pack_project, pack_total;
    // backward pack: biases of a normalised cell, per-unit vectors, panels of R^T, late R^T, W^T
    // and W_hr^T
    Index back_bias, back_vectors, back_h, back_late, back_x, back_project, back_total;
    // forward scratch of a direction; gather is one row block per thread; head: [0, pack_x) of a
    // pack, if the call is unpacked
    Index fwd_head, fwd_h, fwd_drop, fwd_u, fwd_c, fwd_gates, fwd_gather, fwd_gather_thread,
        fwd_total;
    // backward scratch, used by one direction after the other
    Index bwd_dh, bwd_dc, bwd_da, bwd_terms, bwd_dy, bwd_x, bwd_x_row, bwd_u, bwd_late, bwd_panel,
        bwd_panel_thread, bwd_dw, bwd_dr, bwd_db, bwd_dp, bwd_dproject, bwd_total;
};

// Which rows live at walk step s. A row walks its own valid steps; rank r is its place in the order
// of falling numbers of them, and the rows of walk step s are the ranks [0, live[s]). The first
// four arrays are null when every row has all T steps.
struct Schedule {
    const Index* row;                    // [B] rank -> batch index
    const Index* length;                 // [B] valid steps, by rank
    const Index* live;                   // [T + 1], live[T] = 0
    const Index* start;                  // [T + 1] sum of live[0..s)
    const Index* times[kMaxDirections];  // [B][T] batch index, walk step -> t; null: 0, 1, ... or
                                         // length - 1, ..., 0
    const std::uint8_t* cut[kMaxDirections];  // [T + 1][B] walk step, batch index: nonzero where
                                              // the state that enters (or, at the end, leaves) is
                                              // `initial`; null: never
};

// The eleven activations of ONNX, chosen at run time; defaults are the caller's business.
enum class Activation : int {
    kRelu,
    kTanh,
    kSigmoid,
    kAffine,
    kLeakyRelu,
    kThresholdedRelu,
    kScaledTanh,
    kHardSigmoid,
    kElu,
    kSoftsign,
    kSoftplus
};

template <class T>
struct ActivationOf {
    Activation kind;
    T alpha, beta;
};

// Read by the cells of cells/chosen.hpp alone.
template <class T>
struct CellOptions {
    ActivationOf<T> f, g, h;  // gates; candidate; cell output
    T clip;                   // every activation's input is clipped to [-clip, clip]; infinite: not
    bool coupled;             // forget gate = 1 - input gate
};

// The team's barrier, called by every thread of the team; null when there is one thread.
struct Barrier {
    void (*wait)(void* self);
    void* self;
};

// What threads divide; a normalised cell is never divided by units.
// kDirections, forward alone: even threads walk one, odd ones the other, and divide its rows.
enum class Split : int { kRows = 0, kUnits = 1, kDirections = 2 };

// Rows that a region takes, where threads divide rows: part `index` of `count`. A step too long for
// one slice is walked part by part.
struct Part {
    int index, count;
};

// What both walks read.
template <class T>
struct Call {
    Layout layout;
    Schedule schedule;
    Barrier barrier;
    Split split;
    Part part;
    const T* x;  // [T][B][I] by strides (I contiguous); null for token input
    Index x_step, x_row;
    const Index* tokens;  // [T][B] contiguous, 0 <= id < I; null for dense input
    Index y_step, y_row;  // strides of y [T][B][D*P]; direction d owns [d*P, (d+1)*P)
    CellOptions<T> options;
    T zone_h, zone_c;  // zoneout rates; 0: none
};

// What a direction of both walks reads.
template <class T>
struct Direction {
    const T* pack;                  // forward or backward pack, 64-byte aligned
    const T* state_in[kMaxStates];  // [B][P] h0, [B][H] c0; null: zeros
    const T* initial[kMaxStates];   // [B][P], [B][H] the state after a cut; null: zeros
    const T* drop;                  // [B][P] what the operand of R is multiplied by; null: ones
    const T* keep[kMaxStates];  // [T][B][P], [T][B][H] zoneout drawn: 1 keeps the old state; null
                                // with a rate: its expectation
};

template <class T>
struct ForwardDirection : Direction<T> {
    // Read by an unpacked call alone, which finds no more than [0, pack_x) in `pack`:
    const T* w_ih;             // [n*H][I]
    const T* w_hh;             // [n*H][P]; null where the cell has no recurrent slots
    const T* w_hr;             // [P][H]; null without projection
    T* state_out[kMaxStates];  // [B][P] h_n, [B][H] c_n
    T* saved;                  // [T][B][H/block][slot][block], or null; 64-byte aligned
    T* scratch;                // [fwd_total], lives from slice to slice
};

template <class T>
struct Forward : Call<T> {
    ForwardDirection<T> direction[kMaxDirections];
    T* y;              // out, written for live steps only
    Index begin, end;  // walk steps of this slice; state lives in scratch between slices
    Index sweep;       // a stream's steps before this call: which way weights were read last
};

template <class T>
struct BackwardDirection : Direction<T> {
    const T* saved;                   // read only
    const T* dstate_out[kMaxStates];  // [B][P] d h_n, [B][H] d c_n; null: zeros
    const T* dcell;                   // [T][B][H] gradient of every c; null: zeros
    const T* dgate;                   // [T][B][n][H] gradient of every gate; null: zeros
    // Outputs; each is null if it is not wanted (the two of dstate_in together) or if the cell has
    // no such weights, and then it is not computed.
    T* dstate_in[kMaxStates];  // d h0, d c0
    T* dw;                     // [n*H][I], rows as the API has them
    T* dr;                     // [n*H][P]
    T* db_x;                   // [n*H] gradient of b_ih
    T* db_h;                   // [n*H] gradient of b_hh
    T* dp;                     // [vectors][H]
    T* dproject;               // [P][H] gradient of W_hr
    T* scratch;                // [bwd_total]
    bool add_dx;               // dx += (second direction) instead of dx =
};

// A backward call walks the blocks of partial_steps from the last to the first; in each kSteps
// (pointwise gradients and dh, slices of steps) and then kProducts (dW, dR, db, dx of the block);
// kFinish once per direction (dh0, totals out).
enum class Stage : int { kSteps, kProducts, kFinish };

template <class T>
struct Backward : Call<T> {
    BackwardDirection<T> direction[kMaxDirections];
    const T* y;   // what the forward returned
    const T* dy;  // [T][B][D*P] by strides, as y; null: zeros
    Index dy_step, dy_row;
    T* dx;  // out, [T][B][I] by strides; null: not wanted or token input
    Index dx_step, dx_row;
    Stage stage;
    int which;         // direction of this slice
    Index block;       // first walk step of the current block of partial_steps
    Index begin, end;  // kSteps: walk steps [begin, end), walked downwards; kProducts: partial
                       // sums of 512 rows [begin, end), in walk order
};

template <class T>
struct Pack {
    CellInfo cell;
    Layout layout;
    const T* w_ih;   // [n*H][I], rows gate-major
    const T* w_hh;   // [n*H][P] or null
    const T* b_ih;   // [n*H] or null
    const T* b_hh;   // [n*H] or null
    const T* p;      // [vectors][H] or null
    const T* w_hr;   // [P][H] or null
    T* out;          // [pack_total] or [back_total], 64-byte aligned; written whole
    bool head_only;  // forward: write [0, pack_x) alone, which is all that an unpacked call needs
};

template <class T>
struct CellKernels {
    void (*forward)(void* call, int thread, int threads);   // call: Forward<T>*
    void (*backward)(void* call, int thread, int threads);  // call: Backward<T>*
};

// Element-wise functions of math.hpp over n contiguous elements, for tests.
template <class T>
struct MathKernels {
    void (*exp)(const T* x, T* y, Index n);
    void (*sigmoid)(const T* x, T* y, Index n);
    void (*tanh)(const T* x, T* y, Index n);
};

// The machine's limits (probe.hpp): a round is fma_flops operations.
template <class T>
struct Probes {
    T (*fma)(Index rounds);
    T (*read)(const T* from, Index n, Index times);
    Index fma_flops;
};

template <class T>
struct Kernels {
    const CellKernels<T>* cells;  // [Table::cells]
    // job: Pack<T>*; threads divide panels, and no thread waits for another.
    void (*pack)(void* job, int thread, int threads);
    void (*pack_backward)(void* job, int thread, int threads);
    MathKernels<T> math;
    Probes<T> probes;
};

struct Table {
    const char* isa;
    int vector_bytes;
    int cells;
    const CellInfo* info;  // [cells]
    Kernels<float> f32;
    Kernels<double> f64;
};

}  // namespace fusedrnn
