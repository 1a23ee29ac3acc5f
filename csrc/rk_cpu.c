#include "rk.h"
int rk_cpu_level(void){ return (int)-38; }
int rk_cpu_set_level(int level){ return (int)-38; }
