#ifndef POSTERN_CMILTER_SHIM_H
#define POSTERN_CMILTER_SHIM_H

#include <errno.h>
#include <libmilter/mfapi.h>
#include <libmilter/mfdef.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * The head of libmilter's struct smfi_str, private to libmilter/libmilter.h and unchanged from 8.14 to 8.18.
 *
 * smfi_getsymval() walks the macros two strings at a time and runs past the end of the list when the MTA sent an odd
 * number of them: garbage on the socket then makes it follow a stray pointer. So the walk is done here, with a check of
 * both strings, once cmilter_knows() has found the layout to be this one.
 */
struct cmilter_context {
    pthread_t id;
    int socket;
    int debug;
    time_t timeout;
    int state;
    void *filter;
    int version;
    unsigned long actions;
    unsigned long steps;
    unsigned long steps_to_mta;
    int version_to_mta;
    char **macros[SMFIM_LAST + 1];
    char *macro_buffers[SMFIM_LAST + 1];
    char *macro_lists[SMFIM_LAST + 1];
    char *reply;
    void *private_data;
};

/* What libmilter calls the state of a connection from within these callbacks. */
enum cmilter_state { cmilter_in_negotiate = 1, cmilter_in_connect = 2 };

/* Whether the layout above fits, seen from such a callback after smfi_setpriv(context, marker). */
static inline int cmilter_knows(SMFICTX *context, const void *marker, enum cmilter_state state) {
    const struct cmilter_context *known = (const struct cmilter_context *)context;
    return known->private_data == marker && known->state == (int)state;
}

/* The socket of a connection, for a context that cmilter_knows(). */
static inline int cmilter_socket(SMFICTX *context) { return ((const struct cmilter_context *)context)->socket; }

/* smfi_getsymval() for a context that cmilter_knows(); a name is matched as it is given, with its braces. */
static inline const char *cmilter_macro(SMFICTX *context, const char *name) {
    const struct cmilter_context *known = (const struct cmilter_context *)context;
    for (int stage = SMFIM_LAST; stage >= SMFIM_FIRST; --stage) {
        char **strings = known->macros[stage];
        if (strings == NULL || known->macro_buffers[stage] == NULL) continue;
        for (; strings[0] != NULL && strings[1] != NULL; strings += 2) {
            if (strcmp(strings[0], name) == 0) return strings[1];
        }
    }
    return NULL;
}

/* smfi_getsymval(), smfi_setreply() and smfi_setconn() change none of their strings, but don't say so. */
static inline const char *cmilter_getsymval(SMFICTX *context, const char *name) {
    return smfi_getsymval(context, (char *)(size_t)name);
}

static inline int cmilter_setreply(SMFICTX *context, const char *code, const char *enhanced, const char *text) {
    return smfi_setreply(context, (char *)(size_t)code, (char *)(size_t)enhanced, (char *)(size_t)text);
}

static inline int cmilter_setsymlist(SMFICTX *context, int stage, const char *names) {
    return smfi_setsymlist(context, stage, (char *)(size_t)names);
}

static inline int cmilter_setconn(const char *address) { return smfi_setconn((char *)(size_t)address); }

/* libmilter's own word on whether it was told to stop; not in its headers, so it may be missing. */
extern int mi_stop(void) __attribute__((weak));

static inline int cmilter_was_stopped(void) { return mi_stop != NULL && mi_stop() != 0; }

/* The calling thread's id, asked of the kernel once a thread. */
static inline int cmilter_thread(void) {
    static __thread int id;
    if (id == 0) id = (int)syscall(SYS_gettid);
    return id;
}

/*
 * Signals. The variable is one for each object file that uses it: call these two from a single Swift file.
 */
static int cmilter_signal_pipe = -1;

static void cmilter_signal_handler(int number) {
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t written = write(cmilter_signal_pipe, &byte, 1);
    (void)written;
    errno = saved;
}

/* Has SIGTERM and SIGINT written to the pipe, ignores SIGHUP and SIGPIPE, blocks SIGUSR1; a signalfd for SIGUSR1 or -1. */
static inline int cmilter_catch_signals(int pipe_end) {
    struct sigaction action;
    sigset_t set;
    cmilter_signal_pipe = pipe_end;
    memset(&action, 0, sizeof action);
    action.sa_handler = cmilter_signal_handler;
    action.sa_flags = SA_RESTART | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* Makes the kernel drop further SIGTERM and SIGINT. */
static inline void cmilter_ignore_stop_signals(void) {
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
}

#endif
