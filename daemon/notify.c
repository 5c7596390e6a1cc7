/* sd_notify. */
#include "notify.h"

#include <systemd/sd-daemon.h>
#include <time.h>

void lyap_notify_ready(const char *url)
{
    (void)sd_notifyf(0, "READY=1\nSTATUS=listening on %s", url);
}

void lyap_notify_reloading(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld",
                     (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

void lyap_notify_stopping(void)
{
    (void)sd_notify(0, "STOPPING=1");
}

uint64_t lyap_notify_interval_us(void)
{
    uint64_t usec = 0;
    return sd_watchdog_enabled(0, &usec) > 0 ? usec / 2 : 0;
}

void lyap_notify_alive(void)
{
    (void)sd_notify(0, "WATCHDOG=1");
}
