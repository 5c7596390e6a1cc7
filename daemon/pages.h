/* pages.h - memory of liblyap's large buffers. THREADS: before any other thread is started. */
#ifndef LYAP_DAEMON_PAGES_H
#define LYAP_DAEMON_PAGES_H

/* From now on the snapshots that are kept lie on huge pages where the system has them to give. */
void lyap_pages_install(void);

#endif
