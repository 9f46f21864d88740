"""Optimizers by name, their parameter groups, gradient clipping, and a moving average of the weights.

Each parameter group has `kind` (the update rule), `lr_scale` (the layer's factor) and `base_lr` (the learning rate at
schedule factor 1); the training loop sets lr = base_lr * factor before each step. Build the optimizer after moving the
model to its device and memory format.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.adamw import adamw

from ..config.schema import Optim
from ..errors import SightlineError, nearest_hint, of_type
from .distributed import full_tensor, shard_like


def parameter_groups(model: nn.Module, optim: Optim, depths: Mapping[str, int]) -> list[dict[str, Any]]:
    """Group the trainable parameters by settings, with their names, for a torch optimizer.

    depths: depth of each parameter by name, largest for the head. With `layer_decay` below 1, the learning rate of a
    parameter is multiplied by layer_decay^(largest depth - depth), and by the value of its part of the model in the
    model's `rate_scales`, if it has them. Without `decay_norm_and_bias`, parameters of one dimension have no weight
    decay. With the optimizer `muon`, the parameters in `hidden_weights` have Muon's update with the learning rate
    `muon_lr`; all others have AdamW's. Raises SightlineError if no parameter is trainable.
    """
    hidden = hidden_weights(model) if optim.name == "muon" else frozenset()
    deepest = max(depths.values(), default=0)
    groups: dict[tuple[str, float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        kind = "muon" if name in hidden else "adamw" if optim.name == "muon" else optim.name
        if optim.name == "lars" and parameter.ndim < 2:
            kind = "plain"
        decayed = kind != "plain" and (optim.decay_norm_and_bias or parameter.ndim > 1)
        decay = optim.weight_decay if decayed else 0.0
        scale = getattr(model, "rate_scales", {}).get(name.split(".")[0], 1.0)
        scale *= optim.layer_decay ** (deepest - depths[name]) if optim.layer_decay < 1 else 1.0
        rate = scale * (optim.muon_lr if kind == "muon" else optim.lr)
        settings = {"kind": kind, "weight_decay": decay, "lr_scale": scale, "base_lr": rate, "lr": rate}
        group = groups.setdefault((kind, decay, scale), {"params": [], **settings})
        group["params"].append((name, parameter))
    if not groups:
        cure = "train the backbone, which is frozen now: --model.freeze false"
        raise SightlineError("the model has no trainable parameter", where="model.freeze", cure=cure)
    return list(groups.values())


def hidden_weights(model: nn.Module) -> frozenset[str]:
    """Names of the weights that Muon updates: all matrices and kernels except those in the first layer, the head and
    embeddings.

    The first layer is the one registered first; the head is the attribute `head`, or a segmenter's `class_layers`.
    """
    embeddings = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    weights = [name for name, p in model.named_parameters() if p.ndim >= 2 and name.endswith("weight")]
    matrices = [name for name in weights if name not in embeddings]
    heads = tuple(f"network.{path}." for path in getattr(model, "class_layers", ())) or ("head.",)
    return frozenset(name for name in matrices[1:] if not name.startswith(heads))


def build_optimizer(
    model: nn.Module, optim: Optim, depths: Mapping[str, int], precision: torch.dtype = torch.float32
) -> Optimizer:
    """Build the optimizer `optim.name` with `parameter_groups`.

    Uses torch's fused updates if available: 1.3 to 2 times as fast as the default for a ResNet-18 in channels_last on
    one thread of an AMD EPYC, best of 15 (torch 2.15). `adam` adds weight decay to the gradient; `adamw` and `muon`
    subtract it from the weights. precision: dtype of Muon's matrix products, which are in float32 instead of float16.
    To resume, `load_state_dict` restores the moments, keeps the settings, and raises SightlineError for other weights.
    """
    groups = parameter_groups(model, optim, depths)
    check_optimizer(optim)
    if optim.name == "muon":
        products = torch.float32 if precision == torch.float16 else precision
        optimizer: Optimizer = Muon(groups, optim, bool(fused(groups)), products)
    else:
        optimizer = of_type(Optimizer, OPTIMIZERS[optim.name](groups, optim), optim.name)
    optimizer.register_load_state_dict_pre_hook(keep_settings)
    optimizer.register_load_state_dict_post_hook(align_moments)
    return optimizer


def check_optimizer(optim: Optim) -> None:
    """Raise SightlineError if there is no optimizer `optim.name`."""
    names = (*OPTIMIZERS, "muon")
    if optim.name not in names:
        cure = f"use one of {', '.join(names)}; for an optimizer of your own, add --code FILE"
        what = f"there is no optimizer {optim.name!r}{nearest_hint(optim.name, names)}"
        raise SightlineError(what, where="optim.name", cure=cure)


def fused(groups: list[dict[str, Any]]) -> bool | None:
    """Whether torch has fused updates for the device of the parameters: True, or None for torch's default."""
    return groups[0]["params"][0][1].device.type in ("cpu", "cuda") or None


