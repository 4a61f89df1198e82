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
    Index item;             // bytes of an element
    Index weight_item;      // bytes of a weight in a pack
    bool unpacked = false;  // forward: weights are read as the API has them
    Index group = 0;        // backward: rows that share a weight gradient; it divides the batch
};

// Fills `out`; returns false if a size is negative or does not fit 63 bits.
bool make_layout(const Request& call, Layout& out);

// Whether a call whose weights are not packed yet is faster without a pack. Without one it
// transposes the weights in each step, so a pack pays for many steps; it also pays for many rows,
// because products with panels are faster. Measured for H of 32 to 512: without a pack a call is
// 1.1 to 3 times as fast with 8 rows, 0.96 to 1.7 times as fast with 32.
bool unpacked_pays(Index steps, Index batch);

// Floating-point operations of one walk step of the recurrence and of the whole forward pass.
double step_flops(const Request& call);
double total_flops(const Request& call);

struct Plan {
    int threads;
    Split split;
};

// How many threads pay for this call, at most most(), and what they divide. most() is not called if
// the call is too small for two threads.
Plan plan_threads(const Request& call, const std::function<int()>& most, bool backward);

// How many threads pay for `members` calls like this one if each is computed by one thread.
int plan_members(const Request& call, Index members, int most);

}  // namespace fusedrnn
