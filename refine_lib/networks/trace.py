"""What a network computes, written down call by call as it runs, and what of it comes behind a cut at named layers.

A record follows whatever the network does in Python: loops, branches on sizes, skip connections, layers used twice, gradients
of its own. It holds for one picture, costs one pass, and is made anew for each picture. A graph of ``torch.fx`` stops at
branches. A graph of ``torch.export`` holds for every size, but takes a hundred passes to make. Hooks alone do not see the
tensors that go around the layer that they hang on.
"""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten
from torch.utils.weak import WeakTensorKeyDictionary

# Calls that take a value out of a tensor: behind the cut it would change with z, and what is done with it is not seen.
READS = {"__array__", "__bool__", "__complex__", "__contains__", "__dlpack__", "__float__", "__index__", "__int__"}
READS |= {"allclose", "equal", "is_nonzero", "item", "numpy", "tolist"}
APPLY = getattr(torch.autograd.Function.apply, "__code__", None)


class Unfit(ValueError):
    """A network cannot be cut or refined. The message says why, and what would help."""


@contextlib.contextmanager
def named(what: str):
    """Says of an error within a network what it was doing; memory that ran out is told as it is."""
    try:
        yield
    except (Unfit, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        raise Unfit(f"the network fails {what}: {reason}") from error


@dataclass
class Call:
    """A call of torch: its arguments, with the numbers of the tensors that it takes and gives."""

    function: Callable[..., Any]
    arguments: list[Any]
    layout: Any
    takes: dict[int, int]  # place among the arguments -> number of a tensor
    gives: list[int]  # a number for each tensor in the result
    is_in_place: bool  # whether it changes tensors that it takes
    contexts: list[Callable[[], Any]]  # that it runs in: without gradients, with autocast
    forgets: set[int]  # numbers that no later call takes

    @property
    def numbers(self) -> set[int]:
        """The numbers of all tensors that the call has to do with."""
        return {*self.takes.values(), *self.gives}

    def run(self, tensors: dict[int, torch.Tensor]) -> None:
        """Runs the call with tensors by their numbers, and adds what it gives to them."""
        arguments = list(self.arguments)
        for place, number in self.takes.items():
            arguments[place] = tensors[number]
        args, kwargs = tree_unflatten(arguments, self.layout)
        with contextlib.ExitStack() as stack:
            for context in self.contexts:
                stack.enter_context(context())
            given = self.function(*args, **kwargs)
        tensors.update(zip(self.gives, tensors_in(given), strict=True))
        for number in self.forgets:
            tensors.pop(number, None)


@dataclass(eq=False)
class Record:
    """The part of a network behind a cut, for one picture.

    Attributes:
        calls: of torch, in their order.
        moved: the tensors that cross the cut, by number, in the order in which they are first used.
        fixed: what crosses the cut, by number, and is no featuremap: it is no floating number, or it is made without weights,
            as the mask where it goes around them. It stays as it is. Where nothing else crosses, the network's input is z.
        sources: for each tensor of z the name of the layer that made it, ``"input"``, or ``"forward"`` for what the network
            computes between its layers.
        output: the number of the tensor that the network gives.
    """

    calls: list[Call]
    moved: dict[int, torch.Tensor]
    fixed: dict[int, torch.Tensor]
    sources: tuple[str, ...]
    output: int

    @property
    def z(self) -> tuple[torch.Tensor, ...]:
        """The tensors that cross the cut and that can be optimized."""
        return tuple(self.moved.values())

    @property
    def n_parameters(self) -> int:
        """The number of weights that are used behind the cut."""
        return sum(w.numel() for w in {a for call in self.calls for a in call.arguments if isinstance(a, nn.Parameter)})

    def __deepcopy__(self, memo):
        return self  # it holds the network's own weights

    def run(self, z: Sequence[torch.Tensor]) -> torch.Tensor:
        """What the network computes behind the cut, from tensors in place of ``z``."""
        if len(z) != len(self.moved):
            raise ValueError(f"z has {len(z)} tensors; expected {len(self.moved)}, as front gave")
        tensors = self.fixed | dict(zip(self.moved, z, strict=True))
        if any(call.is_in_place for call in self.calls):  # a layer that works in place must not change z itself
            tensors = {number: t.clone() for number, t in tensors.items()}
        for call in self.calls:
            call.run(tensors)
        return tensors[self.output]


def record(network: nn.Module, x: torch.Tensor, at: Sequence[str], moves: Sequence[str] | None = None) -> Record:
    """Runs a network and writes down what comes behind a cut: all that the named layers do, and all that follows from it.

    Args:
        network: any module that takes x and gives a tensor. Its weights are frozen.
        x: (B, C, H, W). Where it asks for a gradient, the record's z have one to it.
        at: names of layers, as in ``network.named_modules()``. The cut is before them.
        moves: names of layers. Of what crosses the cut only what these have made is z; the rest is fixed. None: all is z.

    Raises:
        Unfit: where the cut is none, or what comes behind it cannot be followed. The message names the layer.
    """
    follower = _Follower(network, at, x.device.type)
    return follower.record(follower.follow(x), moves)


class _Follower(TorchFunctionMode):
    """Sees every call of torch while a network runs, in one thread, and numbers the tensors that it takes and gives.

    A tensor's marks say what it comes from: ``shown`` is the picture, ``made`` a weight, ``behind`` a layer behind the cut.
    """

    def __init__(self, network, at, device_type):
        super().__init__()
        self.network, self.at, self.device_type = network, at, device_type
        self.cut = {network.get_submodule(name): name for name in at}
        self.numbers = WeakTensorKeyDictionary()  # of tensors, while they live
        self.marks, self.sources = [], []  # by number: what it comes from, and the layer that made it
        self.views_of = {}  # by number, behind the cut: the tensor that it is a view of
        self.spoiled = set()  # numbers: changed behind the cut through a tensor that has a memory of its own in the record
        self.calls, self.crossing = [], {}
        self.stack, self.n_inside, self.reached = ["forward"], 0, set()
        self.thread = threading.get_ident()
        self.applied, self.call = None, None  # the frame of a Function's apply that runs, and what is known of it

    def follow(self, x):
        """Runs the network; returns the number of the tensor that it gives."""
        self._number(x, {"shown"}, source="input")
        with contextlib.ExitStack() as stack:
            for name, module in self.network.named_modules():
                if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                    enters, leaves = functools.partial(self._enters, name), functools.partial(self._leaves, module in self.cut)
                    stack.callback(module.register_forward_pre_hook(enters, with_kwargs=True).remove)
                    stack.callback(module.register_forward_hook(leaves, always_call=True).remove)
            earlier = sys.getprofile()  # which Python's own profiler puts back by a method
            stack.callback(getattr(earlier, "enable", functools.partial(sys.setprofile, earlier)))
            sys.setprofile(self._see_apply)
            stack.enter_context(self)
            # Weights are frozen, so nothing is kept for gradients; but where the network turns them off, that is seen.
            stack.enter_context(torch.enable_grad())
            return self.numbers.get(self.network(x))

    def _enters(self, name, module, args, kwargs=None):  # None where another thread meets a hook that is just being removed
        if threading.get_ident() != self.thread:  # another one's pass
            return None
        self.stack.append(name)
        if module not in self.cut:
            return None
        self.n_inside += 1
        self.reached.add(self.cut[module])
        # What comes in gets new numbers, so that a layer which does nothing with it can be named as well.
        return tree_map(lambda a: a.view_as(a) if isinstance(a, torch.Tensor) else a, (args, kwargs))

    def _leaves(self, is_cut, module, args, output):
        if threading.get_ident() == self.thread:
            self.stack.pop()
            self.n_inside -= is_cut

    def _see_apply(self, frame: FrameType, event: str, result):
        """Takes ``torch.autograd.Function.apply`` for one call, by Python's profiling: it has a gradient of its own.

        What it does on the way is not recorded, as in any other call of torch.
        """
        if frame.f_code is not APPLY:
            return
        if event == "call" and self.applied is None:
            self.applied = frame
            kind, args, kwargs = (frame.f_locals[name] for name in frame.f_code.co_varnames[:3])
            self.call = self._before(kind.apply, args, kwargs)
        elif event == "return" and self.applied is frame:
            if result is not None:  # as it is where an error ends the call
                self._after(self.call, result)
            self.applied = self.call = None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.applied:
            return function(*args, **kwargs)
        sys.setprofile(None)  # what is within a call is part of it
        try:
            call = self._before(function, args, kwargs)
            result = function(*args, **kwargs)
            self._after(call, result)
            return result
        finally:
            sys.setprofile(self._see_apply)

    def _before(self, function, args, kwargs):
        """What is known of a call before it runs: the call, its tensors and their versions by place, and the result's marks."""
        arguments, layout = tree_flatten((args, kwargs))
        tensors = {place: a for place, a in enumerate(arguments) if isinstance(a, torch.Tensor)}
        takes = {place: self.numbers[t] for place, t in tensors.items() if t in self.numbers}
        marks = set().union(*(self.marks[number] for number in takes.values()))
        if any(isinstance(t, nn.Parameter) for t in tensors.values()):
            marks.add("made")
        if self.n_inside:
            marks.add("behind")
        self._refuse(function, takes, marks)
        if "behind" in marks:
            for place, number in takes.items():
                if "behind" not in self.marks[number] and number not in self.crossing:
                    # As it is now: a later call may change it in place.
                    self.crossing[number] = tensors[place].clone(), self.marks[number]
        contexts: list[Callable[[], Any]] = [] if torch.is_grad_enabled() else [torch.no_grad]
        if torch.is_autocast_enabled(self.device_type):
            dtype = torch.get_autocast_dtype(self.device_type)
            contexts.append(functools.partial(torch.autocast, self.device_type, dtype))
        call = Call(function, arguments, layout, takes, [], False, contexts, set())
        return call, tensors, {place: _version(t) for place, t in tensors.items()}, marks

    def _after(self, seen, result):
        """Numbers what a call gave and changed, and keeps the call where it is behind the cut."""
        call, tensors, versions, marks = seen
        changed = [place for place, t in tensors.items() if _version(t) != versions[place]]
        call.is_in_place = bool(changed)
        self._note_changes(call, changed, tensors, marks)
        given = tensors_in(result)
        call.gives = [self.numbers[t] if t in self.numbers else self._number(t, marks) for t in given]
        if "behind" in marks and (changed or set(call.gives) - set(call.takes.values())):
            for place, number in call.takes.items():
                call.arguments[place] = None
                for tensor in given:
                    if _memory(tensors[place]) == _memory(tensor):
                        self.views_of[self.numbers[tensor]] = self.views_of.get(number, number)
            self.calls.append(call)

    def _number(self, tensor, marks, source=None):
        number = self.numbers[tensor] = len(self.marks)
        self.marks.append(marks)
        self.sources.append(source or self.stack[-1])
        return number

    def _note_changes(self, call, changed, tensors, marks):
        """Marks the tensors that a call behind the cut has changed in place, or numbers anew those changed before the cut.

        It does the same with all that share their memory. When the call is run again, it changes those that are views of the
        same tensor behind the cut. The others are spoiled.
        """
        if not call.takes.keys() >= set(changed):
            name, layer = getattr(call.function, "__name__", str(call.function)), self.stack[-1]
            raise Unfit(f"the network has side effects: {name} in layer {layer} changes a tensor that outlives the pass")
        for place in changed:
            base = self.views_of.get(call.takes[place], call.takes[place])
            memory = _memory(tensors[place])
            for tensor, number in [(t, n) for t, n in self.numbers.items() if _memory(t) == memory]:
                if "behind" not in marks:
                    self._number(tensor, marks)
                elif tensor is tensors[place] or self.views_of.get(number, number) == base:
                    self.marks[number] = self.marks[number] | marks
                else:
                    self.spoiled.add(number)

    def _refuse(self, function, takes, marks):
        name = getattr(function, "__name__", "")
        if not self.spoiled.isdisjoint(takes.values()):
            raise Unfit(
                f"layer {self.stack[-1]} uses a tensor from before the cut whose memory was changed in place behind it,"
                " through a view; write a new tensor in its stead, or cut elsewhere"
            )
        if name in READS and marks >= {"shown", "behind"}:
            told = f"reads a value out of a tensor behind the cut ({name}), which cannot be followed"
            raise Unfit(f"layer {self.stack[-1]} {told}")

    def record(self, output, moves):
        """The ``Record`` of what was seen."""
        cut = f"the cut before {' and '.join(self.at)} is none"
        missing = [name for name in self.cut.values() if name not in self.reached]
        if missing:
            raise Unfit(f"{cut}: the network never runs {' and '.join(missing)}")
        if output is None or "behind" not in self.marks[output]:
            raise Unfit(f"{cut}: what the network returns is not seen to depend on it")

        wanted, needed = {output}, []  # numbers of tensors, and the calls that the output follows from
        for call in reversed(self.calls):
            if call.is_in_place or wanted.intersection(call.gives):
                call.forgets = call.numbers - wanted
                wanted |= call.numbers
                needed.append(call)
        for origin in ({"shown", "made"}, {"shown"}):  # a cut before all weights has the input to move, and nothing else
            crossing = [
                (n, t, marks >= origin and t.is_floating_point() and self._is_of(n, moves))
                for n, (t, marks) in self.crossing.items()
            ]
            moved = {number: t for number, t, moves in crossing if number in wanted and moves}
            if moved:
                fixed = {number: t for number, t, moves in crossing if number in wanted and not moves}
                return Record(needed[::-1], moved, fixed, tuple(self.sources[number] for number in moved), output)
        raise Unfit(f"{cut}: no featuremap crosses it" + (f" that {' or '.join(moves)} has made" if moves else ""))

    def _is_of(self, number, layers):
        source = f"{self.sources[number]}."
        return layers is None or any(source.startswith(f"{layer}.") for layer in layers)


def tensors_in(tree: Any) -> list[torch.Tensor]:
    """The tensors in tuples, lists and dictionaries, in their order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _version(tensor):
    return 0 if tensor.is_inference() else tensor._version


def _memory(tensor):
    """Where a tensor's memory begins; None where it has none to speak of."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (NotImplementedError, RuntimeError):  # a sparse tensor, or one of another kind
        return None
