#ifndef POSTERN_CLDAP_SHIM_H
#define POSTERN_CLDAP_SHIM_H
#include <lber.h>
#include <ldap.h>
#include <openldap.h>
#include <sasl/sasl.h>

/* Macros that Swift doesn't import: casts and addresses. */
static inline void *postern_ldap_opt_on(void) { return LDAP_OPT_ON; }
static inline void *postern_ldap_opt_off(void) { return LDAP_OPT_OFF; }

static const int postern_ldap_opt_result_code = LDAP_OPT_RESULT_CODE;
static const int postern_ldap_tls_1_2 = LDAP_OPT_X_TLS_PROTOCOL_TLS1_2;
static const int postern_ldap_connecting = LDAP_X_CONNECTING;
static const int postern_ldap_msg_one = LDAP_MSG_ONE;
static const ber_tag_t postern_ldap_res_search_entry = LDAP_RES_SEARCH_ENTRY;
static const ber_tag_t postern_ldap_res_search_reference = LDAP_RES_SEARCH_REFERENCE;
static const ber_tag_t postern_ldap_res_search_result = LDAP_RES_SEARCH_RESULT;
static const ber_tag_t postern_ldap_res_intermediate = LDAP_RES_INTERMEDIATE;
static const int postern_ldap_scope_base = LDAP_SCOPE_BASE;
static const int postern_ldap_scope_subtree = LDAP_SCOPE_SUBTREE;

/* Has the socket read ahead up to so many octets, below TLS: libldap would read each message in two pieces and wait for it with a
 * call of its own. Returns 0, or -1 where it can't be done. */
static inline int postern_ldap_read_ahead(LDAP *ld, int size)
{
    Sockbuf *buffer = NULL;
    if (ldap_get_option(ld, LDAP_OPT_SOCKBUF, &buffer) != LDAP_OPT_SUCCESS || !buffer) return -1;
    return ber_sockbuf_add_io(buffer, &ber_sockbuf_io_readahead, LBER_SBIOD_LEVEL_PROVIDER, &size);
}

/* Has messages of more than so many bytes refused before they are read: reading one then fails with errno ERANGE. Returns 0, or -1 where
 * it can't be done. */
static inline int postern_ldap_limit_incoming(LDAP *ld, ber_len_t size)
{
    Sockbuf *buffer = NULL;
    if (ldap_get_option(ld, LDAP_OPT_SOCKBUF, &buffer) != LDAP_OPT_SUCCESS || !buffer) return -1;
    return ber_sockbuf_ctrl(buffer, LBER_SB_OPT_SET_MAX_INCOMING, &size) > 0 ? 0 : -1;
}

/* What SASL asks during a bind without a person: every question gets its default, which may be nothing. */
static inline int postern_sasl_take_defaults(LDAP *ld, unsigned flags, void *defaults, void *interact)
{
    (void)ld;
    (void)flags;
    (void)defaults;
    for (sasl_interact_t *question = interact; question->id != SASL_CB_LIST_END; question++) {
        question->result = question->defresult ? question->defresult : "";
        question->len = 0;
        for (const char *c = (const char *)question->result; *c; c++) question->len++;
    }
    return LDAP_SUCCESS;
}

/* A SASL bind that answers no questions; with mechanism GSSAPI, from a ticket or a keytab. */
static inline int postern_ldap_sasl_bind(LDAP *ld, const char *mechanism)
{
    return ldap_sasl_interactive_bind_s(
        ld, NULL, mechanism, NULL, NULL, LDAP_SASL_QUIET, postern_sasl_take_defaults, NULL);
}
#endif
