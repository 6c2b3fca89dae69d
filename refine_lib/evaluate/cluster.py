"""The same work by many processes, of this machine or of many, through ``dask.distributed``; a worker that dies loses nothing.

Workers compute and hand back rows; one process, this one, writes them. So the folder of results need not be reachable from
the workers, but files of pictures, of results made elsewhere, and of weights must be there by the same paths.
"""

import collections
import os
import queue
import threading
import time
from contextlib import contextmanager, nullcontext

import torch

try:
    from dask.distributed import Client, KilledWorker, Nanny, Scheduler, SpecCluster
    from distributed.client import FutureCancelledError
except ImportError:  # the extra [cluster]: check_workers says so
    Client = None

TRIES = 2  # of a task whose workers die (Dask itself tries another worker some times); then it is a row with the error
PATIENCE = 30  # s, for which workers of this machine may be missing; one that died is started again in a few
_alone = threading.Lock()  # a worker may have several threads; the networks, their times and the memory are the process's


def computed_by_workers(tasks, settings, workers, scheduler, device):
    """Yields the tasks and their rows as they come in, in any order: pairs (task, list of rows).

    Args:
        tasks, settings, device: as in ``refine_lib.evaluate.run.compute``.
        workers: how many processes of this machine, where there is no scheduler. Where one of them cannot be started again
            for some time after it died, all are started anew.
        scheduler: the address of a Dask scheduler.

    Raises:
        ConnectionError: where the scheduler goes away.
    """
    left, tries = dict(enumerate(tasks)), collections.Counter()
    while left:
        with nullcontext(scheduler) if scheduler else _cluster(workers) as address, Client(address) as client:
            for number, rows in _computed_by(client, left, tries, settings, 0 if scheduler else workers, device):
                yield left.pop(number), rows


def _computed_by(client, left, tries, settings, workers, device):
    """Yields (number, rows) of the tasks that are left; ends early where fewer than so many workers are there for long."""
    finished, waiting, short_since = queue.SimpleQueue(), {}, None

    def submit(number):
        future = client.submit(rows_of, left[number], settings, device, pure=False)
        waiting[future.key] = future, number
        future.add_done_callback(finished.put)

    for number in left:
        submit(number)
    while waiting:
        try:
            future, number = waiting.pop(finished.get(timeout=2).key)
        except queue.Empty:
            enough = len(client.nthreads()) >= workers
            short_since = None if enough else short_since or time.monotonic()
            if not enough and time.monotonic() - short_since > PATIENCE:
                return
            continue
        try:
            yield number, future.result()
        except FutureCancelledError as error:
            raise ConnectionError(f"the scheduler is gone ({error}); the same command goes on from here") from error
        except KilledWorker:
            tries[number] += 1
            if tries[number] < TRIES:
                submit(number)
            else:
                error = "KilledWorker: every worker died that computed this picture"
                yield number, [row | {"error": error} for row in left[number].empty_rows()]


def rows_of(task, settings, device=None):
    """The rows of a task, as a list: what a worker does."""
    from refine_lib.evaluate.run import compute  # which imports this module

    with _alone:
        return list(compute(task, settings, device))


def worker_environments(workers, visible=None):
    """What makes each process of this machine compute on its own: one of the GPUs that this one sees, or a part of the cores.

    Args:
        visible: the GPUs, by the words of ``CUDA_VISIBLE_DEVICES``; None asks.
    """
    if visible is None:
        named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        visible = [name for name in named.split(",") if name] or [str(i) for i in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(max(1, cores // workers))
    same = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return [same | ({"CUDA_VISIBLE_DEVICES": visible[i % len(visible)]} if visible else {}) for i in range(workers)]


def check_workers(workers, scheduler, device):
    """Raises unless the work can be given to processes."""
    if Client is None:
        raise ModuleNotFoundError("workers and scheduler need Dask: pip install 'refine_lib[cluster]'")
    if workers and scheduler:
        raise ValueError(
            f"workers is {workers} and scheduler {scheduler!r}; expected one of them: a scheduler has its own workers"
        )
    if device is not None and ":" in str(device):
        raise ValueError(f"device is {device!r}; expected 'cuda' or 'cpu': each worker gets a GPU of its own")


@contextmanager
def _cluster(workers):
    """Processes of this machine, and the address of the scheduler that they listen to."""
    same = {"nthreads": 1, "memory_limit": 0, "host": "127.0.0.1"}
    environments = worker_environments(workers)
    nannies = {i: {"cls": Nanny, "options": same | {"env": one}} for i, one in enumerate(environments)}
    quiet = {"dashboard_address": None, "dashboard": False, "host": "127.0.0.1"}
    with SpecCluster(workers=nannies, scheduler={"cls": Scheduler, "options": quiet}, silence_logs="ERROR") as cluster:
        yield cluster
