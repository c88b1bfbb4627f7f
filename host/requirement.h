#pragma once
/*
 * One requirement as a configuration writes it: "numpy>=2.0", "/abs/folder[extra]", "-e
 * /abs/folder", "name @ file:///abs/x.whl". Any thread; reads files only where a local project must
 * be named.
 */
#include "list.h"
#include "pyi_error.h"

/// Refuses what could smuggle an option or a second line into an installer's input.
pyi_err pyi_requirement_check(const char *requirement, pyi_error *e) PYI_MUST_CHECK;
/// The same requirement always in the same words; NULL on out-of-memory. To be freed by the caller.
char *pyi_requirement_normal(const char *requirement);
/// What follows "-e", or NULL if it is not editable. Borrowed.
const char *pyi_requirement_editable(const char *requirement);
/// The local file or folder it names, or NULL. To be freed by the caller.
char *pyi_requirement_path(const char *requirement);
/// Whether it is pyisolate itself, which the runtime provides.
bool pyi_requirement_is_runtime(const char *requirement);
/// Adds the names that the local file or folder of a requirement may have as a project: none if it
/// computes its name.
void pyi_requirement_project_names(const char *requirement, pyi_list *names);
/// Replaces user and password in every URL of `text`, in place: for what is shown or stored.
void pyi_redact(char *text);