def lars(groups: list[dict[str, Any]], optim: Optim) -> Optimizer:
    """Build timm's LARS. Parameters of one dimension have SGD steps with momentum, without weight decay."""
    from timm.optim.lars import Lars

    for group in groups:
        group["always_adapt"] = group["kind"] == "lars"  # timm adapts only groups with weight decay
    return Lars(groups, lr=optim.lr, momentum=optim.momentum, nesterov=optim.nesterov)


class Unchanged(Optimizer):
    """Leave the parameters unchanged, for heads that the task's learner computes after the last step."""

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Do nothing."""


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], Optim], Optimizer]] = {
    "sgd": lambda groups, o: SGD(groups, lr=o.lr, momentum=o.momentum, nesterov=o.nesterov, fused=fused(groups)),
    "lars": lars,
    "adam": lambda groups, o: Adam(groups, lr=o.lr, betas=o.betas, fused=fused(groups)),
    "adamw": lambda groups, o: AdamW(groups, lr=o.lr, betas=o.betas, fused=fused(groups)),
    "lbfgs": lambda groups, o: Unchanged(groups, {}),
    "knn": lambda groups, o: Unchanged(groups, {}),
}
"""Functions (parameter groups of `parameter_groups`, the section `optim`) -> optimizer; `muon` is built separately,
because it also needs the precision."""


def keep_settings(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Combine the moments in the state_dict `state` with the settings (parameter groups) of `optimizer`: a new
    state_dict. Raises SightlineError if the parameters of both differ."""
    groups = optimizer.state_dict()["param_groups"]
    names, saved = ([(g["kind"], list(g["param_names"])) for g in each] for each in (groups, state["param_groups"]))
    if names != saved:
        cure = "resume with the recipe that the run was started with, or start a new run"
        raise SightlineError("the saved optimizer state does not match the parameters of this model", cure=cure)
    return {"state": state["state"], "param_groups": groups}


def align_moments(optimizer: Optimizer) -> None:
    """Convert the moments of an optimizer, after loading, to the memory layout of their parameters.

    Saved tensors are contiguous. torch's fused CPU updates require the layout of the weights (channels_last), and
    otherwise silently update the wrong elements (torch 2.15).
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if name == "step" and isinstance(optimizer, Muon):  # torch moves it for its own fused optimizers only
                state[name] = value.to(parameter.device)
            elif name != "step" and isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(shard_like(value, parameter))


class Muon(Optimizer):
    """Muon for parameter groups of kind "muon", AdamW for those of kind "adamw".

    Muon (https://kellerjordan.github.io/posts/muon/; arXiv 2502.16982): Nesterov momentum, orthogonalized, times
    lr * sqrt(max(1, rows / columns)), with decoupled weight decay. A kernel [out, in, h, w] is treated as the matrix
    [out, in * h * w]. For matrices, as torch.optim.Muon with adjust_lr_fn="original", which has none for kernels.
    """

    def __init__(self, groups: list[dict[str, Any]], optim: Optim, fused: bool, precision: torch.dtype):
        super().__init__(groups, {})
        self.optim, self.fused, self.precision = optim, fused, precision

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        assert closure is None, "closures are not supported"
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if group["kind"] == "muon":
                moments = [self.moment(p, "momentum_buffer") for p in parameters]
                muon(parameters, moments, group["lr"], group["weight_decay"], self.optim, self.precision)
            else:
                self.adamw(parameters, group["lr"], group["weight_decay"])

    def adamw(self, parameters: list[Tensor], lr: float, weight_decay: float) -> None:
        """torch's AdamW step for these parameters."""
        for parameter in parameters:
            self.state[parameter].setdefault("step", torch.zeros((), device=parameter.device))
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [self.moment(p, "exp_avg") for p in parameters],
            [self.moment(p, "exp_avg_sq") for p in parameters],
            [],
            [self.state[p]["step"] for p in parameters],
            fused=self.fused,
            amsgrad=False,
            beta1=self.optim.betas[0],
            beta2=self.optim.betas[1],
            lr=lr,
            weight_decay=weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def moment(self, parameter: Tensor, name: str) -> Tensor:
        """The moment `name` of a parameter, such as its momentum; zeros before the first step."""
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        return state[name]


def muon(
    parameters: list[Tensor],
    moments: list[Tensor],
    lr: float,
    weight_decay: float,
    optim: Optim,
    precision: torch.dtype,
) -> None:
    """Apply Muon's update to the parameters in place. Matrices of equal shape are orthogonalized together.

    With `optim.muon_normalize` each weight is first scaled to norm sqrt(rows), and its step to norm lr * sqrt(rows), so
    that lr is approximately the angle of the step. This is for weights before batch norm, whose output does not depend
    on their scale (github.com/KellerJordan/cifar10-airbench).
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    torch._foreach_lerp_(moments, gradients, 1 - optim.muon_momentum)
    updates = torch._foreach_lerp(gradients, moments, optim.muon_momentum)
    shapes: dict[torch.Size, list[int]] = {}
    for index, update in enumerate(updates):
        shapes.setdefault(update.shape, []).append(index)
    for indices in shapes.values():
        matrices = torch.stack([updates[index].flatten(1) for index in indices])
        rows, columns = matrices.shape[1:]
        steps = orthogonalize(matrices, precision)
        for index, step in zip(indices, steps, strict=True):
            weight = parameters[index]
            if optim.muon_normalize:
                weight.mul_(rows**0.5 / weight.norm().clamp(min=1e-7))
                step = step * (rows**0.5 / step.norm().clamp(min=1e-7))
            else:
                step = step * max(1, rows / columns) ** 0.5
            weight.mul_(1 - lr * weight_decay).sub_(step.view(weight.shape), alpha=lr)


def orthogonalize(matrices: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """Orthogonalize matrices [N, rows, columns] approximately; float32 of the same shape.

    The result has the same singular vectors and singular values of about 0.7 to 1.2. It takes five quintic
    Newton-Schulz steps with Keller Jordan's coefficients, which trade accuracy for speed. precision: dtype of the
    matrix products.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).to(precision)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.mT if tall else x).float()


