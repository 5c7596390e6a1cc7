/* banned.h - calls that do not compile in lib/: memory comes from alloc.h alone.
 * Include last, after the system headers. */
#ifndef LYAP_BANNED_H
#define LYAP_BANNED_H

#if defined(__GNUC__)
#pragma GCC poison malloc calloc realloc free strdup strcpy strcat sprintf gets
#endif

#endif
