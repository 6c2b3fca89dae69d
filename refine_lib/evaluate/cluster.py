"""The same work by many processes, of this machine or of many, through ``dask.distributed``. A worker that dies loses nothing.

Workers compute rows and hand them back; this process alone writes them. So the folder of results need not be within the
workers' reach, but files of pictures, of results made elsewhere and of weights must be there by the same paths.
"""

import collections
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from dask.distributed import Client, KilledWorker, LocalCluster, get_worker
from dask.system import CPU_COUNT
from distributed.client import FutureCancelledError

from refine_lib.evaluate.rows import Task

Work = Callable[[Task], Iterator[dict[str, Any]]]
TRIES = 2  # of a task whose workers die. Dask itself tries other workers before; after that it is a row with the error
PATIENCE_SECONDS = 30  # for which workers of this machine may be missing; one that died is started again in a few
_alone = threading.Lock()  # a worker may have several threads; the networks, their times and the memory are the process's


def computed_by_workers(
    work: Work, tasks: Iterable[Task], workers: int, scheduler: str | None
) -> Iterator[tuple[Task, list[dict[str, Any]]]]:
    """Yields the tasks and their rows as they come in, in any order.

    Args:
        work: yields the rows of a task.
        workers: how many processes of this machine, where there is no scheduler. Where one of them cannot be started again
            for some time after it died, all are started anew.
        scheduler: the address of a Dask scheduler.

    Raises:
        ConnectionError: where the scheduler goes away.
    """
    left, tries = dict(enumerate(tasks)), collections.Counter()
    while left:
        with nullcontext(scheduler) if scheduler else local_cluster(workers) as address, Client(address) as client:
            for number, rows in _computed_by(client, work, left, tries, 0 if scheduler else workers):
                yield left.pop(number), rows


def _computed_by(client, work, left, tries, workers):
    """Yields (number, rows) of the tasks that are left; ends early where fewer than so many workers are there for long."""
    finished, waiting, enough_at = queue.SimpleQueue(), {}, time.monotonic()

    def submit(number):
        future = client.submit(rows_of, work, left[number], workers, pure=False)
        waiting[future.key] = future, number
        future.add_done_callback(finished.put)

    for number in left:
        submit(number)
    while waiting:
        if not workers or len(client.nthreads()) >= workers:
            enough_at = time.monotonic()
        elif time.monotonic() - enough_at > PATIENCE_SECONDS:
            return
        try:
            future, number = waiting.pop(finished.get(timeout=2).key)
            yield number, future.result()
        except queue.Empty:
            continue
        except FutureCancelledError as error:
            raise ConnectionError(f"the scheduler is gone ({error}); the same command goes on from here") from error
        except KilledWorker:
            tries[number] += 1
            if tries[number] < TRIES:
                submit(number)
            else:
                yield number, left[number].failed("KilledWorker: every worker died that computed this picture")


def rows_of(work: Work, task: Task, workers: int) -> list[dict[str, Any]]:
    """The rows of a task: what a worker does.

    Args:
        workers: how many of them share this machine: each takes a part of the cores, and of several GPUs one. 0 takes all.
    """
    with _alone:
        if workers:
            torch.set_num_threads(max(1, CPU_COUNT // workers))
            if torch.cuda.is_available():
                torch.cuda.set_device(int(get_worker().name) % torch.cuda.device_count())
        return list(work(task))


def local_cluster(workers: int) -> LocalCluster:
    """So many processes of this machine, to be used as a context."""
    quiet: dict[str, Any] = dict(dashboard_address=None, silence_logs=logging.ERROR)
    return LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=0, host="127.0.0.1", **quiet)
