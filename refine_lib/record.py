"""What a network computes, written down call by call as it runs, and what of it comes behind a cut at named layers.

A record follows whatever the network does in Python: loops, branches on sizes, skip connections, layers used twice, gradients
of its own. It holds for one picture's size, costs one pass, and is made anew for each picture. A graph of ``torch.fx`` stops
at branches; one of ``torch.export`` holds for every size, but takes a hundred passes to make; hooks alone do not see the
tensors that go around the layer that they hang on.
"""

import contextlib
import threading
from dataclasses import dataclass

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.weak import WeakTensorKeyDictionary

READS = (
    "__bool__",
    "__complex__",
    "__float__",
    "__index__",
    "__int__",
    "allclose",
    "equal",
    "is_nonzero",
    "item",
    "numpy",
    "tolist",
)


@dataclass
class Call:
    """A call of torch: its arguments, with the numbers of the tensors that it takes, gives and changes in place."""

    function: object
    arguments: list
    layout: object
    takes: dict  # place among the arguments -> number of a tensor
    gives: list  # a number for each tensor in the result
    changes: dict  # place among the arguments -> the number of that tensor once it is changed
    has_gradient: bool
    forgets: tuple = ()  # numbers that no later call takes

    def run(self, tensors):
        """Runs the call with tensors by their numbers, and adds what it gives to them."""
        arguments = list(self.arguments)
        for place, number in self.takes.items():
            arguments[place] = tensors[number]
        args, kwargs = tree_unflatten(arguments, self.layout)
        with contextlib.nullcontext() if self.has_gradient else torch.no_grad():
            given = self.function(*args, **kwargs)
        tensors.update(zip(self.gives, _tensors(given), strict=True))
        tensors.update((number, arguments[place]) for place, number in self.changes.items())
        for number in self.forgets:
            tensors.pop(number, None)


class Record:
    """The part of a network behind a cut, for one size of picture.

    Attributes:
        z: the tensors that cross the cut, in the order in which they are first used.
        sources: for each of them the name of the layer that made it, ``"input"``, or ``"forward"`` for what the network
            computes between its layers.
        fixed: what crosses the cut and is no floating number, as a mask of booleans: it stays as it is.
        n_parameters: of the weights that are used behind the cut.
    """

    def __init__(self, calls, crossing, sources, output):
        crossing = {number: t for number, t in crossing.items() if any(number in call.takes.values() for call in calls)}
        floating = {number: t for number, t in crossing.items() if t.is_floating_point()}
        self.calls, self.output = calls, output
        self.numbers, self.z = tuple(floating), tuple(floating.values())
        self.sources = tuple(sources[number] for number in floating)
        self.fixed = {number: t for number, t in crossing.items() if number not in floating}
        weights = {a for call in calls for a in call.arguments if isinstance(a, torch.nn.Parameter)}
        self.n_parameters = sum(w.numel() for w in weights)
        self._keeps = not any(call.changes for call in calls)

        met = {output}
        for call in reversed(calls):
            numbers = {*call.takes.values(), *call.gives, *call.changes.values()}
            call.forgets = tuple(numbers - met)
            met |= numbers

    def __deepcopy__(self, memo):
        return self  # it holds the network's own weights

    def run(self, z):
        """What the network computes behind the cut, from tensors in place of ``z``."""
        if len(z) != len(self.numbers):
            raise ValueError(f"z has {len(z)} tensors; expected {len(self.numbers)}, as front gave")
        tensors = self.fixed | dict(zip(self.numbers, z, strict=True))
        if not self._keeps:  # a layer that works in place must not change z itself
            tensors = {number: t.clone() for number, t in tensors.items()}
        for call in self.calls:
            call.run(tensors)
        return tensors[self.output]


def record(network, x, at):
    """Runs a network and writes down what comes behind a cut: all that the named layers do, and all that follows from it.

    Args:
        network: any module that takes x and gives a tensor.
        x: (B, C, H, W).
        at: names of layers, as in ``network.named_modules()``; the cut is before them.

    Returns:
        A ``Record``.

    Raises:
        ValueError: where the cut is none, or what comes behind it cannot be followed. The message names the layer.
    """
    with _LOCK, _Recorder(network, at) as recorder, torch.enable_grad():  # weights are frozen: nothing is kept for a gradient
        output = recorder.follow(network, x.detach())
    return recorder.record(output)


_LOCK = threading.RLock()  # a recorder stands in for torch.autograd.Function.apply while it records


