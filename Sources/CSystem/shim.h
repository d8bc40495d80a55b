#ifndef CSYSTEM_SHIM_H
#define CSYSTEM_SHIM_H

#include <pthread.h>

/*
 * glibc declares this function for _GNU_SOURCE only, which would make other types of the system's headers than Swift has. Up to 15 bytes.
 */
extern int pthread_setname_np(pthread_t thread, const char *name);

#endif
