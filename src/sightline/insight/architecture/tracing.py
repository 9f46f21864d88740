"""What happens in one forward pass: every call of a module and every operation between them, and who feeds whom.

The pass runs on a copy of the model that has shapes and no values (torch's meta device): nothing is computed, and the
model itself gets no hooks and keeps its mode, its device and its weights.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from .layer_words import JOINS, SHAPE_ONLY, layer_words, operation_words

Run = Callable[[Any, Tensor], Any]
"""(model, images) -> the outputs of the pass that is wanted."""


@dataclass(eq=False)
class Node:
    """One call of a module, or one operation outside of any layer.

    inputs: whose values it took, in order. outputs: of a call, by which inner value each of its tensors came about.
    shapes: of its output tensors, without the batch. weights: ids of the parameters that its own operations took.
    """

    name: str
    role: str
    words: str
    parent: "Node | None"
    module: nn.Module | None = None
    inputs: list["Source"] = field(default_factory=list)
    outputs: list["Source | None"] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    multiply_adds: int = 0
    weights: set[int] = field(default_factory=set)
    children: list["Node"] = field(default_factory=list)


Source = tuple[Node, int]
"""An output tensor of a node: the node, and which one."""


def record(model: nn.Module, shape: Sequence[int], run: Run) -> tuple[Node, nn.Module, tuple[str, ...]]:
    """(the recorded pass, the copy of the model whose parameters the nodes name, names of the outputs if a dict).

    shape: of one input, without the batch. Raises whatever the model raises.
    """
    twin = meta_twin(model)
    root = Node("", *layer_words(model), None, twin, inputs=[(Node("", "", "", None), 0)])
    recorder, images = Recorder(twin, root), torch.empty(1, *shape, device="meta")
    recorder.made[id(images)] = root.inputs[0]
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng(devices=[]), recorder.counter, recorder:
        warnings.simplefilter("ignore")  # of a library about its own pass; training will say them again
        output = run(twin, images)
    recorder.finish(root, list(tensors_in(output)))
    return root, twin, tuple(map(str, output)) if isinstance(output, dict) else ()


def meta_twin(model: nn.Module) -> nn.Module:
    """A copy of the model in evaluation mode whose parameters and buffers have shapes but no values."""
    known: dict[int, Any] = {}
    for module in model.modules():
        for holder in (module._parameters, module._buffers, module.__dict__):
            known |= {id(value): hollow(value) for value in holder.values() if isinstance(value, Tensor)}
    twin = copy.deepcopy(model, known)  # what `known` has is taken for copied already: no weight is read
    for module in twin.modules():
        module.training = False
        module._compiled_call_impl = None
    return twin


def hollow(tensor: Tensor) -> Tensor:
    """The shape of a tensor on the meta device, a parameter if it is one."""
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)


class Recorder(TorchFunctionMode):
    """Hears of every call of a module of `twin`, by hooks, and of every function of torch, as the mode that it is."""

    def __init__(self, twin: nn.Module, root: Node):
        super().__init__()
        self.counter = FlopCounterMode(display=False)
        self.open = [root]
        self.starts: list[int] = []
        self.made: dict[int, Source] = {}
        self.weights: dict[int, frozenset[int]] = {id(value): frozenset([id(value)]) for value in twin.parameters()}
        self.alive: list[Tensor] = []  # a tensor that is gone leaves its id to another
        self.modules = {module: name for name, module in twin.named_modules()}
        self.parameters = {id(value): name for name, value in twin.named_parameters()}
        for module in self.modules:
            if module is not twin:
                module.register_forward_pre_hook(self.enter, with_kwargs=True)
                module.register_forward_hook(self.leave, with_kwargs=True)

    def multiply_adds(self) -> int:
        """Of the whole pass so far; the counter takes each for two operations."""
        return self.counter.get_total_flops() // 2

    def sources(self, values: Any) -> list[Source]:
        """Whose values these are, each once, in order."""
        found = [self.made[id(tensor)] for tensor in tensors_in(values) if id(tensor) in self.made]
        return list(dict.fromkeys(found))

    def below(self, name: str) -> str:
        """A path of the model as seen from the innermost module that is running."""
        module = self.open[-1].module
        return name.removeprefix(f"{self.modules[module]}.") if module in self.modules else name

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A call begins."""
        node = Node(self.below(self.modules[module]), *layer_words(module), self.open[-1], module)
        node.inputs = self.sources((args, kwargs))
        self.open[-1].children.append(node)
        self.open.append(node)
        self.starts.append(self.multiply_adds())

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """A call ends. Who returns its input as it is gives a new name to the same values, so that both can be told
        apart."""
        node = self.open.pop()
        node.multiply_adds = self.multiply_adds() - self.starts.pop()
        if isinstance(output, Tensor) and self.made.get(id(output)) in node.inputs:
            source = self.made[id(output)]
            output = output.view_as(output)
            self.made[id(output)] = source
        self.finish(node, list(tensors_in(output)))
        return output

    def finish(self, node: Node, outputs: list[Tensor]) -> None:
        """Note what a node gave."""
        if node.module is not None:
            node.outputs = [self.made.get(id(tensor)) for tensor in outputs]
        node.shapes = [tuple(tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape) for tensor in outputs]
        for port, tensor in enumerate(outputs):
            self.made[id(tensor)] = (node, port)
        self.alive += outputs
        if node.parent is None:  # the end
            node.multiply_adds = self.multiply_adds()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """An operation: run it, and note it if it joins, computes or does something with a name."""
        kwargs, before = kwargs or {}, self.multiply_adds()
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        outputs = [args[0]] if name == "__setitem__" else list(tensors_in(result))
        if outputs and not name.endswith("_like"):
            taken = args[:1] if name in SHAPE_ONLY else (args, kwargs)
            self.operation(name, taken, outputs, self.multiply_adds() - before)
        return result

    def operation(self, name: str, taken: Any, outputs: list[Tensor], count: int) -> None:
        """Note an operation on the tensors in `taken`; one that only moves values passes on whose they are."""
        given, frame = list(tensors_in(taken)), self.open[-1]
        sources = self.sources(taken)
        ids = frozenset().union(*(self.weights.get(id(tensor), frozenset()) for tensor in given))
        frame.weights |= ids
        self.alive += outputs
        if not sources:
            for tensor in outputs:
                self.made.pop(id(tensor), None)
                self.weights |= {id(tensor): ids} if ids else {}
            return
        role, words = operation_words(name, given[0] if given else None, outputs[0])
        joins = len(sources) > 1 or (bool(ids) and name in JOINS)
        if not (count or joins or role):
            self.made |= {id(tensor): sources[0] for tensor in outputs}
            return
        layer, tail = self.named(ids)
        if not role:
            role = "join" if len(sources) > 1 else "scale"
            words = f"{JOINS.get(name, name.strip('_'))} {tail if len(sources) == 1 else ''}".strip()
        node = Node(layer if count and layer else words, role, words, frame, inputs=sources, multiply_adds=count)
        node.weights = set(ids)
        frame.children.append(node)
        self.finish(node, outputs)

    def named(self, ids: frozenset[int]) -> tuple[str, str]:
        """(the layer whose parameters these are, the parameters' own names), both as seen from the running module."""
        names = sorted(self.below(self.parameters[key]) for key in ids if key in self.parameters)
        layers = {name.rpartition(".")[0] for name in names if "." in name}
        return layers.pop() if len(layers) == 1 else "", ", ".join(names)
