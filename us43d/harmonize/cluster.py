"""Blocks on a Dask cluster: `--executor dask://host:port`.

What a lost worker had begun is begun again elsewhere. Which worker runs a block, and how often, changes nothing in its
bytes, and every file is renamed into place when it is whole.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from us43d.errors import BuildError, ConfigError
from us43d.harmonize import blocks
from us43d.harmonize.pool import Note, Work

__all__ = ["runner"]

_SCHEME = "dask://"
#: Blocks handed over per thread of the cluster, running one included.
_AHEAD = 2


def runner(executor: str, jobs: int) -> Work:
    """Return a runner of blocks on "dask://host:port", or on `jobs` local processes for "dask://local".

    Raises ConfigError for another address or without Dask, BuildError if the cluster cannot be reached or gives up.
    """
    address = executor.removeprefix(_SCHEME)
    if address == executor or not address:
        raise ConfigError(f"{executor!r} is not a valid executor. Use dask://host:port or dask://local.")
    try:
        from distributed import Client, KilledWorker, LocalCluster, as_completed
    except ImportError as error:
        raise ConfigError("Dask is not installed.", next="pip install 'us43d[dask]'") from error
    kept = "The finished blocks are kept; the next build resumes from them."

    def work(todo: Iterator[blocks.Block], note: Note) -> None:
        with ExitStack() as stack:
            try:
                if address == "local":
                    cluster = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=":0")
                    client = stack.enter_context(Client(stack.enter_context(cluster)))
                else:
                    client = stack.enter_context(Client(f"tcp://{address}", timeout="5s"))
            except OSError as error:
                raise BuildError(f"No Dask scheduler answers at {address}.", disk=kept) from error
            sizes: dict[Any, int] = {}
            running = as_completed()

            def collect(until: int) -> None:
                while len(sizes) > until:
                    future = next(running)
                    note(sizes.pop(future), future.result())

            try:
                for block in todo:
                    future = client.submit(blocks.run, block, pure=False)
                    sizes[future] = len(block.samples)
                    running.add(future)
                    collect(_AHEAD * max(1, sum(client.nthreads().values())))
                collect(0)
            except KilledWorker as error:
                raise BuildError(
                    "A block was lost with several workers of the cluster, most likely because memory ran out.",
                    disk=kept,
                ) from error

    return work
