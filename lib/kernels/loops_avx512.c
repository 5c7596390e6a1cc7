/* The leaf loops for the AVX-512 (F, DQ, VL, BW). */
#define LYAP_LOOPS        lyap_kernels_avx512
#define LYAP_LOOPS_NAME   "avx512"
#define LYAP_LOOPS_VECTOR 64 /* bytes of a register */
#include "kernels/loops.h"
