/* names.h - look-up of a word in a static table; absent words yield -1. THREADS: pure. */
#ifndef LYAP_NAMES_H
#define LYAP_NAMES_H

#include <stddef.h>
#include <string.h>

#define LYAP_NAMES_FIND(table, word)                                                               \
    lyap_names_find((table), sizeof(table) / sizeof *(table), (word))

static inline int lyap_names_find(const char *const *table, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(table[i], word) == 0)
            return (int)i;
    return -1;
}

#endif
