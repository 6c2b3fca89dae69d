"""What a network computes, written down call by call as it runs, and what of it comes behind a cut at named layers.

A record follows whatever the network does in Python: loops, branches on sizes, skip connections, layers used twice, gradients
of its own. It holds for one picture, costs one pass, and is made anew for each picture. A graph of ``torch.fx`` stops at
branches; one of ``torch.export`` holds for every size, but takes a hundred passes to make; hooks alone do not see the tensors
that go around the layer that they hang on.
"""

import contextlib
import threading
from dataclasses import dataclass

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten
from torch.utils.weak import WeakTensorKeyDictionary

# Calls that take a value out of a tensor: behind the cut it would change with z, and what is done with it is not seen.
READS = {"__array__", "__bool__", "__complex__", "__contains__", "__dlpack__", "__float__", "__index__", "__int__"}
READS |= {"allclose", "equal", "is_nonzero", "item", "numpy", "tolist"}


@dataclass
class Call:
    """A call of torch: its arguments, with the numbers of the tensors that it takes, gives and changes in place."""

    function: object
    arguments: list
    layout: object
    takes: dict  # place among the arguments -> number of a tensor
    gives: list  # a number for each tensor in the result
    changes: dict  # number of a tensor -> its number once the call has changed it in place
    has_gradient: bool
    autocast: tuple  # device type and dtype, or empty
    forgets: tuple = ()  # numbers that no later call takes

    @property
    def numbers(self):
        return {*self.takes.values(), *self.gives, *self.changes, *self.changes.values()}

    def run(self, tensors):
        """Runs the call with tensors by their numbers, and adds what it gives to them."""
        arguments = list(self.arguments)
        for place, number in self.takes.items():
            arguments[place] = tensors[number]
        args, kwargs = tree_unflatten(arguments, self.layout)
        with contextlib.ExitStack() as stack:
            if not self.has_gradient:
                stack.enter_context(torch.no_grad())
            if self.autocast:
                stack.enter_context(torch.autocast(*self.autocast))
            given = self.function(*args, **kwargs)
        tensors.update({new: tensors[old] for old, new in self.changes.items()})
        tensors.update(zip(self.gives, tensors_in(given), strict=True))
        for number in self.forgets:
            tensors.pop(number, None)


class Record:
    """The part of a network behind a cut, for one picture.

    Attributes:
        z: the tensors that cross the cut, in the order in which they are first used.
        sources: for each of them the name of the layer that made it, ``"input"``, or ``"forward"`` for what the network
            computes between its layers.
        fixed: what crosses the cut and is no featuremap, and stays as it is: no floating number, or made without weights, as
            the mask, where it goes around them. Where nothing else crosses, the network's input is z.
        n_parameters: of the weights that are used behind the cut.
    """

    def __init__(self, calls, crossing, is_featuremap, sources, output):
        used = {number for call in calls for number in call.numbers}
        crossing = {number: t for number, t in crossing.items() if number in used}
        moved = {number: t for number, t in crossing.items() if is_featuremap(number, t)}
        self.calls, self.output = calls, output
        self.numbers, self.z = tuple(moved), tuple(moved.values())
        self.sources = tuple(sources[number] for number in moved)
        self.fixed = {number: t for number, t in crossing.items() if number not in moved}
        weights = {a for call in calls for a in call.arguments if isinstance(a, torch.nn.Parameter)}
        self.n_parameters = sum(w.numel() for w in weights)
        self._changes = any(call.changes for call in calls)

        met = {output}
        for call in reversed(calls):
            call.forgets = tuple(call.numbers - met)
            met |= call.numbers

    def __deepcopy__(self, memo):
        return self  # it holds the network's own weights

    def run(self, z):
        """What the network computes behind the cut, from tensors in place of ``z``."""
        if len(z) != len(self.numbers):
            raise ValueError(f"z has {len(z)} tensors; expected {len(self.numbers)}, as front gave")
        tensors = self.fixed | dict(zip(self.numbers, z, strict=True))
        if self._changes:  # a layer that works in place must not change z itself
            tensors = {number: t.clone() for number, t in tensors.items()}
        for call in self.calls:
            call.run(tensors)
        return tensors[self.output]


