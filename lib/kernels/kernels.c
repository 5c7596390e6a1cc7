/* Choice of the kernels by what the CPU has. */
#include "kernels/kernels.h"

#include <stdbool.h>

extern const struct lyap_kernels lyap_kernels_base;

#if defined(LYAP_KERNELS_X86)
extern const struct lyap_kernels lyap_kernels_avx2;
extern const struct lyap_kernels lyap_kernels_avx512;

/* The lists are the -m flags of lib/CMakeLists.txt. The compiler's run-time asks CPUID and the
 * operating system (saved registers) once, before main. */
static bool has_avx512(void)
{
    return __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw");
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("avx2");
}
#endif

const struct lyap_kernels *lyap_kernels_variant(unsigned index)
{
    const struct lyap_kernels *variants[3];
    unsigned count = 0;
#if defined(LYAP_KERNELS_X86)
    if (has_avx512())
        variants[count++] = &lyap_kernels_avx512;
    if (has_avx2())
        variants[count++] = &lyap_kernels_avx2;
#endif
    variants[count++] = &lyap_kernels_base;
    return index < count ? variants[index] : NULL;
}

const struct lyap_kernels *lyap_kernels_best(void)
{
    return lyap_kernels_variant(0);
}
