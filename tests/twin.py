"""A pretended device: ``twin`` computes on the CPU, and refuses what a GPU refuses, so that a mix of devices is found anywhere.

``install()`` makes ``torch.device("twin")`` known to this process. Its tensors are wrappers around tensors of the CPU. One
function takes the wrappers off, runs the CPU's kernel, and puts them on again. It raises where a wrapper meets a plain tensor.
It counts the calls of kernels, the times that the host waits for a value, and the bytes that are alive; beyond ``memory.limit``
it raises as a GPU does whose memory is full. The speed, TF32, streams and graphs of a GPU it cannot show.

It stands on a function of torch's that is not public, and that is there since 2.10.
"""

import weakref
from collections import Counter
from contextlib import contextmanager
from functools import partial

import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map_only

CAN_BE_INSTALLED = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
WHY_NOT = f"torch {torch.__version__} has no backends in Python (2.10 has)"
aten = torch.ops.aten

# Calls that may see tensors of two devices, as on a GPU; others may see plain indices, or plain tensors of no dimension.
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
IN_HALF_THE_BITS = ("conv1d", "conv2d", "conv3d", "conv_transpose2d.input", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm")
NOT_LAUNCHED = {aten.empty_like.default, aten.new_empty.default, aten.new_empty_strided.default, aten._unsafe_view.default}
WAITS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
}


class Memory:
    """What the tensors of the twin hold.

    Attributes:
        limit: in bytes; no more can be held at a time.
        held, peak: in bytes, now and at most since ``reset``.
    """

    def __init__(self):
        self.limit = float("inf")
        self.reset()

    def reset(self):
        self.storages, self.held, self.peak = {}, 0, 0

    def count(self, inner):
        """Counts a tensor's storage until it is freed."""
        storage = inner.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place in self.storages:
            return
        if self.held + size > self.limit:
            raise torch.OutOfMemoryError(f"twin out of memory: {self.held + size} bytes are wanted, {self.limit} are there")
        self.storages[place] = weakref.ref(storage, lambda _: self._free(place, size))
        self.held += size
        self.peak = max(self.peak, self.held)

    def _free(self, place, size):
        if self.storages.pop(place, None) is not None:
            self.held -= size


memory = Memory()
seen = Counter()  # launches of kernels, by name and by the types of the numbers that they see
waits = Counter()  # for values, by the kernel that gives them


class Twin(torch.Tensor):
    """A tensor of the pretended device, around one of the CPU."""

    @staticmethod
    def __new__(cls, inner):
        memory.count(inner)
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="twin:0",
            requires_grad=False,
        )

    def __init__(self, inner):
        self.inner = inner

    def __deepcopy__(self, memo):
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol):
        return _from_cpu, (self.detach().cpu(), self.requires_grad)

    def tolist(self):
        waits["tolist"] += 1
        return self.inner.tolist()

    def numpy(self, *, force=False):
        if not force:
            raise TypeError("can't convert twin:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor first")
        return self.inner.numpy(force=True)

    def __format__(self, how):
        return format(self.item(), how) if self.dim() == 0 else format(str(self), how)

    def __array__(self, dtype=None):
        return self.numpy()

    def data_ptr(self):
        return self.inner.data_ptr()

    def untyped_storage(self):
        return self.inner.untyped_storage()

    def __repr__(self, *, tensor_contents=None):
        return f"{self.inner!r} on the twin"

    @classmethod
    def __torch_dispatch__(cls, call, types, args=(), kwargs=None):
        return _run(call, args, kwargs or {})


def _from_cpu(inner, requires_grad):
    return Twin(inner.clone()).requires_grad_(requires_grad)


def _run(call, args, kwargs):
    """Runs the CPU's kernel on what the wrappers hold."""
    _refuse_a_mix(call, args, kwargs)
    if not (call.is_view or call in NOT_LAUNCHED):
        seen[
            call.overloadpacket.__name__, tuple(t.dtype for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor))
        ] += 1
    to_cpu = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cpu"
    if (
        call in WAITS
        or (to_cpu and call is aten._to_copy.default)
        or call is aten.copy_.default
        and not isinstance(args[0], Twin)
    ):
        waits[str(call)] += 1
    wrappers = {id(t.inner): t for t in tree_leaves((args, kwargs)) if isinstance(t, Twin)}
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": "cpu"}
    args, kwargs = tree_map_only(Twin, lambda t: t.inner, (args, kwargs))
    result = call(*args, **kwargs)
    if to_cpu:
        return result
    plain = {id(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}  # what is changed in place comes back

    def wrapped(t):
        return wrappers[id(t)] if id(t) in wrappers else t if id(t) in plain else Twin(t)

    return tree_map_only(torch.Tensor, wrapped, result)


def _refuse_a_mix(call, args, kwargs):
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    plain = [t for t in tensors if not isinstance(t, Twin) and t.dim() > 0]
    if not plain or call in COPIES or (call in INDEXED and isinstance(args[0], Twin)):
        return
    shapes = ", ".join(str(tuple(t.shape)) for t in plain)
    raise RuntimeError(f"expected all tensors to be on the same device: {call} on the twin meets {shapes} on the CPU")


class Module:
    """``torch.twin``, as ``torch.cuda`` is for a GPU: what torch and the library ask a device for."""

    def is_initialized(self):
        return True

    def is_available(self):
        return True

    def current_device(self):
        return 0

    def device_count(self):
        return 1

    def manual_seed_all(self, seed):
        pass

    def _is_in_bad_fork(self):
        return False

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        pass

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]


def install():
    """Makes the device known to this process, before torch computes a gradient in it; once is enough."""
    if hasattr(torch, "twin"):
        return
    backend_registration._setup_privateuseone_for_python_backend("twin", backend_module=Module())
    torch.__future__.set_swap_module_params_on_conversion(True)  # a wrapper's numbers cannot be set from outside
    factories = torch.library.Library("aten", "IMPL")

    def empty(size, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
        return Twin(torch.empty(size, dtype=dtype, device="cpu", memory_format=memory_format or torch.contiguous_format))

    def empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
        return Twin(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))

    def copy_from(source, to, non_blocking=False):
        (to.inner if isinstance(to, Twin) else to).copy_(source.inner if isinstance(source, Twin) else source)
        return to

    factories.impl("_copy_from", copy_from, "PrivateUse1")  # torch.tensor makes a tensor of the CPU first
    factories.impl("empty.memory_format", empty, "PrivateUse1")
    factories.impl("empty_strided", empty_strided, "PrivateUse1")
    kept = [factories, torch.library.Library("_", "IMPL")]
    kept[1].fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in IN_HALF_THE_BITS:  # under autocast, as on a GPU
        factories.impl(name, partial(_in_half_the_bits, _overload(name)), "AutocastPrivateUse1")
    install.kept = kept  # they unregister what they have registered when they are freed


def _overload(name):
    name, _, overload = name.partition(".")
    return getattr(getattr(aten, name), overload or "default")


def _in_half_the_bits(call, *args, **kwargs):
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
        dtype = torch.get_autocast_dtype("twin")
        args, kwargs = tree_map_only(torch.Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, (args, kwargs))
        return call(*args, **kwargs)


@contextmanager
def counted():
    """Within it ``seen`` and ``waits`` begin anew."""
    seen.clear()
    waits.clear()
    yield seen, waits
