// The contract of the kernels: plain data and the kernel table, no functions. bind/ and outer/ fill
// these structs; inner/, which is compiled once for each instruction set, reads them.
//
// A row is one sequence of the batch; n is the number of gates that have rows in the weights. The
// shape of an array stands in brackets, rightmost index fastest. `block` is 64 bytes of units: 16
// float32 or 8 float64, on every instruction set.
//
// Who owns what: the caller of a kernel owns every array. A kernel keeps no pointer after it
// returned; what it needs again in the next slice is in `scratch`.
//
// Overlap: arrays that are only read may overlap each other. An array that a kernel writes must
// overlap neither another array of the call nor, by its strides, itself. bind/ allocates such
// arrays or, if the user brought them, compares them with the others (class Apart in bind/call.hpp,
// which says what it leaves out); python/fusedrnn/core/_checks.py refuses strides of 0.
//
// Alignment: packs and scratch start on a 64-byte boundary, for speed. Kernels need every array to
// be aligned for T, and no more.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fusedrnn {

using Index = std::int64_t;

inline constexpr Index kBlockBytes = 64;
inline constexpr int kMaxStates = 2, kMaxDirections = 2, kMaxGates = 4;
// Pre-activations of a normalised cell. Each has a bias; the gradients of these biases are stored
// after those of the cell's `vectors`.
inline constexpr int kNormBiases = 4;
// Rows that one partial sum of a weight gradient covers at most (docs/conventions.md, [G7]).
inline constexpr Index kPartialRows = 512;
// At most so many rows are multiplied by a panel at a time, so that their sums stay in L1; a panel
// has at most so many vectors for each K index.
inline constexpr Index kGroupRows = 60;
inline constexpr Index kPanelVectors = 4;
// Rows of a weight gradient that are computed together: all gates of a few vectors of units.
inline constexpr Index kGradientLanes = 64;

// The integers that describe a cell; inner/cells/cell.hpp has a picture of the slots.
struct CellInfo {
    const char* name;
    int gates, x_gates, h_first, late, states, vectors;
    bool norm = false;  // layer normalisation: see inner/cells/norm.hpp
};

// Sizes and offsets of one call, in elements; outer/layout.cpp computes them once. Offsets in a
// pack are in bytes, because the type of packed weights need not be the type that kernels compute
// in.
struct Layout {
    Index steps, batch, input, hidden;  // T, B, I, H
    Index output;                       // P: size of h and y; H without projection
    int directions;
    bool project;      // h' = W_hr m instead of h' = m
    Index padded;      // H rounded up to whole blocks
    Index out_padded;  // P rounded up to whole blocks
    Index state_row;   // row stride of scratch [..][H]: padded + block, so that rows do not compete
                       // for the same set of a cache
    Index out_row;     // the same for scratch [..][P]
    Index gate_row;    // padded * gates
    Index saved_row;   // padded * slots, slots = gates + states - 1
    bool unpacked;     // forward: kernels read the weights as the API has them, without a pack
    Index block_steps;    // steps whose W x is computed at once; 0: each step computes its own
    Index group;          // backward: rows that share a weight gradient; 0: all of them share one
    Index partial_steps;  // steps whose weight gradients form a partial sum: max(1, 512 / the rows
                          // that share them)
    // Forward pack: biases (where the chains of fma start), per-unit vectors, panels of W, of R, of
    // the late slots of R, and of W_hr.
    Index pack_bias, pack_vectors, pack_x, pack_h, pack_late, pack_project, pack_total;
    // Backward pack: biases of a normalised cell, per-unit vectors, panels of R^T, of the late
    // slots of R^T, of W^T, and of W_hr^T.
    Index back_bias, back_vectors, back_h, back_late, back_x, back_project, back_total;
    // Forward scratch of a direction. head: [0, pack_x) of a pack, if the call is unpacked; h and
    // drop (h times the factors `drop`): [2][B][out_row], for the steps s and s + 1; u, c:
    // [B][state_row]; gates: [steps of a block][B][gate_row], if the call does not save; gather:
    // rows of x, for each thread.
    Index fwd_head, fwd_h, fwd_drop, fwd_u, fwd_c, fwd_gates, fwd_gather, fwd_gather_thread,
        fwd_total;
    // Backward scratch, which both directions use one after the other. dh, dc: [B][row]; da:
    // [B + N][gate_row], N being the rows of all steps of a block; terms, dy: [N][..]; x, u, late:
    // `bwd_rows` rows, N of them, in panels of columns; strip: da of a few units, for each thread;
    // db, dp: totals. If `group` > 0, everything from bwd_x on stands once for each thread, at
    // distances of bwd_thread, and x, u and late have the rows of one partial sum. So have own_*,
    // copies of da, terms and dy.
    Index bwd_dh, bwd_dc, bwd_da, bwd_terms, bwd_dy, bwd_rows, bwd_x, bwd_u, bwd_late, bwd_own_da,
        bwd_own_terms, bwd_own_dy, bwd_strip, bwd_strip_thread, bwd_db, bwd_dp, bwd_thread,
        bwd_total;
};