def record(network, x, at):
    """Runs a network and writes down what comes behind a cut: all that the named layers do, and all that follows from it.

    Args:
        network: any module that takes x and gives a tensor; its weights are frozen.
        x: (B, C, H, W). Where it asks for a gradient, the record's z have one to it.
        at: names of layers, as in ``network.named_modules()``; the cut is before them.

    Returns:
        A ``Record``.

    Raises:
        ValueError: where the cut is none, or what comes behind it cannot be followed. The message names the layer.
    """
    # Weights are frozen, so with gradients on nothing is kept for them; but where the network turns them off, that is seen.
    with _LOCK, _Recorder(network, at, x.device.type) as recorder, torch.enable_grad():
        output = recorder.follow(x)
    return recorder.record(output)


_LOCK = threading.RLock()  # a recorder stands in for torch.autograd.Function.apply while it records


class _Recorder(TorchFunctionMode):
    """Sees every call of torch while a network runs, and numbers the tensors that it takes and gives."""

    def __init__(self, network, at, device_type):
        super().__init__()
        self.network, self.at, self.device_type = network, at, device_type
        self.cut = {network.get_submodule(name): name for name in at}
        self.numbers = WeakTensorKeyDictionary()  # of tensors, while they live
        self.sources = {}  # by number: the layer that made it
        self.shown, self.made, self.behind = set(), set(), set()  # numbers: of the picture; through weights; behind the cut
        self.views_of = {}  # by number, behind the cut: the tensor that it is a view of
        self.spoiled = set()  # numbers: changed behind the cut by way of another tensor that shares their memory
        self.calls, self.crossing = [], {}
        self.stack, self.n_inside, self.reached = ["forward"], 0, set()
        self.thread, self.is_running_a_call = threading.get_ident(), False

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            for name, module in self.network.named_modules():
                if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                    enters, leaves = self._hooks(name, module in self.cut)
                    stack.callback(module.register_forward_pre_hook(enters, with_kwargs=True).remove)
                    stack.callback(module.register_forward_hook(leaves, always_call=True).remove)
            self.function_apply = torch.autograd.Function.__dict__["apply"]
            stack.callback(setattr, torch.autograd.Function, "apply", self.function_apply)
            torch.autograd.Function.apply = classmethod(self._apply_whole)
            self.on_leaving = stack.pop_all()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.on_leaving.close()

    def _hooks(self, name, is_cut):
        def enters(module, args, kwargs):
            if threading.get_ident() != self.thread:  # another one's pass
                return None
            self.stack.append(name)
            if not is_cut:
                return None
            self.n_inside += 1
            self.reached.add(self.cut[module])
            # What comes in gets new numbers, so that a layer which does nothing with it can be named as well.
            return tree_map(lambda a: a.view_as(a) if isinstance(a, torch.Tensor) else a, (args, kwargs))

        def leaves(module, args, output):
            if threading.get_ident() == self.thread:
                self.stack.pop()
                self.n_inside -= is_cut

        return enters, leaves

    def _apply_whole(self, kind, *args, **kwargs):
        """Stands in for ``torch.autograd.Function.apply``: what is inside has a gradient of its own, so it is one call."""
        apply = self.function_apply.__get__(None, kind)
        if self.is_running_a_call or threading.get_ident() != self.thread:
            return apply(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            return self.__torch_function__(apply, (), args, kwargs)

    def follow(self, x):
        """Runs the network; returns the number of the tensor that it gives."""
        self._number(x, shown=True, source="input")
        return self.numbers.get(self.network(x))

    def __torch_function__(self, function, types, args=(), kwargs=None):
        arguments, layout = tree_flatten((args, kwargs or {}))
        tensors = {place: a for place, a in enumerate(arguments) if isinstance(a, torch.Tensor)}
        takes = {place: self.numbers[t] for place, t in tensors.items() if t in self.numbers}
        is_weight = any(isinstance(t, torch.nn.Parameter) for t in tensors.values())
        marks = dict(
            shown=any(number in self.shown for number in takes.values()),
            made=is_weight or any(number in self.made for number in takes.values()),
            behind=self.n_inside > 0 or any(number in self.behind for number in takes.values()),
        )
        self._refuse_spoiled(takes.values())
        if marks["behind"]:
            for place, number in takes.items():
                if number not in self.behind and number not in self.crossing:
                    self.crossing[number] = tensors[place].clone()  # as it is now: a later call may change it in place
        self._refuse_reading(function, **marks)
        versions = {place: _version(t) for place, t in tensors.items()}

        self.is_running_a_call = True
        try:
            result = function(*args, **(kwargs or {}))
        finally:
            self.is_running_a_call = False

        changed = [place for place, t in tensors.items() if _version(t) != versions[place]]
        changes = self._changes(function, changed, tensors, takes, marks)
        given = tensors_in(result)
        gives = [self.numbers[t] if t in self.numbers else self._number(t, **marks) for t in given]
        if marks["behind"] and (changes or set(gives) - set(takes.values())):
            self._note_views(given, tensors, takes)
            for place in takes:
                arguments[place] = None
            autocast = torch.is_autocast_enabled(self.device_type)
            autocast = (self.device_type, torch.get_autocast_dtype(self.device_type)) if autocast else ()
            self.calls.append(Call(function, arguments, layout, takes, gives, changes, torch.is_grad_enabled(), autocast))
        return result

    def _number(self, tensor, shown, made=False, behind=False, source=None):
        number = self.numbers[tensor] = len(self.sources)
        self.sources[number] = source or self.stack[-1]
        for numbers, holds in ((self.shown, shown), (self.made, made), (self.behind, behind)):
            if holds:
                numbers.add(number)
        return number

    def _changes(self, function, changed, tensors, takes, marks):
        """New numbers for the tensors that a call has changed in place, and for all that share their memory."""
        if any(place not in takes for place in changed):
            name, layer = getattr(function, "__name__", str(function)), self.stack[-1]
            raise ValueError(f"the network has side effects: {name} in layer {layer} changes a tensor that outlives the pass")
        changes = {}
        for place in changed:
            base = self.views_of.get(takes[place], takes[place])
            memory = _memory(tensors[place])
            for tensor, number in [(t, n) for t, n in self.numbers.items() if _memory(t) == memory]:
                follows = tensor is tensors[place] or self.views_of.get(number, number) == base
                if marks["behind"] and not follows:
                    self.spoiled.add(number)
                elif number not in changes:
                    changes[number] = self._number(tensor, **marks)
                    self.views_of[changes[number]] = base
        return changes

    def _note_views(self, given, tensors, takes):
        for tensor in given:
            for place, number in takes.items():
                if _memory(tensors[place]) == _memory(tensor):
                    self.views_of[self.numbers[tensor]] = self.views_of.get(number, number)

    def _refuse_spoiled(self, numbers):
        if not self.spoiled.isdisjoint(numbers):
            layer = self.stack[-1]
            raise ValueError(
                f"layer {layer} uses a tensor from before the cut whose memory was changed in place behind it, through a view;"
                " write a new tensor in its stead, or cut elsewhere"
            )

    def _refuse_reading(self, function, shown, made, behind):
        name = getattr(function, "__name__", "")
        if name in READS and shown and behind:
            layer = self.stack[-1]
            raise ValueError(f"layer {layer} reads a value out of a tensor behind the cut ({name}), which cannot be followed")

    def record(self, output):
        """The ``Record`` of what was seen."""
        cut = " and ".join(self.at)
        missing = [name for module, name in self.cut.items() if name not in self.reached]
        if missing:
            raise ValueError(f"the cut before {cut} is none: the network never runs {' and '.join(missing)}")
        if output not in self.behind:
            raise ValueError(f"the cut before {cut} is none: what the network returns is not seen to depend on it")

        def is_featuremap(number, tensor, numbers=self.made):
            return number in self.shown and number in numbers and tensor.is_floating_point()

        found = Record(_needed(self.calls, output), self.crossing, is_featuremap, self.sources, output)
        if not found.z:  # a cut before all weights: the input is what there is to move
            found = Record(found.calls, self.crossing, lambda n, t: is_featuremap(n, t, self.shown), self.sources, output)
        if not found.z:
            raise ValueError(f"the cut before {cut} is none: no featuremap crosses it")
        return found


def _needed(calls, output):
    """Those of the calls that the output follows from."""
    wanted, needed = {output}, []
    for call in reversed(calls):
        if call.changes or wanted.intersection(call.gives):
            needed.append(call)
            wanted |= call.numbers
    return needed[::-1]


def tensors_in(tree):
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
