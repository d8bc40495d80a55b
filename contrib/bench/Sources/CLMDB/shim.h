#ifndef POSTERN_BENCH_CLMDB_SHIM_H
#define POSTERN_BENCH_CLMDB_SHIM_H
#include <lmdb.h>
#endif
