// Sizes and offsets of one call, and how many threads it is worth.
#pragma once

#include <functional>

#include "kernels.hpp"

namespace fusedrnn {

struct Request {
    CellInfo cell;
    Index steps, batch, input, hidden, output;  // output: P, hidden without projection
    bool project;                               // h' = W_hr m
    bool drop;                                  // recurrent dropout
    int directions;
    int threads;
    bool save;              // gates go to `saved`, not to scratch
    bool tokens;            // integer input: W x is a gather, done inside the step
    Index item;             // bytes of a number
    bool unpacked = false;  // forward: weights are read as the API has them
};

// Fills `out`; false where a size does not fit 63 bits (or is negative).
bool make_layout(const Request& call, Layout& out);

// Whether a call whose weights nobody has packed yet is faster without a pack. It transposes them
// once for each step, so many steps want a pack; and many rows do, since products with panels are
// faster. Measured for H of 32 to 512: 1.1 to 3 times as fast with 8 rows, 0.96 to 1.7 with 32.
bool unpacked_pays(Index steps, Index batch);

// Floating-point operations of one walk step of the recurrence and of the whole forward pass.
double step_flops(const Request& call);
double total_flops(const Request& call);

struct Plan {
    int threads;
    Split split;
};

// Threads that pay for this call, at most `most()`, which a small call does not ask, and what they
// divide; `both`: the directions may run at the same time, as they may forward.
Plan plan_threads(const Request& call, const std::function<int()>& most, bool both);

}  // namespace fusedrnn
