#ifndef POSTERN_BENCH_CCDB_SHIM_H
#define POSTERN_BENCH_CCDB_SHIM_H
#include <cdb.h>
#endif
