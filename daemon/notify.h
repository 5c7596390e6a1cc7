/* notify.h - what systemd is told (Type=notify, watchdog). Without systemd nothing happens.
 * THREADS: main. */
#ifndef LYAP_NOTIFY_H
#define LYAP_NOTIFY_H

#include <stdint.h>

void lyap_notify_ready(const char *url);
void lyap_notify_reloading(void);
void lyap_notify_stopping(void);
/* Microseconds between two lyap_notify_alive; 0: no watchdog was asked for. */
uint64_t lyap_notify_interval_us(void);
void lyap_notify_alive(void);

#endif
