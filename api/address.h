/* address.h - the address to listen on. THREADS: pure functions. */
#ifndef LYAP_API_ADDRESS_H
#define LYAP_API_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "lyap/status.h"

struct api_address {
    struct sockaddr_storage socket;
    bool is_ipv6, is_loopback;
};
/* `host` is a numeric IPv4 or IPv6 address or "localhost". E_INVALID. */
LYAP_MUST_CHECK enum lyap_status api_address_parse(const char *host, uint16_t port,
                                                   struct api_address *ret_address,
                                                   struct lyap_error *reterr);

#endif
