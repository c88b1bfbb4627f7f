/*
 * The machine: what the kernel, its limits and its devices allow. The sandbox's parts are warnings
 * for now: extensions run without it until it is built.
 */
#include "doctor_checks.h"
#include "paths.h"
#include "process.h"
#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

enum { HELPER_MS = 10000, LANDLOCK_VERSION = 1, SECCOMP_ACTION_AVAIL = 2, FILES_ENOUGH = 1024 };

static const uint64_t shm_enough = UINT64_C(256) << 20;

void pyi_check_kernel(pyi_findings *f) {
    struct utsname name = {0};
    uname(&name);
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (fd < 0) {
        pyi_finding_remedy(pyi_finding_add(f, "kernel", PYI_LACK, "%s %s has no pidfds (%s)",
                                           name.sysname, name.release, strerror(errno)),
                           "a kernel from 5.4 on, and a container that lets pidfd_open through");
        return;
    }
    close(fd);
    pyi_finding_add(f, "kernel", PYI_FINE, "%s %s %s", name.sysname, name.release, name.machine);
}

void pyi_check_cpu(pyi_findings *f) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    double total = (double)((uint64_t)sysconf(_SC_PHYS_PAGES) * page) / (double)(1 << 30);
    double left = (double)((uint64_t)sysconf(_SC_AVPHYS_PAGES) * page) / (double)(1 << 30);
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    pyi_finding_add(f, "cpu", PYI_FINE, "%ld cpu%s, %.1f GiB of memory, %.1f GiB free", count,
                    count == 1 ? "" : "s", total, left);
}

void pyi_check_limits(pyi_findings *f) {
    struct rlimit files = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < FILES_ENOUGH) {
        pyi_finding_remedy(pyi_finding_add(f, "limits", PYI_WARN, "%llu open files at most",
                                           (unsigned long long)files.rlim_cur),
                           "ulimit -n 4096: each extension takes about 20 in the host");
        return;
    }
    pyi_finding_add(f, "limits", PYI_FINE, "%llu open files", (unsigned long long)files.rlim_cur);
}

void pyi_check_shm(pyi_findings *f) {
    struct statvfs fs = {0};
    if (statvfs("/dev/shm", &fs) != 0) {
        pyi_finding_remedy(pyi_finding_add(f, "shm", PYI_WARN, "/dev/shm: %s", strerror(errno)),
                           "mount a tmpfs there; multiprocessing in extensions needs it");
        return;
    }
    uint64_t size = (uint64_t)fs.f_blocks * fs.f_frsize, left = (uint64_t)fs.f_bavail * fs.f_frsize;
    pyi_finding *item = pyi_finding_add(
        f, "shm", left < shm_enough ? PYI_WARN : PYI_FINE, "/dev/shm: %llu MiB, %llu MiB free",
        (unsigned long long)(size >> 20), (unsigned long long)(left >> 20));
    if (left < shm_enough) {
        pyi_finding_remedy(
            item, "make it larger: docker run --shm-size=2g, or mount -o remount,size=2G /dev/shm");
    }
}

void pyi_check_runtime(pyi_findings *f) {
    char dir[4096];
    pyi_error e = {0};
    if (pyi_runtime_dir(dir, sizeof dir, &e) == PYI_OK) {
        pyi_finding_add(f, "runtime", PYI_FINE, "%.480s", dir);
    } else {
        pyi_finding_remedy(pyi_finding_add(f, "runtime", PYI_LACK, "%s", e.msg),
                           "set XDG_RUNTIME_DIR to a private folder of yours, with a short path");
    }
}

/* ---- the sandbox's parts --------------------------------------------------------------------- */

void pyi_check_bwrap(pyi_findings *f) {
    const char *const argv[] = {"bwrap",
                                "--ro-bind",
                                "/",
                                "/",
                                "--unshare-user",
                                "--unshare-pid",
                                "--unshare-net",
                                "--unshare-ipc",
                                "--",
                                "true",
                                NULL};
    pyi_process p = {.argv = argv, .timeout_ms = HELPER_MS, .cancel_fd = -1};
    pyi_process_result result = {0};
    pyi_error e = {0};
    pyi_err err = pyi_process_run(&p, &result, &e);
    if (err == PYI_ENOTFOUND) {
        pyi_finding_remedy(pyi_finding_add(f, "bwrap", PYI_WARN, "bubblewrap is not installed"),
                           "apt-get install bubblewrap; the sandbox will need it");
    } else if (err != PYI_OK || result.status != 0) {
        const char *words = err != PYI_OK ? e.msg : result.err;
        pyi_finding_remedy(
            pyi_finding_add(f, "bwrap", PYI_WARN, "namespaces are refused: %.*s",
                            (int)strcspn(words, "\n"), words),
            "allow user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0 or "
            "user.max_user_namespaces=10000; in a container: its seccomp profile");
    } else {
        pyi_finding_add(f, "bwrap", PYI_FINE, "user, pid, net and ipc namespaces work (tried)");
    }
    pyi_process_result_fini(&result);
}

