/* budget.h - a shared count of bytes with an upper end. THREADS: any. */
#ifndef LYAP_API_BUDGET_H
#define LYAP_API_BUDGET_H

#include <stdatomic.h>
#include <stddef.h>

struct api_budget {
    _Atomic size_t used;
    size_t bytes_max;
};

#endif
