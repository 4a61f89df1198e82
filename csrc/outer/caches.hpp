// The sizes of the machine's caches. They decide which of several ways a call takes, never its
// bits.
#pragma once

#include "kernels.hpp"

namespace fusedrnn {

// Bytes of the caches that one core uses.
struct Caches {
    Index l2, l3;
};

// What the operating system says of the first processor; 1 MB and 32 MB where it says nothing. Or
// what use_caches() said.
Caches caches();

// For tests and benchmarks; a size of 0 asks the machine again.
void use_caches(Caches sizes);

}  // namespace fusedrnn
