/* OpenBLAS on one thread. */
#include "lyap/blas.h"

#include <cblas.h>

void lyap_blas_one_thread(void)
{
    openblas_set_num_threads(1);
}
