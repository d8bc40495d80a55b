#ifndef CSYSTEM_SHIM_H
#define CSYSTEM_SHIM_H

#include <pthread.h>

/*
 * The system's header declares this function for _GNU_SOURCE only, which would give types other forms than Swift knows. A name has up to 15 bytes.
 */
extern int pthread_setname_np(pthread_t thread, const char *name);

#endif
