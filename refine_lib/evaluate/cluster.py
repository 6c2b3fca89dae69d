"""The same work by many processes, of this machine or of many, through ``dask.distributed``. A worker that dies loses nothing.

Workers compute rows and hand them back; this process alone writes them. So workers need not reach the folder of results. They
do need the files of pictures, of results made elsewhere and of weights, by the same paths.
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
TRIES = 2  # of a task whose workers die, before its rows hold the error; in each try Dask takes several workers
PATIENCE_SECONDS = 30  # for which workers of this machine may be missing; Dask starts one that died again in a few seconds
_alone = threading.Lock()  # a worker may have several threads, which would share its networks, its memory and its time


def computed_by_workers(work: Work, tasks: Iterable[Task], workers: int, scheduler: str | None) -> Iterator[tuple[Task, list]]:
    """Yields the tasks and the lists of their rows as they come in, in any order.

    Args:
        work: yields the rows of a task.
        workers: how many processes of this machine, where there is no scheduler. All are started anew where one that died
            cannot be started again for ``PATIENCE_SECONDS``.
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
    """Yields (number, rows) of the tasks that are left. It ends early where some of the workers stay away for too long."""
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
        workers: how many workers share this machine. Each takes its part of the cores and, where there are GPUs, one of them.
            With 0 the worker is left as it was started.
    """
    with _alone:
        if workers:
            threads, gpu = part_of_machine(int(get_worker().name), workers, torch.cuda.device_count())
            torch.set_num_threads(threads)
            if gpu is not None:
                torch.cuda.set_device(gpu)
        return list(work(task))


def part_of_machine(worker: int, workers: int, n_gpus: int) -> tuple[int, int | None]:
    """What one of several workers takes of this machine: how many threads, and the number of its GPU where there are GPUs."""
    return max(1, CPU_COUNT // workers), worker % n_gpus if n_gpus else None


def local_cluster(workers: int) -> LocalCluster:
    """So many processes of this machine, to be used as a context."""
    quiet: dict[str, Any] = dict(dashboard_address=None, silence_logs=logging.ERROR)
    return LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=0, host="127.0.0.1", **quiet)