def clip_gradients(optimizer: Optimizer, clip_norm: float) -> Tensor:
    """Clip the gradients in place to the total norm `clip_norm` (0: no clipping); return the norm before clipping."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = full_tensor(nn.utils.get_total_norm([p.grad for p in parameters]))
    if clip_norm:
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return norm


@contextmanager
def sam_perturbed(model: nn.Module, radius: float) -> Generator[None]:
    """Add radius * g / |g| to the weights within the block, for sharpness-aware minimization (arXiv 2010.01412).

    g: the gradients of all parameters. They are set to None at the start of the block; gradients computed in the block
    are kept. Within it, batch norm does not update its running statistics. Afterwards the weights are restored exactly.
    """
    parameters = [p for p in model.parameters() if p.grad is not None]
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    gradients = [p.grad for p in parameters if p.grad is not None]
    before = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        scale = radius / nn.utils.get_total_norm(gradients).clamp(min=1e-12)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.addcmul_(gradient, scale)
            parameter.grad = None
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)


class Average:
    """Exponential moving average of a model's weights and floating-point buffers, for evaluation.

    Batch-norm statistics are averaged like the weights; integer buffers (counters) are copied. The decay of update t is
    min(decay, (1 + t) / (10 + t)), so that the initial weights soon have no influence.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.means = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the current weights of the model."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        pairs = [(self.means[name], value) for name, value in model.state_dict().items()]
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        for sharded in (False, True):  # one call must not mix sharded weights with buffers, which are not sharded
            group = [pair for pair in floating if hasattr(pair[0], "full_tensor") == sharded]
            if group:
                torch._foreach_lerp_([mean for mean, _ in group], [value for _, value in group], 1 - decay)
        for mean, value in pairs:
            if not mean.is_floating_point():
                mean.copy_(value)

    @contextmanager
    def swapped_into(self, model: nn.Module) -> Generator[None]:
        """Context manager: the model has the averaged weights within the block, and afterwards its own again."""
        before = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.means)
        try:
            yield
        finally:
            model.load_state_dict(before)

    def tensors(self) -> dict[str, Tensor]:
        """The averaged weights and buffers by name, as references: later updates change them."""
        return dict(self.means)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Load the average that was saved in a checkpoint, to resume a run.

        tensors: averaged weights and buffers by name. updates: number of updates before the save. Raises
        SightlineError if names or shapes differ from the model's.
        """
        if {n: v.shape for n, v in tensors.items()} != {n: v.shape for n, v in self.means.items()}:
            cure = "resume with the recipe that the run was started with, or start a new run"
            raise SightlineError("the saved averages of the weights do not match those of this model", cure=cure)
        self.updates = updates
        for name, mean in self.means.items():
            mean.copy_(shard_like(tensors[name], mean))