// Each row walks its own valid steps, s = 0, 1, ..., and is live at walk step s if it has such a
// step. Ranks number the rows by falling number of valid steps, so the rows that are live at walk
// step s are the ranks [0, live[s]). The first five arrays are null if every row has all T steps
// and `times` is null; `grouped` also without groups.
struct Schedule {
    const Index* row;                    // [B] rank -> batch index
    const Index* length;                 // [B] valid steps, by rank
    const Index* live;                   // [T + 1], live[T] = 0
    const Index* start;                  // [T + 1] sum of live[0..s)
    const Index* grouped;                // [B] the ranks of each group, rising; null: 0, 1, ...
    const Index* times[kMaxDirections];  // [B][T] batch index, walk step -> t; null: 0, 1, ... and,
                                         // in direction 1, length - 1, ..., 0
    const std::uint8_t* cut[kMaxDirections];  // [T + 1][B] walk step, batch index: nonzero if the
                                              // state before the step (or, after the last step, the
                                              // final state) is `initial`; null: never
};

// The eleven activations of ONNX, chosen at run time. The caller fills in default parameters.
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

// Only the cells of inner/cells/chosen.hpp read these options.
template <class T>
struct CellOptions {
    ActivationOf<T> f, g, h;  // of the gates; of the candidate; of c' on the output path
    T clip;                   // inputs of activations are clipped to [-clip, clip]
    bool coupled;             // forget gate = 1 - input gate
};

// The barrier of the team that runs a kernel: every thread calls wait(self). `wait` is null if the
// kernel runs serially.
struct Barrier {
    void (*wait)(void* self);
    void* self;
};

// What the threads divide: the rows, or the units of every row, or the directions. Threads never
// divide the units of a normalised cell. With kDirections the even threads walk one direction and
// the odd threads the other, and the threads of a direction divide the rows; a single thread walks
// one after the other.
enum class Split : int { kRows = 0, kUnits = 1, kDirections = 2 };

// Part `index` of `count` of the rows. If one step is too long for a slice, the parts are walked
// one after the other, unless threads divide units.
struct Part {
    int index, count;
};

// What forward and backward kernels read.
template <class T>
struct Call {
    Layout layout;
    Schedule schedule;
    Barrier barrier;
    Split split;
    Part part;
    const T* x;           // [T][B][I] by strides, I contiguous; null for token input
    Index x_step, x_row;  // strides in elements; they may be 0 or negative
    const Index* tokens;  // [T][B] contiguous, 0 <= id < I; null for dense input
    Index y_step, y_row;  // strides of y [T][B][D*P]; direction d owns [d*P, (d+1)*P)
    CellOptions<T> options;
    T zone_h, zone_c;  // zoneout rates of h and c; 0: none
};

// What forward and backward kernels read of each direction.
template <class T>
struct Direction {
    const std::byte* pack;          // forward or backward pack, 64-byte aligned
    const T* state_in[kMaxStates];  // [B][P] h0, [B][H] c0; null: zeros
    const T* initial[kMaxStates];   // [B][P], [B][H] the state after a cut; null: zeros
    const T* drop;                  // [B][P] factors on the h that R multiplies; null: ones
    const T* keep[kMaxStates];      // [T][B][P], [T][B][H] zoneout as drawn, 1 keeps the old state;
                                    // null with a rate: the expectation
};

template <class T>
struct ForwardDirection : Direction<T> {
    // Only an unpacked call reads these; its `pack` has only [0, pack_x).
    const T* w_ih;             // [n*H][I]
    const T* w_hh;             // [n*H][P]; null if the cell has no recurrent slots
    const T* w_hr;             // [P][H]; null without projection
    T* state_out[kMaxStates];  // [B][P] h_n, [B][H] c_n
    T* saved;                  // [T][B][padded/block][slot][block], live steps only, or null
    T* scratch;                // [fwd_total], unchanged between the slices of a call
};

