// Every aarch64 runs this.
#if !(defined(__aarch64__))
#error "isa/neon.cpp was compiled with the wrong flags"
#endif
#define FUSEDRNN_ISA neon
#define FUSEDRNN_VECTOR_BYTES 16
#include "table.hpp"