class _Recorder(TorchFunctionMode):
    """Sees every call of torch while a network runs."""

    def __init__(self, network, at):
        super().__init__()
        self.network, self.at = network, at
        self.numbers = WeakTensorKeyDictionary()  # tensors that the network made, while they live
        self.n_numbers = 0
        self.sources, self.shown, self.behind = {}, set(), set()  # by number: layer, whether of the picture, behind the cut
        self.calls, self.makers = [], {}  # all behind the cut; by number, the calls that do not look at the picture
        self.crossing = {}
        self.stack, self.n_inside, self.reached = ["forward"], 0, set()
        self.thread, self.is_running_a_call = threading.get_ident(), False

    def __enter__(self):
        self.hooks = []
        for name, module in self.network.named_modules():
            if name:
                self.hooks.append(module.register_forward_pre_hook(self._enters(name)))
                self.hooks.append(module.register_forward_hook(self._leaves(name), always_call=True))
        self.function_apply = torch.autograd.Function.__dict__["apply"]
        torch.autograd.Function.apply = classmethod(self._apply_whole)
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        torch.autograd.Function.apply = self.function_apply
        for hook in self.hooks:
            hook.remove()

    def _enters(self, name):
        def hook(module, args):
            self.stack.append(name)
            if name in self.at:
                self.n_inside += 1
                self.reached.add(name)
                # What comes in gets new numbers, so that a layer which does nothing with it can be named as well.
                return tuple(a.view_as(a) if isinstance(a, torch.Tensor) else a for a in args)

        return hook

    def _leaves(self, name):
        def hook(module, args, output):
            self.stack.pop()
            self.n_inside -= name in self.at

        return hook

    def _apply_whole(self, kind, *args, **kwargs):
        """Stands in for ``torch.autograd.Function.apply``: what is inside has a gradient of its own, so it is one call."""
        apply = self.function_apply.__get__(None, kind)
        if self.is_running_a_call or threading.get_ident() != self.thread:
            return apply(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            return self.__torch_function__(apply, (), args, kwargs)

    def follow(self, network, x):
        """Runs the network; returns the number of the tensor that it gives."""
        self._number(x, shown=True, source="input")
        output = network(x)
        if not isinstance(output, torch.Tensor):
            raise ValueError(f"the network returns a {type(output).__name__}; expected one tensor (B, 3, H, W)")
        return self.numbers.get(output)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        arguments, layout = tree_flatten((args, kwargs or {}))
        tensors = {place: a for place, a in enumerate(arguments) if isinstance(a, torch.Tensor)}
        takes = {place: self.numbers[t] for place, t in tensors.items() if t in self.numbers}
        shown = any(number in self.shown for number in takes.values())
        behind = self.n_inside > 0 or any(number in self.behind for number in takes.values())
        if behind:
            self._cross(takes, tensors)
        versions = {place: t._version for place, t in tensors.items()}

        self.is_running_a_call = True
        try:
            result = function(*args, **(kwargs or {}))
        finally:
            self.is_running_a_call = False

        changed = [place for place, t in tensors.items() if t._version != versions[place]]
        self._refuse(function, [p for p in changed if p not in takes], shown and behind)
        given = _tensors(result)
        if given or changed:
            gives = [self._number(t, shown, behind) for t in given]
            changes = {place: self._number(tensors[place], shown, behind) for place in changed}
            for place in takes:
                arguments[place] = None
            call = Call(function, arguments, layout, takes, gives, changes, torch.is_grad_enabled())
            if behind:
                self.calls.append(call)
            elif not shown:
                self.makers |= dict.fromkeys((*gives, *changes.values()), call)
        return result

    def _number(self, tensor, shown, behind=False, source=None):
        number = self.numbers[tensor] = self.n_numbers
        self.n_numbers += 1
        self.sources[number] = source or self.stack[-1]
        if shown:
            self.shown.add(number)
        if behind:
            self.behind.add(number)
        return number

    def _cross(self, takes, tensors):
        """Notes which of a call's tensors cross the cut; what does not look at the picture is made anew behind it."""
        for place, number in takes.items():
            if number in self.behind or number in self.crossing:
                continue
            if number in self.shown:
                self.crossing[number] = tensors[place].clone()  # as it is now: a later call may change it in place
            else:
                self._bring(number)

    def _bring(self, number):
        call = self.makers[number]
        for needed in call.takes.values():
            if needed not in self.behind:
                self._bring(needed)
        self.calls.append(call)
        self.behind.update((*call.gives, *call.changes.values()))

    def _refuse(self, function, outside, decides):
        name, layer = getattr(function, "__name__", str(function)), self.stack[-1]
        if outside:
            raise ValueError(f"the network has side effects: {name} in layer {layer} changes a tensor that outlives the pass")
        if decides and name in READS:
            raise ValueError(f"layer {layer} reads a value out of a tensor behind the cut ({name}), which cannot be followed")

    def record(self, output):
        """The ``Record`` of what was seen."""
        cut = " and ".join(self.at)
        missing = [name for name in self.at if name not in self.reached]
        if missing:
            raise ValueError(f"the cut before {cut} is none: the network never runs {' and '.join(missing)}")
        if output not in self.behind:
            raise ValueError(f"the cut before {cut} is none: what the network returns does not depend on it")
        if not any(t.is_floating_point() for t in self.crossing.values()):
            raise ValueError(f"the cut before {cut} is none: no featuremap crosses it")
        return Record(_needed(self.calls, output), self.crossing, self.sources, output)


def _needed(calls, output):
    """Those of the calls that the output follows from."""
    wanted, needed = {output}, []
    for call in reversed(calls):
        if call.changes or wanted.intersection(call.gives):
            needed.append(call)
            wanted.update(call.takes.values())
    return needed[::-1]


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
