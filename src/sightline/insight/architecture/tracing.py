"""Trace one forward pass: every call of a module, every operation between them, and which feeds which.

The pass runs on a copy of the model on torch's meta device, which has shapes and no values. The model itself gets no
hooks and keeps its mode, device and weights.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ...errors import some_of
from .descriptions import SHAPE_ONLY, describe_layer, describe_operation, join_name
from .tree import Architecture, Block, Role, Source, merge_children, merge_repeat


@dataclass(eq=False)
class Node:
    """One call of a module, or one operation outside of any layer.

    name: path of the module. inputs: the values it takes. outputs: of a module, the inner values that it returns.
    shapes: of its outputs, without the batch. weights: ids of the parameters that its own operations take.
    """

    name: str
    role: Role
    kind: str
    parent: "Node | None"
    module: nn.Module | None = None
    inputs: list["Value"] = field(default_factory=list)
    outputs: list["Value | None"] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    multiply_adds: int = 0
    weights: set[int] = field(default_factory=set)
    children: list["Node"] = field(default_factory=list)


Value = tuple[Node, int]
"""A tensor: the node that computed it, and the number of the output."""


def trace(
    model: nn.Module,
    image: Sequence[int],
    run: Callable[[Any, Tensor], Any] | None = None,
    name: str = "",
    method: str = "",
) -> Architecture:
    """Trace the pass of one image [C, H, W] without computing it; neither model nor random state changes.

    run: function of (model, images [1, C, H, W]) to trace, by default the model. A dict that it returns names the
    outputs. method: title of the method that trains a Siamese pair. Raises whatever the model raises on torch's meta
    device.
    """
    twin = meta_copy(model)
    recorder, images = Recorder(twin), torch.empty(1, *image, device="meta")
    root = recorder.open[0]
    recorder.made[id(images)] = Node("", "label", "", None), 0
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng(devices=[]), recorder.counter, recorder:
        warnings.simplefilter("ignore")  # training repeats them
        output = run(twin, images) if run else twin(images)
    recorder.finish(root, tensors_in(output))
    root.multiply_adds = recorder.multiply_adds()
    connect(root)
    sizes = {id(value): value.numel() for value in twin.parameters()}
    tree, used = block_of(root, sizes, set()), parameters_of(root)
    idle = [path for path, value in twin.named_parameters() if id(value) not in used]
    note = f"{sum(sizes.values()) - tree.parameters:,} parameters are unused in this pass: {some_of(idle)}."
    names = tuple(map(str, output)) if isinstance(output, dict) else ()
    return Architecture(name, tuple(image), tree, names, method, (note,) if idle else ())


def meta_copy(model: nn.Module) -> nn.Module:
    """Copy the model in evaluation mode, with parameters and buffers that have shapes but no values."""
    copied: dict[int, Any] = {}
    for module in model.modules():
        for holder in (module._parameters, module._buffers, module.__dict__):
            copied |= {id(value): value.detach().to("meta") for value in holder.values() if isinstance(value, Tensor)}
    twin = copy.deepcopy(model, copied)  # the memo already holds every tensor: no weight is read
    for module in twin.modules():
        module.training = False
        module._compiled_call_impl = None
    return twin


def tensors_in(value: Any) -> list[Tensor]:
    """Tensors in nested tuples, lists and dicts, in order."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class Recorder(TorchFunctionMode):
    """Record calls of the modules of `twin` by hooks, and functions of torch by being the function mode."""

    def __init__(self, twin: nn.Module):
        super().__init__()
        self.counter = FlopCounterMode(display=False)
        self.open = [Node("", *describe_layer(twin), None, twin)]
        self.starts: list[int] = []
        self.made: dict[int, Value] = {}
        self.weights = {id(value): frozenset([id(value)]) for value in twin.parameters()}
        self.alive: list[Tensor] = []  # keeps ids of tensors unique
        self.modules = {module: name for name, module in twin.named_modules()}
        self.parameters = {id(value): name for name, value in twin.named_parameters()}
        for module in list(self.modules)[1:]:
            module.register_forward_pre_hook(self.enter, with_kwargs=True)
            module.register_forward_hook(self.leave, with_kwargs=True)

    def multiply_adds(self) -> int:
        """Multiply-adds so far; the counter counts each as two operations."""
        return self.counter.get_total_flops() // 2

    def values(self, tensors: list[Tensor]) -> list[Value]:
        """The recorded values among `tensors`, each once, in order."""
        return list(dict.fromkeys(self.made[id(tensor)] for tensor in tensors if id(tensor) in self.made))

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Open a node when a call begins."""
        node = Node(self.modules[module], *describe_layer(module), self.open[-1], module)
        node.inputs = self.values(tensors_in((args, kwargs)))
        self.open[-1].children.append(node)
        self.open.append(node)
        self.starts.append(self.multiply_adds())

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Close the node. A module that returns its input unchanged returns a view of it, to tell the two apart."""
        node = self.open.pop()
        node.multiply_adds = self.multiply_adds() - self.starts.pop()
        if isinstance(output, Tensor) and self.made.get(id(output)) in node.inputs:
            value = self.made[id(output)]
            output = output.view_as(output)
            self.made[id(output)] = value
        self.finish(node, tensors_in(output))
        return output

    def finish(self, node: Node, outputs: list[Tensor]) -> None:
        """Record the outputs of a node."""
        if node.module is not None:
            node.outputs = [self.made.get(id(tensor)) for tensor in outputs]
        node.shapes = [tuple(tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape) for tensor in outputs]
        self.made |= {id(tensor): (node, port) for port, tensor in enumerate(outputs)}
        self.alive += outputs

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch and record it."""
        kwargs, before = kwargs or {}, self.multiply_adds()
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        outputs = [args[0]] if name == "__setitem__" else tensors_in(result)
        if outputs and not name.endswith("_like"):
            taken = tensors_in(args[:1] if name in SHAPE_ONLY else (args, kwargs))
            self.operation(name, taken, outputs, self.multiply_adds() - before)
        return result

    def operation(self, name: str, taken: list[Tensor], outputs: list[Tensor], count: int) -> None:
        """Record an operation that computes, joins values or has a name; others pass their input's value on."""
        frame, values = self.open[-1], self.values(taken)
        ids: frozenset[int] = frozenset().union(*(self.weights.get(id(tensor), ()) for tensor in taken))
        frame.weights |= ids
        self.alive += outputs
        if not values:
            for tensor in outputs:
                self.made.pop(id(tensor), None)
                self.weights |= {id(tensor): ids} if ids else {}
            return
        role, kind = describe_operation(name, taken[0], outputs[0])
        join = join_name(name)
        if not (count or role or len(values) > 1 or (ids and join)):
            self.made |= {id(tensor): values[0] for tensor in outputs}
            return
        names = sorted(self.parameters[key].rpartition(".") for key in ids)
        if not role:
            role = "join" if len(values) > 1 else "scale"
            tail = ", ".join(own for *_, own in names) if role == "scale" else ""
            kind = f"{join or name.strip('_')} {tail}".strip()
        layers = {layer for layer, *_ in names} - {frame.name}
        path = layers.pop() if count and len(layers) == 1 else kind
        node = Node(path, role, kind, frame, inputs=values, multiply_adds=count, weights=set(ids))
        frame.children.append(node)
        self.finish(node, outputs)


