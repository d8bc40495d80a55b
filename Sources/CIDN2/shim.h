#ifndef POSTERN_CIDN2_SHIM_H
#define POSTERN_CIDN2_SHIM_H
#include <idn2.h>
#endif
