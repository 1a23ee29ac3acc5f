/* Privileges: each step in a child process, judged by what the kernel says of it afterwards. */
#include "rk_test.h"

#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>

/* The value of a line of /proc/self/status, as a hexadecimal number. */
static unsigned long long status(const char *name)
{
    char line[256];
    unsigned long long value = ~0ULL;
    FILE *file = fopen("/proc/self/status", "re");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtoull(line + strlen(name) + 1, NULL, 16);
    if (file)
        fclose(file);
    return value;
}

static void check_bounds(void)
{
    bool allowed = status("CapEff") >> 8 & 1; /* CAP_SETPCAP */
    EXPECT(rk_priv_drop_bounds(), allowed || status("CapBnd") == 0 ? 0 : -EPERM);
    if (allowed)
        EXPECT(status("CapBnd"), 0);
}

static void check_all(void)
{
    EXPECT(rk_priv_drop_all(), 0);
    EXPECT(status("CapInh") | status("CapPrm") | status("CapEff") | status("CapAmb"), 0);
    EXPECT(status("NoNewPrivs"), 1);
    EXPECT(rk_priv_drop_all(), 0);
    EXPECT(rk_priv_drop_bounds(), status("CapBnd") == 0 ? 0 : -EPERM);
    EXPECT(unshare(CLONE_NEWNET), -1);
}

static void in_child(void (*check)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        check();
        fflush(stderr);
        exit(result()); /* not _exit: what was reached is to be counted */
    }
    int code = -1;
    EXPECT(pid > 0 && waitpid(pid, &code, 0) == pid, 1);
    EXPECT(code, 0);
}

int main(void)
{
    in_child(check_bounds);
    in_child(check_all);
    return result();
}
