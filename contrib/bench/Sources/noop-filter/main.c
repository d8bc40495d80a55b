/* A filter that decides nothing, to measure the cost of the milter protocol and of libmilter.
 *
 * usage: noop-filter SOCKET [REPLY]
 *
 * Like Postern it gives no answer at connect, HELO and MAIL, and wants no step after the envelope. It answers each RCPT
 * with REPLY (such as "550 5.1.1 User unknown"), or with continue if there is none. */
#include <libmilter/mfapi.h>
#include <stdio.h>
#include <string.h>

static char code[4];
static char enhanced[16];
static char text[256];

static sfsistat on_recipient(SMFICTX *context, char **arguments)
{
    (void)arguments;
    if (code[0] == '\0')
        return SMFIS_CONTINUE;
    smfi_setreply(context, code, enhanced, text);
    return code[0] == '4' ? SMFIS_TEMPFAIL : SMFIS_REJECT;
}

/* A command without an answer is received nevertheless, as by Postern. */
static sfsistat on_connect(SMFICTX *context, char *name, _SOCK_ADDR *address)
{
    (void)context, (void)name, (void)address;
    return SMFIS_NOREPLY;
}

static sfsistat on_helo(SMFICTX *context, char *name)
{
    (void)context, (void)name;
    return SMFIS_NOREPLY;
}

static sfsistat on_sender(SMFICTX *context, char **arguments)
{
    (void)context, (void)arguments;
    return SMFIS_NOREPLY;
}

static sfsistat on_negotiate(SMFICTX *context, unsigned long f0, unsigned long f1, unsigned long f2, unsigned long f3,
                             unsigned long *pf0, unsigned long *pf1, unsigned long *pf2, unsigned long *pf3)
{
    const unsigned long wanted = SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NODATA | SMFIP_NOHDRS
                                 | SMFIP_NOEOH | SMFIP_NOBODY | SMFIP_NOUNKNOWN;
    (void)context, (void)f0, (void)f2, (void)f3;
    *pf0 = 0;
    *pf1 = wanted & f1;
    *pf2 = *pf3 = 0;
    return SMFIS_CONTINUE;
}

int main(int count, char **arguments)
{
    struct smfiDesc filter = {
        .xxfi_name = "noop-filter",
        .xxfi_version = SMFI_VERSION,
        .xxfi_connect = on_connect,
        .xxfi_helo = on_helo,
        .xxfi_envfrom = on_sender,
        .xxfi_envrcpt = on_recipient,
        .xxfi_negotiate = on_negotiate,
    };
    if (count < 2) {
        fprintf(stderr, "usage: noop-filter SOCKET [REPLY]\n");
        return 64;
    }
    if (count > 2 && sscanf(arguments[2], "%3s %15s %255[^\n]", code, enhanced, text) != 3) {
        fprintf(stderr, "noop-filter: not a reply: %s\n", arguments[2]);
        return 64;
    }
    if (smfi_register(filter) != MI_SUCCESS || smfi_setconn(arguments[1]) != MI_SUCCESS) {
        fprintf(stderr, "noop-filter: %s\n", arguments[1]);
        return 69;
    }
    return smfi_main() == MI_SUCCESS ? 0 : 70;
}
