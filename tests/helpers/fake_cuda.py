"""A card that is not there: its tensors are torch's fake ones, which have a device and a shape, and no values.

What happens on the CPU is real. An operation on tensors of two devices raises, as it does on a card. What torch cannot
do without a card has a stand-in here. No kernel runs, the backward pass least of all: every gradient is of the right
shape, and that is all.
"""

import sys
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
import torch.cuda.amp.common
from torch._functorch import eager_transforms
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
INDEX = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


class Card(TorchDispatchMode):
    """Answers what a program asks of values: 0.5, 1, True everywhere. An index on the CPU, which waits, is an error.

    Attributes:
        waits: How often the CPU has waited for a value.
    """

    def __init__(self):
        super().__init__()
        self.waits = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = {name: value for name, value in (kwargs or {}).items() if name != "pin_memory"}
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        if not any(isinstance(each, FakeTensor) for each in given) and not on_card(kwargs.get("device")):
            with unset_fake_temporarily():
                return function(*args, **kwargs)
        if function is aten._local_scalar_dense.default:
            self.waits += args[0].is_cuda
            return 0.5 if args[0].dtype.is_floating_point else args[0].dtype == torch.bool or 1
        if function is aten._to_copy.default and args[0].is_cuda:
            self.waits += not on_card(kwargs.get("device", "cuda"))
        if function is aten.equal.default:
            self.waits += 1
            if len({each.device for each in args}) > 1:
                raise RuntimeError(f"equal of tensors on the devices {args[0].device} and {args[1].device}")
            return True
        if function is aten.nonzero.default:
            self.waits += 1
            return args[0].new_zeros(args[0].numel(), args[0].ndim, dtype=torch.int64)
        if function in INDEX and args[0].is_cuda and any(each is not None and not each.is_cuda for each in args[1]):
            raise RuntimeError("a tensor on the device cuda and an index on the device cpu")
        return function(*args, **kwargs)


class Arrivals(TorchDispatchMode):
    """Counts tensors that are made or copied onto the card, and leaves one of them on the CPU: the mistake itself.

    Args:
        left: Number of the one that stays on the CPU; None for none.

    Attributes:
        arrived: What they are. Scalars, which may stay on the CPU, do not count.
    """

    def __init__(self, left=None):
        super().__init__()
        self.left = left
        self.arrived = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        made = function(*args, **kwargs)
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        if any(each.is_cuda for each in given) or not (isinstance(made, torch.Tensor) and made.is_cuda):
            return made
        if not made.ndim or not made.numel():
            return made
        self.arrived.append(f"{function} {tuple(made.shape)}")
        if len(self.arrived) - 1 == self.left:
            return function(*args, **kwargs | {"device": torch.device("cpu")})
        return made


class Still:
    """A stream, or an event, of a card on which nothing takes time."""

    def record_event(self):
        return self

    def synchronize(self):
        pass

    def wait_event(self, event):
        pass


class AtOnce:
    """A thread that does at once what it is given: a thread of its own would not see the card."""

    def __init__(self, *_):
        pass

    def submit(self, function, *given):
        done = Future()
        done.set_result(function(*given))
        return done

    def shutdown(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def on_card(device):
    """Whether a device, which may be None, is the card."""
    return device is not None and torch.device(device).type == "cuda"


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


def backward(losses, *_, **__):
    """Gives a gradient to every leaf that some tensors come from."""
    seen, todo = set(), [each.grad_fn for each in ([losses] if isinstance(losses, torch.Tensor) else losses)]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [function for function, _ in node.next_functions]
        if hasattr(node, "variable"):
            node.variable.grad = torch.empty_like(node.variable)


def gradients(_, inputs, *__, **___):
    """Stands in for gradients of some tensors: of their shapes, without values."""
    return tuple(torch.empty_like(each) for each in ([inputs] if isinstance(inputs, torch.Tensor) else inputs))


def as_array(tensor):
    """Numbers in place of the values that a fake tensor lacks."""
    assert not tensor.is_cuda, "numpy() of a tensor on the card"
    some = np.arange(tensor.numel()).reshape(tuple(tensor.shape)) % 3
    return some.astype(str(tensor.dtype).removeprefix("torch."))


def zeros(state):
    """The same with zeros in place of fake tensors, which have nothing to save."""
    with unset_fake_temporarily():
        return tree_map_only(FakeTensor, lambda each: torch.zeros(each.shape, dtype=each.dtype), state)


def seen_by_gaptune():
    """Whether there is a card: for gaptune, not for torch, which would set it up."""
    return sys._getframe(1).f_globals["__name__"].startswith("gaptune.")


@contextmanager
def fake_card(monkeypatch, free=2**40):
    """A context in which ``cuda`` is a device of fake tensors; gives the ``Card``.

    Args:
        monkeypatch: Puts the stand-ins into torch.
        free: Bytes of free memory that the card tells of.
    """
    forked, save, numpy = torch.random.fork_rng, torch.save, torch.Tensor.numpy
    with monkeypatch.context() as context, FakeTensorMode(allow_non_fake_inputs=True), Card() as card:
        patch = context.setattr
        patch(torch.random, "fork_rng", lambda devices=(), **_: forked(devices=[]))
        patch(torch.cuda, "is_available", seen_by_gaptune)
        patch(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        patch(torch.cuda, "mem_get_info", lambda *_: (free, free))
        patch(torch.cuda, "get_per_process_memory_fraction", lambda *_: 1.0)
        patch(torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state())
        patch(torch.cuda, "set_rng_state", lambda *_: None)
        patch(torch.cuda, "Stream", lambda *_: Still())
        patch(torch.cuda, "current_stream", lambda *_: Still())
        patch(torch.cuda, "stream", lambda _: nullcontext())
        patch(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch(torch.autograd, "backward", backward)
        patch(torch.autograd, "grad", gradients)
        patch(eager_transforms, "_autograd_grad", gradients)
        patch(torch.nn.Module, "_apply", converted)
        patch(torch, "save", lambda state, *where: save(zeros(state), *where))
        patch(torch.Tensor, "pin_memory", lambda tensor, *_: tensor)
        patch(torch.Tensor, "record_stream", lambda *_: None)
        patch(torch.Tensor, "numpy", lambda each, **_: (as_array if isinstance(each, FakeTensor) else numpy)(each))
        yield card
