#include "rk.h"
int rk_ns_unshare(uint32_t namespaces){ return (int)-38; }
int rk_ns_enter(int fd, uint32_t kind){ return (int)-38; }
int rk_ns_die_with_parent(int parent_pid){ return (int)-38; }
int rk_ns_mount_proc(void){ return (int)-38; }
