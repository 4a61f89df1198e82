// Threads: the only OpenMP. Runs a kernel on a team, under flush-to-zero, with a barrier.
#pragma once

#include "kernels.hpp"

namespace fusedrnn {

// At most so many threads; `obey`: somebody asked for them, so that a crowded machine is no reason
// to take fewer.
struct TeamSize {
    int threads;
    bool obey;
};

// Calls fn(ctx, i, n) for i < n on n <= team.threads threads and returns n. `barrier` (inside ctx)
// is set up for the threads that the runtime really gives. Denormals are flushed to zero inside fn;
// the caller's floating-point state is restored. Serial in a forked child.
int run(void (*fn)(void*, int, int), void* ctx, TeamSize team, Barrier& barrier);

bool has_openmp();

// min(omp_get_max_threads(), CPUs this process may run on, the control group's quota), at least 1.
int default_threads();

}  // namespace fusedrnn