def connect(root: Node) -> None:
    """Drop the inside of layers, and give each module the inputs and outputs that its inside takes and returns."""
    frames = containers_in(root)
    passed = {frame: [*frame.inputs] for frame in frames}
    for frame in frames:
        frame.inputs = []
    for frame in frames:
        for value in [*(value for child in frame.children for value in child.inputs), *filter(None, frame.outputs)]:
            source_of(frame, value)
    for frame, values in passed.items():
        frame.inputs.sort(key=lambda value: values.index(value) if value in values else len(values))


def containers_in(node: Node) -> list[Node]:
    """The modules with modules in them, parents first; other nodes lose their inside."""
    if node.role not in ("block", "sequence") or all(child.module is None for child in node.children):
        node.children, node.outputs = [], []
        return []
    return [node, *(frame for child in node.children for frame in containers_in(child))]


def source_of(frame: Node, value: Value) -> Source:
    """A value as (index of a child of `frame`, output) or (-1, input of `frame`), with inputs and outputs added."""
    child = value[0]
    while child.parent is not None and child.parent is not frame:
        child = child.parent
    if child.parent is not frame:
        if value not in frame.inputs:
            frame.inputs.append(value)
            source_of(frame.parent or frame, value)
        return -1, frame.inputs.index(value)
    if child is not value[0] and value not in child.outputs:
        child.outputs.append(value)
        source_of(child, value)
    return frame.children.index(child), value[1] if child is value[0] else child.outputs.index(value)


def parameters_of(node: Node) -> set[int]:
    """Ids of the parameters that a node uses."""
    found = set(node.weights)
    if node.module is not None:
        found |= {id(value) for value in node.module.parameters(recurse=not node.children)}
    return found.union(*(parameters_of(child) for child in node.children))


def block_of(node: Node, sizes: dict[int, int], counted: set[int]) -> Block:
    """The block of a node. sizes: numbers in each parameter by id. counted: ids that earlier blocks have counted."""
    own = parameters_of(node)
    new = sum(sizes[key] for key in own - counted)
    children = []
    for child in node.children:
        inputs = tuple(source_of(node, value) for value in child.inputs)
        children.append(replace(block_of(child, sizes, counted), inputs=inputs))
    counted |= own
    outputs = tuple(value and source_of(node, value) for value in node.outputs) if children else ()
    rows, outputs = merge_children(children, outputs, merge_repeat)
    shapes = tuple(node.shapes)
    name = node.name.removeprefix(f"{node.parent.name}.") if node.parent else node.name
    return Block(name, node.kind, node.role, shapes, new, node.multiply_adds, (), 1, outputs, rows)
