#ifndef POSTERN_CMILTER_SHIM_H
#define POSTERN_CMILTER_SHIM_H


#include <errno.h>
#include <libmilter/mfapi.h>
#include <libmilter/mfdef.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/*
 * libmilter's engine, which parses packets, keeps the state of a conversation and calls the filter. No header declares it, but libmilter
 * exports it, at least from 8.14 to 8.18. With the engine alone, the server needs neither libmilter's listener nor its threads: these spin
 * when the process has no descriptor left, occupy a thread for every half packet, and lose a connection if no thread can be started.
 *
 * The engine reads and writes packets by mi_rd_cmd() and mi_wr_cmd(). The server defines these functions in place of libmilter's own.
 */
extern int mi_engine(SMFICTX *context);
extern void mi_clr_ctx(SMFICTX *context);

/*
 * The head of libmilter's struct smfi_str, private to libmilter/libmilter.h and unchanged from 8.14 to 8.18.
 *
 * The server needs it to create a context and to read macros: smfi_getsymval() reads names and values in pairs, and runs past the end of the
 * list if the MTA has sent an odd number of strings. Garbage on the socket would make it follow a stray pointer.
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

/* libmilter's structure has some 350 bytes; those after the fields above are zero until libmilter writes them. */
enum { cmilter_context_size = 1024 };

/* Values that mi_rd_cmd() returns in place of a command; both end mi_engine(). */
enum { cmilter_end_of_input = 5, cmilter_packet_too_large = 7 };

/*
 * A context for mi_engine(), to be freed by cmilter_end(); NULL if there is no memory. The engine passes the context's timeout to mi_rd_cmd()
 * and mi_wr_cmd() and doesn't use it otherwise: so the timeout holds the owner, which tells them whose packets to read and write.
 */
static inline SMFICTX *cmilter_begin(void *owner, struct smfiDesc *filter) {
    struct cmilter_context *made = (struct cmilter_context *)calloc(1, cmilter_context_size);
    if (made == NULL) return NULL;
    made->socket = -1;
    made->timeout = (time_t)(intptr_t)owner;
    made->filter = filter;
    /* As libmilter's listener sets it for missing callbacks. */
    made->steps = SMFIP_NOHDRS | SMFIP_NOEOH | SMFIP_NOBODY | SMFIP_NODATA | SMFIP_NOUNKNOWN;
    return (SMFICTX *)made;
}

static inline void cmilter_end(SMFICTX *context) {
    ((struct cmilter_context *)context)->socket = -1;
    ((struct cmilter_context *)context)->private_data = NULL;
    mi_clr_ctx(context);
}

/* The owner given to cmilter_begin(). */
static inline void *cmilter_owner(SMFICTX *context) {
    return (void *)(intptr_t)((const struct cmilter_context *)context)->timeout;
}

/* Sets the descriptor that the engine polls before it reads a packet; with a file that is always readable, it reads at once. */
static inline void cmilter_set_socket(SMFICTX *context, int descriptor) {
    ((struct cmilter_context *)context)->socket = descriptor;
}

/* Whether libmilter has the layout above; called in xxfi_connect after smfi_setpriv(context, marker). */
static inline int cmilter_knows(SMFICTX *context, const void *marker) {
    const struct cmilter_context *known = (const struct cmilter_context *)context;
    enum { in_connect = 2 };
    return known->private_data == marker && known->state == in_connect;
}

/* Like smfi_getsymval(), but checks that a macro has both strings; the name is compared with its braces. */
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

/* The system's headers declare these for _GNU_SOURCE only, which would give their types other forms than Swift knows. */
extern int accept4(int descriptor, struct sockaddr *address, socklen_t *length, int flags);
extern int memfd_create(const char *name, unsigned int flags);

/* accept4(2); the descriptor is non-blocking and closed at exec. */
static inline int cmilter_accept(int descriptor) {
    return accept4(descriptor, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/* A file that poll(2) always finds readable. */
static inline int cmilter_ready_file(void) { return memfd_create("milter", 1 /* MFD_CLOEXEC */); }

/* smfi_setreply() and smfi_setsymlist() don't change their strings, though they aren't declared const. */
static inline int cmilter_setreply(SMFICTX *context, const char *code, const char *enhanced, const char *text) {
    return smfi_setreply(context, (char *)(size_t)code, (char *)(size_t)enhanced, (char *)(size_t)text);
}

static inline int cmilter_setsymlist(SMFICTX *context, int stage, const char *names) {
    return smfi_setsymlist(context, stage, (char *)(size_t)names);
}

/*
 * Signals. Each object file that includes this header has variables of its own: call these functions from one Swift file only.
 */
static int cmilter_signal_pipe = -1;
/* 1 where signals are caught, -1 before. */
static int cmilter_armed = -1;
/* When the first signal came, in seconds of the steady clock; -1 before. */
static long cmilter_first_signal = -1;

/* Writes the first signal to the pipe. A signal more than a second later ends the process at once, as does any signal before the handler is
   armed. Within the second, signals are ignored: some programs send a signal twice. */
static void cmilter_signal_handler(int number) {
    int saved = errno;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (cmilter_armed < 0 || (cmilter_first_signal >= 0 && now.tv_sec - cmilter_first_signal > 1)) {
        signal(number, SIG_DFL);
        raise(number);
    } else if (cmilter_first_signal < 0) {
        unsigned char byte = (unsigned char)number;
        ssize_t written = write(cmilter_signal_pipe, &byte, 1);
        (void)written;
        cmilter_first_signal = now.tv_sec;
    }
    errno = saved;
}

/* Writes the first SIGTERM or SIGINT to the pipe from now on. */
static inline void cmilter_arm_signals(void) { cmilter_armed = 1; }

/* Handles SIGTERM and SIGINT as above, ignores SIGHUP and SIGPIPE, blocks SIGUSR1; returns a signalfd for SIGUSR1, or -1. */
static inline int cmilter_catch_signals(int pipe_end) {
    struct sigaction action;
    sigset_t set;
    cmilter_signal_pipe = pipe_end;
    memset(&action, 0, sizeof action);
    action.sa_handler = cmilter_signal_handler;
    action.sa_flags = SA_RESTART;
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

#endif
