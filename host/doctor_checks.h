#pragma once
/* The checks of the doctor, in the order in which they are shown. */
#include "doctor.h"

/* doctor_system.c: the machine */
void pyi_check_kernel(pyi_findings *f);
void pyi_check_cpu(pyi_findings *f);
void pyi_check_limits(pyi_findings *f);
void pyi_check_shm(pyi_findings *f);
void pyi_check_runtime(pyi_findings *f);
void pyi_check_bwrap(pyi_findings *f);
void pyi_check_seccomp(pyi_findings *f);
void pyi_check_landlock(pyi_findings *f);
void pyi_check_cgroup(pyi_findings *f);
void pyi_check_gpu(pyi_findings *f);

/* doctor_python.c: Pythons, packages, our own pieces */
void pyi_check_child(pyi_findings *f);
void pyi_check_pythons(pyi_findings *f);
void pyi_check_uv(pyi_findings *f);
void pyi_check_indexes(pyi_findings *f);
