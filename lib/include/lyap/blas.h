/* blas.h - how liblyap uses OpenBLAS: on the caller's thread alone. Its matrices are tiny, so that
 * a second thread only costs, and sums must not depend on how many there are.
 * THREADS: once, before other threads call liblyap. */
#ifndef LYAP_BLAS_H
#define LYAP_BLAS_H

#include "lyap/status.h"

/* Fixes OpenBLAS, which starts with a thread per processor, to one. It is global to the process:
 * the program decides, the library never calls it by itself. */
LYAP_API void lyap_blas_one_thread(void);

#endif
