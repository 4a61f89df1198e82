// x86-64: SSE2, no fma: held to a tolerance, not to the bits of the others
#if !(defined(__x86_64__))
#error "isa/baseline.cpp was compiled with the wrong flags"
#endif
#define FUSEDRNN_ISA baseline
#define FUSEDRNN_VECTOR_BYTES 16
#include "table.hpp"
