"""Running blocks: in this process or in worker processes, handed out as the reader yields samples."""

import ctypes
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice

from us43d.errors import BuildError
from us43d.harmonize import blocks

__all__ = ["Note", "Work", "runner"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

#: Called with the size of a finished block and what was wrong in it.
Note = Callable[[int, list[str]], None]
#: Runs blocks wherever it runs them, and notes each.
Work = Callable[[Iterator[blocks.Block], Note], None]


def runner(jobs: int) -> Work:
    """Return the function that runs blocks: in this process, or in `jobs` workers for several blocks."""

    def work(todo: Iterator[blocks.Block], note: Note) -> None:
        first = list(islice(todo, 2))
        if jobs <= 1 or len(first) < 2:  # one block alone is run sooner than a worker has started
            for block in chain(first, todo):
                note(len(block.samples), blocks.run(block))
        else:
            _pool(chain(first, todo), jobs, note)

    return work


def _begin_worker() -> None:
    """Set up a worker: keep freed memory, and exit with the parent process, even if that was killed.

    Pictures come and go by the megabyte; taking their pages from the system again each time is a fifth of the work.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:  # glibc's
        mallopt(_M_TRIM_THRESHOLD, 64 << 20)
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _pool(todo: Iterator[blocks.Block], jobs: int, note: Note) -> None:
    """Run blocks in worker processes, at most two waiting for each, so that few are in memory."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([blocks.__name__])  # imported once; workers are forked from there
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker) as pool:
        waiting: dict[Future[list[str]], int] = {}

        def collect(until: int) -> None:
            while len(waiting) > until:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    note(waiting.pop(future), future.result())

        try:
            for block in todo:
                waiting[pool.submit(blocks.run, block)] = len(block.samples)
                collect(2 * jobs)
            collect(0)
        except BrokenProcessPool as error:
            raise BuildError(
                "A worker process died, most likely because memory ran out.",
                disk="The finished blocks are kept; the next build resumes from them.",
                next="us43d build --jobs 1",
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
