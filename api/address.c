/* Numeric listen addresses. */
#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

enum lyap_status api_address_parse(const char *host, uint16_t port, struct api_address *ret_address,
                                   struct lyap_error *reterr)
{
    struct in_addr four;
    struct in6_addr six;
    struct api_address address = { 0 };
    const char *numeric = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    if (inet_pton(AF_INET, numeric, &four) == 1) {
        const struct sockaddr_in in = { .sin_family = AF_INET,
                                        .sin_port = htons(port),
                                        .sin_addr = four };
        memcpy(&address.socket, &in, sizeof in);
        address.is_loopback = ntohl(four.s_addr) >> 24 == 127;
    } else if (inet_pton(AF_INET6, numeric, &six) == 1) {
        const struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
                                          .sin6_port = htons(port),
                                          .sin6_addr = six };
        memcpy(&address.socket, &in6, sizeof in6);
        address.is_ipv6 = true;
        address.is_loopback = IN6_IS_ADDR_LOOPBACK(&six);
    } else {
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "listen address '%.64s' is not a numeric IPv4 or IPv6 address", host);
    }
    *ret_address = address;
    return LYAP_OK;
}