template <class T>
struct Forward : Call<T> {
    ForwardDirection<T> direction[kMaxDirections];
    T* y;              // out, written for live steps only
    Index begin, end;  // walk steps of this slice; the state is in scratch between slices
    Index sweep;       // steps of a stream before this call; panels are read in one order in even
                       // steps, in the other in odd steps
};

template <class T>
struct BackwardDirection : Direction<T> {
    const T* saved;                   // what the forward call saved
    const T* dstate_out[kMaxStates];  // [B][P] d h_n, [B][H] d c_n; null: zeros
    const T* dcell;                   // [T][B][H] gradient of every c; null: zeros
    const T* dgate;                   // [T][B][n][H] gradient of every gate; null: zeros
    // Outputs, contiguous. Each is null, and then not computed, if it is not wanted (the two of
    // dstate_in together) or if the cell has no such weights. If layout.group > 0, the gradients of
    // weights have a first axis of B / group, one gradient for each group of batch indices.
    T* dstate_in[kMaxStates];  // d h0, d c0
    T* dinitial[kMaxStates];   // [B][P], [B][H] gradients of `initial`, from the last cut to the
                               // first; the kernels add to what is there
    T* dw_ih;                  // [n*H][I] gradient of w_ih
    T* dw_hh;                  // [n*H][P] gradient of w_hh
    T* db_ih;                  // [n*H] gradient of b_ih
    T* db_hh;                  // [n*H] gradient of b_hh
    T* dp;                     // [vectors][H]
    T* dw_hr;                  // [P][H] gradient of W_hr
    T* dx;                     // [T][B][I] by strides; null: not wanted or token input
    Index dx_step, dx_row;
    bool add_dx;  // dx += instead of dx =
    T* scratch;   // [bwd_total]; directions that are not walked at the same time may share it
};

// A backward call walks the blocks of partial_steps steps from the last to the first, for one
// direction after the other or, with kDirections, for both. In each block kSteps computes pointwise
// gradients and dh, in slices of steps; then kProducts computes the block's part of dW, dR, db and
// dx. At the end kFinish writes dh0 and the totals. If layout.group > 0, only kGroups computes and
// writes gradients of weights, after the kProducts of each block, and once if there is no step.
enum class Stage : int { kSteps, kProducts, kGroups, kFinish };

template <class T>
struct Backward : Call<T> {
    BackwardDirection<T> direction[kMaxDirections];
    const T* y;   // what the forward call returned
    const T* dy;  // [T][B][D*P] by strides, as y; null: zeros
    Index dy_step, dy_row;
    Stage stage;
    int which;         // the direction of this slice; not read with kDirections
    Index block;       // first walk step of the current block of partial_steps
    Index begin, end;  // kSteps: walk steps [begin, end), from the last to the first; kProducts:
                       // the partial sums [begin, end) of the block, kPartialRows rows each;
                       // kGroups: the groups [begin, end)
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
    std::byte* out;  // [pack_total] or [back_total]; every byte is written
    bool head_only;  // forward: write only [0, pack_x), which is all that an unpacked call needs
};

template <class T>
struct CellKernels {
    void (*forward)(void* call, int thread, int threads);   // call: Forward<T>*
    void (*backward)(void* call, int thread, int threads);  // call: Backward<T>*
};

// Element-wise functions of inner/math.hpp over n contiguous elements, for tests.
template <class T>
struct MathKernels {
    void (*exp)(const T* x, T* y, Index n);
    void (*sigmoid)(const T* x, T* y, Index n);
    void (*tanh)(const T* x, T* y, Index n);
};

// Measurements of the machine's limits (inner/probe.hpp). A round of `fma` is fma_flops operations.
template <class T>
struct Probes {
    T (*fma)(Index rounds);
    T (*read)(const T* from, Index n, Index times);
    Index fma_flops;
};

template <class T>
struct Kernels {
    const CellKernels<T>* cells;  // [Table::cells]
    // job: Pack<T>*. Threads divide the panels and do not wait for each other.
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
    const Kernels<float>& f32;
    const Kernels<double>& f64;
};

}  // namespace fusedrnn
