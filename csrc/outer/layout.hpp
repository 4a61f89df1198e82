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
    bool save;    // gates go to `saved`, not to scratch
    bool tokens;  // integer input: W x is a gather, done inside the step
    Index item;   // bytes of a number
};

// Fills `out`; false where a size does not fit 63 bits (or is negative).
bool make_layout(const Request& call, Layout& out);

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
