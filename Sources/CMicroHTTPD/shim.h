#ifndef POSTERN_CMICROHTTPD_SHIM_H
#define POSTERN_CMICROHTTPD_SHIM_H
#include <microhttpd.h>

/*
 * MHD_start_daemon(), which is variadic, for a socket that listens; the daemon closes it. Each connection has a thread, so that a callback may
 * take its time: a connection that is suspended instead loses its response if its client half-closes it. NULL if the daemon can't be started.
 */
static inline struct MHD_Daemon *cmicrohttpd_start(
    int listener, MHD_AccessHandlerCallback answer, MHD_RequestCompletedCallback answered,
    MHD_NotifyConnectionCallback connected, void *server, unsigned int connections,
    unsigned int connections_of_address, size_t connection_memory, unsigned int idle_seconds) {
    return MHD_start_daemon(
        MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0, NULL, NULL, answer, server,
        MHD_OPTION_LISTEN_SOCKET, listener,
        MHD_OPTION_NOTIFY_COMPLETED, answered, server, MHD_OPTION_NOTIFY_CONNECTION, connected, server,
        MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT, connections_of_address,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, connection_memory, MHD_OPTION_CONNECTION_TIMEOUT, idle_seconds,
        MHD_OPTION_END);
}

/* The socket of a connection, by MHD_get_connection_info(), which is variadic; -1 if there is none. */
static inline int cmicrohttpd_socket(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info == NULL ? -1 : info->connect_fd;
}

/* A response with a copy of these bytes; MHD_create_response_from_buffer(). NULL without memory. */
static inline struct MHD_Response *cmicrohttpd_response(const void *bytes, size_t size) {
    return MHD_create_response_from_buffer(size, (void *)bytes, MHD_RESPMEM_MUST_COPY);
}
#endif
