// Every x86-64 runs this: SSE2 without fma. Its results agree with the others within a tolerance,
// not to the bit.
#if !(defined(__x86_64__))
#error "isa/baseline.cpp was compiled with the wrong flags"
#endif
#define FUSEDRNN_ISA baseline
#define FUSEDRNN_VECTOR_BYTES 16
#include "table.hpp"
