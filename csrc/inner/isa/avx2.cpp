// Compiled with -mavx2 -mfma.
#if !(defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__))
#error "isa/avx2.cpp was compiled with the wrong flags"
#endif
#define FUSEDRNN_ISA avx2
#define FUSEDRNN_VECTOR_BYTES 32
#include "table.hpp"
