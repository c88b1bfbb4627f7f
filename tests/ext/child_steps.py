"""What the tests of the child call: each method proves one thing and returns 1 if it holds."""

import contextvars
import os
import sys
import threading

stopped = 0
_seen = contextvars.ContextVar("seen", default=0)


def asyncio_is_absent():
    return int("asyncio" not in sys.modules)


async def never_suspends():
    return int("asyncio" not in sys.modules)


async def adopted_in_first_step():
    import asyncio

    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.01)
    return int(task is not None and task is asyncio.current_task() and loop is asyncio.get_running_loop())


async def timeout_in_first_step():
    import asyncio

    try:
        await asyncio.wait_for(asyncio.sleep(60), 0.01)
    except asyncio.TimeoutError:  # another class than TimeoutError before 3.11
        return 1


def loop_runs_around_def():
    import asyncio

    return int(asyncio.get_running_loop().is_running())


async def context_is_private():
    _seen.set(_seen.get() + 1)
    return _seen.get()


class _Odd:
    def __await__(self):
        yield "not a future"


async def awaits_something_odd():
    await _Odd()


async def exits():
    sys.exit(3)


async def exits_later():
    import asyncio

    await asyncio.sleep(0)
    sys.exit(3)


async def spins():
    global stopped
    import asyncio

    await asyncio.sleep(0)
    try:
        while True:
            pass
    except BaseException:
        stopped += 1
        raise


async def waits():
    global stopped
    import asyncio

    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        stopped += 1
        raise


def blocks():
    global stopped
    import time

    try:
        while True:
            time.sleep(0.001)
    except BaseException:
        stopped += 1
        raise


def interrupted():
    return stopped


def in_main_thread():
    return int(threading.current_thread() is threading.main_thread())


async def async_in_main_thread():
    return int(threading.current_thread() is threading.main_thread())


def fork_that_returns():
    pid = os.fork()
    if pid == 0:
        return 0
    return int(os.waitpid(pid, 0)[1] == 0)


def _run_loop():
    import asyncio

    return asyncio.run(asyncio.sleep(0, 1))


def asyncio_in_forked_process():
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_run_loop)


def spawned_process_imports_us():
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(asyncio_is_absent)


def imports_slowly():
    folder = os.path.dirname(os.path.abspath(__file__))
    if folder not in sys.path:
        sys.path.append(folder)
    import slow_package

    return int(slow_package.__all__ == ["ONE", "TWO"])


def pid():
    return os.getpid()
