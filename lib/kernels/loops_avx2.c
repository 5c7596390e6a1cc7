/* The leaf loops for the AVX2. */
#define LYAP_LOOPS        lyap_kernels_avx2
#define LYAP_LOOPS_NAME   "avx2"
#define LYAP_LOOPS_VECTOR 32 /* bytes of a register */
#include "kernels/loops.h"