void pyi_check_seccomp(pyi_findings *f) {
    uint32_t kill_process = 0x80000000u; // SECCOMP_RET_KILL_PROCESS
    if (syscall(SYS_seccomp, SECCOMP_ACTION_AVAIL, 0, &kill_process) == 0) {
        pyi_finding_add(f, "seccomp", PYI_FINE, "filters work");
    } else {
        pyi_finding_remedy(
            pyi_finding_add(f, "seccomp", PYI_WARN, "no filters: %s", strerror(errno)),
            "a kernel with CONFIG_SECCOMP_FILTER; the sandbox will need it");
    }
}

void pyi_check_landlock(pyi_findings *f) {
    long abi = syscall(444 /* landlock_create_ruleset */, NULL, 0, LANDLOCK_VERSION);
    if (abi > 0) {
        pyi_finding_add(f, "landlock", PYI_FINE, "ABI %ld", abi);
    } else {
        pyi_finding_remedy(
            pyi_finding_add(f, "landlock", PYI_WARN, "off: %s", strerror(errno)),
            "add landlock to the kernel's lsm= list; it is the sandbox's second layer");
    }
}

/* The cgroup v2 folder of this process, or "" where there is none. */
static void own_cgroup(char *ret, size_t size) {
    char line[2048];
    ret[0] = '\0';
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "0::", 3) == 0) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(ret, size, "/sys/fs/cgroup%s", line + 3);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

void pyi_check_cgroup(pyi_findings *f) {
    char own[2200];
    own_cgroup(own, sizeof own);
    bool v2 = access("/sys/fs/cgroup/cgroup.controllers", R_OK) == 0;
    if (v2 && own[0] != '\0' && access(own, W_OK) == 0) {
        pyi_finding_add(f, "cgroup", PYI_FINE, "v2, writable: %.400s", own);
    } else if (access("/sys/fs/cgroup/memory", W_OK) == 0 &&
               access("/sys/fs/cgroup/pids", W_OK) == 0) {
        pyi_finding_add(f, "cgroup", PYI_FINE, "v1, memory and pids are writable");
    } else {
        pyi_finding_remedy(
            pyi_finding_add(f, "cgroup", PYI_WARN, "%s, not writable for this user",
                            v2 ? "v2" : "v1 or none"),
            "systemd-run --user --scope -p Delegate=yes pyisolate-host ...: limits of memory and "
            "processes will need it");
    }
}

/* ---- GPU ------------------------------------------------------------------------------------- */

static bool loads(const char *name) {
    void *library = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    if (library != NULL) {
        dlclose(library);
    }
    return library != NULL;
}

void pyi_check_gpu(pyi_findings *f) {
    glob_t devices = {0};
    size_t count = glob("/dev/nvidia[0-9]*", 0, NULL, &devices) == 0 ? devices.gl_pathc : 0;
    globfree(&devices);
    bool driver = loads("libcuda.so.1");
    bool runtime = loads("libcudart.so") || loads("libcudart.so.12") || loads("libcudart.so.13");
    if (count == 0 && !driver) {
        pyi_finding_add(f, "gpu", PYI_FINE, "none: tensors stay on the cpu");
    } else if (count == 0 || !driver) {
        pyi_finding_remedy(pyi_finding_add(f, "gpu", PYI_WARN, "%zu device%s, libcuda.so.1 %s",
                                           count, count == 1 ? "" : "s",
                                           driver ? "found" : "not found"),
                           "install the driver; in a container: --gpus all");
    } else {
        pyi_finding_add(f, "gpu", PYI_FINE, "%zu device%s, libcuda.so.1, CUDA runtime %s", count,
                        count == 1 ? "" : "s",
                        runtime ? "found" : "not found (torch brings its own)");
    }
}
