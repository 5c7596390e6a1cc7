/* The leaf loops for the baseline of the architecture; the only ones where it is not x86-64. */
#define LYAP_LOOPS        lyap_kernels_base
#define LYAP_LOOPS_NAME   "base"
#define LYAP_LOOPS_VECTOR 16 /* bytes of a register */
#include "kernels/loops.h"
