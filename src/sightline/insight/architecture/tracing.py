"""Trace a forward pass: the calls of modules, the operations between them, and their connections.

The pass runs on a copy of the model on torch's meta device, whose tensors have shapes but no values. The model itself
gets no hooks, and its mode, device and weights do not change.
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
    """A call of a module, or an operation in a module that has submodules.

    name: path of the module. parent: the call in which it happens. inputs: values that it uses. outputs: for a module,
    the values computed inside it that it returns. shapes: of its outputs, without the batch. weights: ids (`id()`) of
    the parameters that its own operations use, without those of its children.
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
"""A tensor of the forward pass: (the node that computed it, the index among the outputs of that node)."""


def trace(
    model: nn.Module,
    image: Sequence[int],
    run: Callable[[Any, Tensor], Any] | None = None,
    name: str = "",
    method: str = "",
    prepare: Callable[[nn.Module], object] = lambda copied: None,
) -> Architecture:
    """Trace the forward pass of an image of shape `image` (C, H, W). The model and the random state do not change.

    run: function of (model, images [1, C, H, W]) to trace, by default the model's forward pass. If it returns a dict,
    its keys are the names of the outputs. name: of the model. method: title of the pre-training method of a Siamese
    network, or "". prepare: called with the copy before the pass. Raises the errors that the model raises on torch's
    meta device.
    """
    replica = meta_copy(model)
    prepare(replica)
    recorder, images = Recorder(replica), torch.empty(1, *image, device="meta")
    root = recorder.stack[0]
    recorder.values_by_id[id(images)] = Node("", "label", "", None), 0
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng(devices=[]), recorder.counter, recorder:
        warnings.simplefilter("ignore")  # training raises the same warnings
        output = run(replica, images) if run else replica(images)
    recorder.finish(root, tensors_in(output))
    root.multiply_adds = recorder.multiply_adds()
    connect(root)
    sizes = {id(value): value.numel() for value in replica.parameters()}
    tree, used = block_of(root, sizes, set()), parameters_of(root)
    unused = [path for path, value in replica.named_parameters() if id(value) not in used]
    note = f"{sum(sizes.values()) - tree.parameters:,} parameters are unused in the forward pass: {some_of(unused)}."
    names = tuple(map(str, output)) if isinstance(output, dict) else ()
    return Architecture(name, tuple(image), tree, names, method, (note,) if unused else ())


