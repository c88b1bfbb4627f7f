#pragma once
/*
 * Inside of an extension, shared by extension.c (its life), router.c (its calls) and manager.c. Not
 * for others: they use manager.h.
 *
 * What `lock` guards may be touched by any thread; the rest belongs to the loop thread.
 */
#include "generation.h"
#include "manager.h"
#include <pthread.h>

typedef struct pyi_settled {
    void (*fn)(void *arg);
    void *arg;
    struct pyi_settled *next;
} pyi_settled;

typedef struct pyi_call_list {
    pyi_call *first, *last;
    unsigned count;
} pyi_call_list;

struct pyi_extension {
    pyi_manager *manager;
    pyi_extension_config *config; // owned
    pthread_mutex_t lock;
    pthread_cond_t changed; /* state or epoch changed */

    /* under lock */
    pyi_state state;
    pyi_generation *current; /* counted; serves calls while READY or DRAINING */
    pyi_error error;         /* the last, PYI_OK: none */
    char *detail;
    bool crash_loop;
    pyi_call_list waiting; /* not sent: not READY yet, or max_concurrency reached */
    pyi_call_list flying;  /* sent */
    int64_t armed;         /* the loop looks for passed deadlines at this time; 0: not armed */
    uint64_t calls, errors;
    unsigned restarts, crashes_in_row;
    int64_t next_start; /* ns, in BACKOFF */
    uint64_t attempt;   /* counts starts that have ended, well or badly: restart waits for one */
    pyi_error attempt_error; /* of the last; PYI_OK: it became READY */
    pyi_settled *settled;
    char env_id[40], env_prefix[1024];

    /* loop thread */
    pyi_generation *starting; /* counted */
    pyi_generation **alive;   /* counted: those that have not ended, replaced ones too */
    unsigned alive_count, alive_cap;
    unsigned number; /* of the last generation */
    pyi_env *env;
    bool preparing, stop_asked, has_served;
    pthread_t preparer;
    int cancel_fd;
    pyi_timer *backoff, *deadlines;
    int64_t grace_ms; /* of the old generation, when a restart replaces it */
};

/* extension.c */
pyi_err pyi_extension_new(pyi_manager *m, pyi_extension_config *config, pyi_extension **ret,
                          pyi_error *e) PYI_MUST_CHECK;
void pyi_extension_start(pyi_extension *x); /* loop thread */
void pyi_extension_free(pyi_extension *x);  /* after its end; loop thread is idle or gone */
void pyi_extension_ask_stop(pyi_extension *x, int64_t grace_ms); /* loop thread */
void pyi_extension_kill(pyi_extension *x);                       /* loop thread */
bool pyi_extension_is_down(pyi_extension *x);                    /* any thread */
void pyi_extension_await_down(pyi_extension *x);                 /* blocks */

/* router.c */
/// Sends what waits, as far as max_concurrency lets it. Any thread, without the lock.
void pyi_router_flush(pyi_extension *x);
/// Ends every waiting call with this error. Any thread, without the lock.
void pyi_router_fail_waiting(pyi_extension *x, const pyi_error *e, const char *detail);

/// Ends the calls that lost their connection when `g` died. After its end, without the lock.
void pyi_router_fail_lost(pyi_extension *x, pyi_generation *g);

/* manager.c */
typedef struct pyi_manager_services {
    pyi_loop *loop;
    const pyi_manager_config *config;
    const pyi_paths *paths;
    const char *socket_dir;
    const pyi_env_progress *progress;
} pyi_manager_services;
const pyi_manager_services *pyi_manager_services_of(const pyi_manager *m);
/// True once the manager is asked to stop: nothing is started any more. Any thread.
bool pyi_manager_is_stopping(pyi_manager *m);
/// At most a few environments are built at once.
void pyi_manager_enter_build(pyi_manager *m);
void pyi_manager_leave_build(pyi_manager *m);
