"""A card that is not there: torch's fake tensors have a device and a shape, and no values.

An operation on tensors of two devices raises, as it does on a card. What torch cannot do without a card has a stand-in
here. No kernel runs, the backward pass least of all: every gradient is of the right shape, and that is all.
"""

import sys
from contextlib import contextmanager

import numpy as np
import torch
import torch.cuda.amp.common
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

READ, NONZERO = torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default
INDEX = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)


class Card(TorchDispatchMode):
    """Answers what a program asks of values: 0.5, 1, True everywhere. An index on the CPU, which waits, is an error."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is READ:
            return 0.5 if args[0].dtype.is_floating_point else args[0].dtype == torch.bool or 1
        if function is NONZERO:
            return args[0].new_zeros(args[0].numel(), args[0].ndim, dtype=torch.int64)
        if function in INDEX and args[0].is_cuda and any(each is not None and not each.is_cuda for each in args[1]):
            raise RuntimeError("a tensor on the device cuda and an index on the device cpu")
        return function(*args, **kwargs or {})


class Arrivals(TorchDispatchMode):
    """Counts tensors that are made or copied onto the card, and leaves one of them on the CPU: the mistake itself.

    Args:
        left: Number of the one that stays on the CPU; None for none.

    Attributes:
        arrived: Shapes of those with a dimension; a scalar may stay on the CPU.
    """

    def __init__(self, left=None):
        super().__init__()
        self.left = left
        self.arrived = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        made = function(*args, **kwargs)
        given = tree_leaves((args, {name: value for name, value in kwargs.items() if name != "device"}))
        on_card = any(isinstance(each, torch.Tensor) and each.is_cuda for each in given)
        if on_card or not (isinstance(made, torch.Tensor) and made.is_cuda and made.ndim and made.numel()):
            return made
        self.arrived.append(f"{function} {tuple(made.shape)}")
        if len(self.arrived) - 1 == self.left:
            return function(*args, **kwargs | {"device": torch.device("cpu")})
        return made


def converted(module, function, recurse=True):
    """``Module._apply`` with new parameters, because the storage of a fake tensor cannot be exchanged."""
    for child in module.children():
        child._apply(function)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                made = function(parameter)
            module._parameters[name] = torch.nn.Parameter(made, requires_grad=parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = function(buffer)
    return module


def backward(loss, *_, **__):
    """Gives a gradient to every leaf that a loss comes from."""
    seen, todo = set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [function for function, _ in node.next_functions]
        if hasattr(node, "variable"):
            node.variable.grad = torch.empty_like(node.variable)


def as_array(tensor, *_, **__):
    """Numbers in place of values: 0, 1, 2, 0, …"""
    assert tensor.device.type == "cpu", "numpy() of a tensor on the card"
    some = np.arange(tensor.numel()).reshape(tuple(tensor.shape)) % 3
    return some.astype(str(tensor.dtype).removeprefix("torch."))


def zeros(state):
    """The same with zeros in place of fake tensors, which have nothing to save."""
    with unset_fake_temporarily():
        return tree_map_only(torch.Tensor, lambda each: torch.zeros(each.shape, dtype=each.dtype), state)


def seen_by_gaptune():
    """Whether there is a card: for gaptune, not for torch, which would set it up."""
    return sys._getframe(1).f_globals["__name__"].startswith("gaptune.")


@contextmanager
def fake_card(monkeypatch):
    """A context in which ``cuda`` is a device of fake tensors."""
    with FakeTensorMode(allow_non_fake_inputs=True), Card(), monkeypatch.context() as patch:
        forked, save = torch.random.fork_rng, torch.save
        patch.setattr(torch.random, "fork_rng", lambda devices=(), **_: forked(devices=[]))
        patch.setattr(torch.cuda, "is_available", seen_by_gaptune)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch, "save", lambda state, *where: save(zeros(state), *where))
        patch.setattr(torch.nn.Module, "_apply", converted)
        patch.setattr(torch.Tensor, "backward", backward)
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: tensor)
        patch.setattr(torch.Tensor, "numpy", as_array)
        yield