def meta_copy(model: nn.Module) -> nn.Module:
    """Copy a model to the meta device, in evaluation mode; its weights are not copied."""
    copied: dict[int, Any] = {}
    for module in model.modules():
        for holder in (module._parameters, module._buffers, module.__dict__):
            copied |= {id(value): value.detach().to("meta") for value in holder.values() if isinstance(value, Tensor)}
    replica = copy.deepcopy(model, copied)  # tensors in the memo are not copied
    for module in replica.modules():
        module.training = False
        module._compiled_call_impl = None
    return replica


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts, in order."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class Recorder(TorchFunctionMode):
    """Context manager that records torch functions (as a TorchFunctionMode) and the calls of a model's modules (by
    hooks)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.counter = FlopCounterMode(display=False)
        self.stack = [Node("", *describe_layer(model), None, model)]  # of the calls that have not returned
        self.starts: list[int] = []  # multiply-adds before each call in the stack except the first
        self.values_by_id: dict[int, Value] = {}
        # ids of the parameters that a tensor is or is computed from, by the id of the tensor
        self.weights = {id(value): frozenset([id(value)]) for value in model.parameters()}
        self.tensors: list[Tensor] = []  # kept so that their ids remain unique
        self.modules = {module: name for name, module in model.named_modules()}
        self.parameters = {id(value): name for name, value in model.named_parameters()}
        for module in list(self.modules)[1:]:
            module.register_forward_pre_hook(self.enter, with_kwargs=True)
            module.register_forward_hook(self.leave, with_kwargs=True)

    def multiply_adds(self) -> int:
        """Number of multiply-adds so far; FlopCounterMode counts each as two operations."""
        return self.counter.get_total_flops() // 2

    def values(self, tensors: list[Tensor]) -> list[Value]:
        """The recorded values of `tensors`, in the same order, without duplicates and without unrecorded tensors."""
        recorded = (self.values_by_id.get(id(tensor)) for tensor in tensors)
        return list(dict.fromkeys(value for value in recorded if value is not None))

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Forward pre-hook: push a node for the call."""
        node = Node(self.modules[module], *describe_layer(module), self.stack[-1], module)
        node.inputs = self.values(tensors_in((args, kwargs)))
        self.stack[-1].children.append(node)
        self.stack.append(node)
        self.starts.append(self.multiply_adds())

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Forward hook: pop the node of the call.

        If the module returns one of its inputs, return a view of that tensor instead, so that the output has an id of
        its own.
        """
        node = self.stack.pop()
        node.multiply_adds = self.multiply_adds() - self.starts.pop()
        if isinstance(output, Tensor) and self.values_by_id.get(id(output)) in node.inputs:
            value = self.values_by_id[id(output)]
            output = output.view_as(output)
            self.values_by_id[id(output)] = value
        self.finish(node, tensors_in(output))
        return output

    def finish(self, node: Node, outputs: list[Tensor]) -> None:
        """Record the output tensors of a node."""
        if node.module is not None:
            node.outputs = [self.values_by_id.get(id(tensor)) for tensor in outputs]
        node.shapes = [tuple(tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape) for tensor in outputs]
        self.values_by_id |= {id(tensor): (node, port) for port, tensor in enumerate(outputs)}
        self.tensors += outputs

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a torch function and record it."""
        kwargs, before = kwargs or {}, self.multiply_adds()
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        outputs = [args[0]] if name == "__setitem__" else tensors_in(result)
        if outputs and not name.endswith("_like"):
            taken = tensors_in(args[:1] if name in SHAPE_ONLY else (args, kwargs))
            self.operation(name, taken, outputs, self.multiply_adds() - before)
        return result

    def operation(self, name: str, taken: list[Tensor], outputs: list[Tensor], count: int) -> None:
        """Record one torch function.

        It gets a node if it has multiply-adds, a description or several inputs. The outputs of other functions, such as
        reshapes, are recorded as the same value as their input. taken: its input tensors. count: its multiply-adds.
        """
        container, values = self.stack[-1], self.values(taken)
        ids: frozenset[int] = frozenset().union(*(self.weights.get(id(tensor), ()) for tensor in taken))
        container.weights |= ids
        self.tensors += outputs
        if not values:
            for tensor in outputs:
                self.values_by_id.pop(id(tensor), None)
                self.weights |= {id(tensor): ids} if ids else {}
            return
        role, kind = describe_operation(name, taken[0], outputs[0])
        join = join_name(name)
        if not (count or role or len(values) > 1 or (ids and join)):
            self.values_by_id |= {id(tensor): values[0] for tensor in outputs}
            return
        names = sorted(self.parameters[key].rpartition(".") for key in ids)
        if not role:
            role = "join" if len(values) > 1 else "scale"
            tail = ", ".join(own for *_, own in names) if role == "scale" else ""
            kind = f"{join or name.strip('_')} {tail}".strip()
        layers = {layer for layer, *_ in names} - {container.name}
        path = layers.pop() if count and len(layers) == 1 else kind
        node = Node(path, role, kind, container, inputs=values, multiply_adds=count, weights=set(ids))
        container.children.append(node)
        self.finish(node, outputs)


def connect(root: Node) -> None:
    """Set the inputs and outputs of each module with submodules to the values that its children use.

    Also removes the operations inside layers.
    """
    containers = containers_in(root)
    call_inputs = {container: [*container.inputs] for container in containers}
    for container in containers:
        container.inputs = []
    for container in containers:
        for value in [
            *(value for child in container.children for value in child.inputs),
            *filter(None, container.outputs),
        ]:
            source_of(container, value)
    for container, values in call_inputs.items():
        container.inputs.sort(key=lambda value: values.index(value) if value in values else len(values))


def containers_in(node: Node) -> list[Node]:
    """The nodes of modules that have submodules, parents before children. The children of all other nodes are
    removed."""
    if node.role not in ("block", "sequence") or all(child.module is None for child in node.children):
        node.children, node.outputs = [], []
        return []
    return [node, *(container for child in node.children for container in containers_in(child))]


def source_of(container: Node, value: Value) -> Source:
    """The source of a value among the children or inputs of `container`.

    The modules between the value's node and `container` get the value as output or input, if they lack it.
    """
    child = value[0]
    while child.parent is not None and child.parent is not container:
        child = child.parent
    if child.parent is not container:
        if value not in container.inputs:
            container.inputs.append(value)
            source_of(container.parent or container, value)
        return -1, container.inputs.index(value)
    if child is not value[0] and value not in child.outputs:
        child.outputs.append(value)
        source_of(child, value)
    return container.children.index(child), value[1] if child is value[0] else child.outputs.index(value)


def parameters_of(node: Node) -> set[int]:
    """Ids of the parameters that a node and its children use."""
    found = set(node.weights)
    if node.module is not None:
        found |= {id(value) for value in node.module.parameters(recurse=not node.children)}
    return found.union(*(parameters_of(child) for child in node.children))


def block_of(node: Node, sizes: dict[int, int], counted: set[int]) -> Block:
    """Convert a node and its children to a block.

    sizes: number of elements of each parameter, by id. counted: ids of parameters that earlier blocks contain; they are
    not counted again.
    """
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
