/* Wire names of tensor roles. */
#include "lyap/role.h"

#include <string.h>

static const char *const names[LYAP_ROLE_COUNT] = {
#define ROW(name, wire, text) wire,
    LYAP_ROLE_TABLE(ROW)
#undef ROW
};

const char *lyap_role_name(enum lyap_role role)
{
    return (unsigned)role < LYAP_ROLE_COUNT ? names[role] : "unknown";
}

bool lyap_role_parse(const char *name, unsigned long length, enum lyap_role *ret_role)
{
    for (unsigned i = 0; i < LYAP_ROLE_COUNT; i++) {
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) {
            *ret_role = (enum lyap_role)i;
            return true;
        }
    }
    return false;
}

const char *lyap_role_list(void)
{
    return "param, grad, delta, exp_avg, exp_avg_sq, probe_grad, same_batch_grad, pair_s, pair_y, "
           "act, "
           "act_perturbed, gate, anchor";
}
