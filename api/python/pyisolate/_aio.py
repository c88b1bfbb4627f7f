"""The event loop of an extension that uses asyncio. Imported when the extension imports asyncio, not before.

The loop runs on the thread that serves calls, and its selector is where calls come from: `select()` first has
the core serve what has arrived, then waits for the link's descriptor and everything else together. So a call
costs no thread hop and no extra turn of the loop.

A call to a coroutine function becomes a real task whose first step runs at once (on every version: the loop's
`call_soon` is intercepted while the task is made). A coroutine that imports asyncio during its first step,
when there is no loop yet, is adopted by a task in the middle of it.
"""

from __future__ import annotations

import asyncio
import selectors
from _thread import get_ident
from asyncio import tasks
from functools import partial
from typing import Any, Callable, Optional

import _pyisolate

_SHUTDOWN_SECONDS = 1.0


class _LinkSelector(selectors.EpollSelector):
    """Serves requests before it waits, and while nothing else is due."""

    def __init__(self, server: object) -> None:
        super().__init__()
        self._server = server
        self._link = _pyisolate.link_fd(server)
        self.register(self._link, selectors.EVENT_READ)
        self.loop: Any = None
        self.serving = False

    def select(self, timeout: Optional[float] = None) -> Any:
        """Ready (key, events) pairs; the link's own is dealt with here."""
        while True:
            if self.serving:
                served = _pyisolate.serve_ready(self._server)
                if served < 0:
                    self.loop.stop()
                if served != 0 and self._is_due():
                    timeout = 0
            ready = super().select(timeout)
            found = [pair for pair in ready if pair[0].fd != self._link]
            if found or timeout is not None or len(found) == len(ready) or not self.serving:
                return found

    def _is_due(self) -> bool:
        loop = self.loop
        return bool(loop._ready or loop._scheduled or loop._stopping)


class _Loop(asyncio.SelectorEventLoop):
    """The usual loop on our selector."""


class _Adopted:
    """The inside of a task that goes on with a coroutine whose first step was driven by hand."""

    def __init__(self, coro: Any, context: Any) -> None:
        self.coro = coro
        self.run: Callable[..., Any] = context.run if context is not None else _call
        self.first: Any = None
        self.ended = False

    def __await__(self) -> Any:
        move: Optional[Callable[[], Any]] = None
        try:
            yield self  # parked until the step by hand is over
        except GeneratorExit:
            raise
        except BaseException as exc:
            if self.ended:
                return None
            move = partial(self.coro.throw, exc)
        else:
            if self.ended:
                return None
        out = self.first
        while True:
            if move is not None:
                try:
                    out = self.run(move)
                except StopIteration as stop:
                    return stop.value
            try:
                value = yield out
            except GeneratorExit:
                self.coro.close()
                raise
            except BaseException as exc:
                move = partial(self.coro.throw, exc)
            else:
                move = partial(self.coro.send, value)


def _call(function: Callable[[], Any]) -> Any:
    return function()


async def _adopted(inside: _Adopted) -> Any:
    return await inside


class Driver:
    """What the core asks of asyncio. All methods: on the thread that serves calls."""

    def __init__(self, server: object) -> None:
        self._selector = _LinkSelector(server)
        self.loop: Any = _Loop(self._selector)
        self._selector.loop = self.loop
        asyncio.set_event_loop(self.loop)
        self._task: Any = None  # adopts the coroutine that is driven by hand
        self._inside: Optional[_Adopted] = None
        self._step: Optional[Callable[[], Any]] = None

    # ---- tasks with an eager first step

    def _make(self, coro: Any) -> tuple[Any, Callable[[], Any]]:
        """A task, and its first step, which the loop was about to schedule."""
        captured: list[Callable[[], Any]] = []

        def capture(callback: Any, *args: Any, context: Any = None) -> None:
            call = partial(callback, *args)
            captured.append(call if context is None else partial(context.run, call))

        self.loop.call_soon = capture
        try:
            task = asyncio.Task(coro, loop=self.loop)
        finally:
            del self.loop.call_soon
        return task, captured[0]

    def prepare(self, coro: Any) -> tuple[Any, Callable[[], Any]]:
        """A task for a call, and its first step, to be run by the core."""
        if not asyncio.iscoroutine(coro):
            coro = _await_any(coro)
        return self._make(coro)

    def forget(self, task: Any) -> None:
        """The exception of a task that passed through it has been seen."""
        if task.done() and not task.cancelled():
            task.exception()

    def current_task(self) -> Any:
        """The task whose step runs now, or None."""
        return tasks.current_task(self.loop)

    # ---- a call that imports asyncio while it is driven by hand

    def enter(self, coro: Any, context: Any) -> None:
        """Be the running loop from here on; with a coroutine, in a task of its own."""
        asyncio._set_running_loop(self.loop)
        self.loop._thread_id = get_ident()  # is_running() says so as well
        if coro is None or self._task is not None:
            return
        self._inside = _Adopted(coro, context)
        outer = _adopted(self._inside)
        outer.send(None)
        self._task, self._step = self._make(outer)
        tasks._enter_task(self.loop, self._task)

    def leave(self) -> None:
        """The step by hand is over."""
        if self._task is not None:
            self._leave_task()
        self.loop._thread_id = None
        asyncio._set_running_loop(None)

    def _leave_task(self) -> tuple[Any, _Adopted, Callable[[], Any]]:
        assert self._inside is not None and self._step is not None
        left = self._task, self._inside, self._step
        tasks._leave_task(self.loop, self._task)
        self._task = self._inside = self._step = None
        return left

    def resume(self, yielded: Any) -> Any:
        """The coroutine suspended with `yielded`: its task goes on."""
        task, inside, step = self._leave_task()
        inside.first = yielded
        self.loop.call_soon(step)
        return task

    def end_adopted(self) -> None:
        """The coroutine ended in its first step: so does its task."""
        if self._task is None:
            return
        task, inside, step = self._leave_task()
        inside.ended = True
        step()
        self.forget(task)

    # ---- running

    def run(self, awaitable: Any) -> Any:
        """Run a hook to its end; no calls are served meanwhile."""
        return self.loop.run_until_complete(awaitable)

    def serve(self) -> None:
        """Serve until the core says to leave."""
        self._selector.serving = True
        try:
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            pass  # of a task or a callback, which keeps it: it ends that, not the process
        finally:
            self._selector.serving = False

    def quit(self) -> None:
        """Leave `serve`."""
        self.loop.stop()

    def shutdown(self) -> None:
        """Cancel what is left, give it a moment, close the loop."""
        left = [task for task in tasks.all_tasks(self.loop) if not task.done()]
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=_SHUTDOWN_SECONDS))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())


async def _await_any(awaitable: Any) -> Any:
    return await awaitable
