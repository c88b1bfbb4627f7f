#pragma once
/*
 * The library's own thread: epoll over pidfds and pipes, timers, and work posted by other threads.
 * Children are spawned from it and from nowhere else (PDEATHSIG follows the spawning thread).
 * watch and timer functions: loop thread only. post: any thread.
 */
#include "pyi_error.h"

typedef struct pyi_loop pyi_loop;
typedef struct pyi_watch pyi_watch;
typedef struct pyi_timer pyi_timer;

pyi_err pyi_loop_new(pyi_loop **ret, pyi_error *e) PYI_MUST_CHECK; /* starts the thread */
/// Runs what has been posted, then ends the thread. Not from the loop thread.
void pyi_loop_free(pyi_loop *l);
bool pyi_loop_is_current(const pyi_loop *l);

/// Runs fn(arg) on the loop thread, in the order of posting. Never fails (aborts on out-of-memory).
void pyi_loop_post(pyi_loop *l, void (*fn)(void *arg), void *arg);
/// The same, and waits until it has run. On the loop thread itself: runs it at once.
void pyi_loop_run(pyi_loop *l, void (*fn)(void *arg), void *arg);

/// Calls fn when fd has one of `events` (EPOLLIN...). The descriptor is borrowed until unwatch.
pyi_err pyi_loop_watch(pyi_loop *l, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events),
                       void *arg, pyi_watch **ret, pyi_error *e) PYI_MUST_CHECK;
void pyi_loop_rewatch(pyi_watch *w, uint32_t events);
void pyi_loop_unwatch(pyi_watch *w); /* NULL is fine; safe inside its own callback */

/// Calls fn once after `ms`. The timer frees itself when it fires or is cancelled.
pyi_timer *pyi_loop_after(pyi_loop *l, int64_t ms, void (*fn)(void *arg), void *arg);
void pyi_loop_cancel(pyi_timer *t); /* NULL is fine; not after it fired */
