// Compiled with -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma.
#if !(defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && \
      defined(__AVX512VL__))
#error "isa/avx512.cpp was compiled with the wrong flags"
#endif
#define FUSEDRNN_ISA avx512
#define FUSEDRNN_VECTOR_BYTES 64
#include "table.hpp"
