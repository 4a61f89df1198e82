// Runs a kernel on a team of threads, with flush-to-zero and a barrier. Only team.cpp uses OpenMP.
#pragma once

#include "kernels.hpp"

namespace fusedrnn {

// The largest number of threads. `obey`: the user asked for this number, so it is used even if
// other work keeps the cores busy.
struct TeamSize {
    int threads;
    bool obey;
};

// Calls fn(ctx, i, n) for i < n on n <= team.threads threads and returns n. `barrier`, which is
// part of ctx, is set up for the number of threads that the OpenMP runtime really starts. Denormals
// are flushed to zero inside fn; the caller's floating-point state is restored. Runs serially in a
// forked child and inside an OpenMP parallel region.
int run(void (*fn)(void*, int, int), void* ctx, TeamSize team, Barrier& barrier);

bool has_openmp();

// min(omp_get_max_threads(), CPUs this process may run on, quota of the control group), at least 1.
int default_threads();

}  // namespace fusedrnn
