#include "rk.h"
