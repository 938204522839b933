"""Several processes that train one model together by torch.distributed: each computes its part of every batch."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from gaptune.errors import UserError, first_line
from gaptune.trial.gpu_memory import is_out_of_memory
from gaptune.trial.loss import NonFinite

_PATIENCE = timedelta(days=7)
"""Longest wait within a collective: others may save or evaluate for hours. Where a rank has ended, gloo tells some of
the others at once, and NCCL none: whoever started the ranks must end all of them."""

_BUCKET = 2**26
"""Bytes of tensors that are sent together."""

_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")

T = TypeVar("T")


class RankLost(RuntimeError):  # noqa: N818  (what has happened, not that it is an error, matters)
    """A collective has failed, mostly because the process of another rank has ended: the cause is to be found there."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one model. All call the same methods in the same order, and wait for it.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    rank: int
    size: int

    def rows(self, n: int) -> slice:
        """Which of n rows are those of this rank: neighbors, and as many for each, but for one more for the first."""
        each, more = divmod(n, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all ranks; a gradient is that of the sum of what all ranks compute from it."""
        return tensor if self.size == 1 else _Sum.apply(tensor)

    def gathered(self, part: Tensor, n: int) -> Tensor:
        """All n rows of a tensor of which each rank has its ``rows``; with a gradient, as for ``summed``.

        Args:
            part: The rows of this rank, shape (rows, d).
            n: Rows of all ranks.
        """
        mine = self.rows(n)
        return self.summed(F.pad(part, (0, 0, mine.start, n - mine.stop)))  # x + 0 is x to the bit

    @torch.no_grad()
    def add(self, tensors: Sequence[Tensor]) -> None:
        """Sums tensors over all ranks, in place."""
        if self.size > 1:
            _by_bucket(tensors, dist.all_reduce)

    @torch.no_grad()
    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Gives tensors the values of rank 0, in place."""
        if self.size > 1:
            _by_bucket(tensors, lambda flat: dist.broadcast(flat, 0))

    def told(self, value: T) -> T:
        """What rank 0 passes: numbers, texts, tensors, and lists and mappings of them; those of others are ignored."""
        if self.size == 1:
            return value
        tensors: list[Tensor] = []
        text = io.BytesIO()
        if self.rank == 0:
            torch.save(map_tensors(lambda each: _noted(each, tensors), value), text)
        length = torch.tensor([text.tell()])
        _send(length)
        data = torch.frombuffer(bytearray(text.getbuffer() or int(length)), dtype=torch.uint8)
        _send(data)
        if self.rank == 0:
            for each in tensors:
                _send(each)
            return value
        told: T = torch.load(io.BytesIO(data.numpy().tobytes()), weights_only=True)
        return map_tensors(_received, told)

    def from_first(self, compute: Callable[[], T]) -> T:
        """What rank 0 computes, and nobody else, for all ranks.

        Args:
            compute: Gives what ``told`` takes.

        Raises:
            UserError: Rank 0 has raised one.
            NonFinite: Rank 0 has raised one.
        """
        if self.size == 1:
            return compute()
        found: T | None = None
        error: UserError | NonFinite | None = None
        if self.rank == 0:
            try:
                found = compute()
            except (UserError, NonFinite) as caught:
                error = caught
        kind, message, value = self.told((type(error).__name__, str(error), found))
        if error is None and kind != "NoneType":
            error = UserError(message) if kind == "UserError" else NonFinite(message)
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # where there was no error


ALONE = Ranks(0, 1)
"""The only process of a training."""


def join(rank: int, size: int, address: str, device: str = "cpu", timeout: float = 300.0) -> Ranks:
    """Joins the processes that train one model, and waits for all of them. One of them alone needs nobody.

    A process is in one such group at a time; it leaves an earlier one.

    Args:
        rank: Number of this process, from 0.
        size: Number of processes.
        address: ``HOST:PORT`` on which rank 0 listens.
        device: ``cpu`` for gloo; ``cuda`` for NCCL on the current card, ``cuda:1`` for a card that becomes it.
        timeout: Longest wait for the others, in seconds.

    Raises:
        RankLost: They were not there in time.
    """
    leave()
    if size == 1:
        return ALONE
    host, _, port = address.rpartition(":")
    on_card = torch.device(device)
    cuda = on_card.type == "cuda"
    if cuda and on_card.index is not None:
        torch.cuda.set_device(on_card)
    with _collective(), _interface_to(host):
        wait = timedelta(seconds=timeout)
        store = dist.TCPStore(host, int(port), size, is_master=rank == 0, timeout=wait)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
        dist.all_reduce(torch.zeros(1, device=on_card))  # NCCL connects now, while the interface is known
    return Ranks(rank, size)


def leave() -> None:
    """Leaves the processes that this one has joined, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def map_tensors(function: Callable[[Tensor], Tensor], value: T) -> T:
    """A copy of nested mappings and lists with ``function`` of each tensor in its place."""
    mapped: Any = value
    if isinstance(value, Tensor):
        mapped = function(value)
    elif isinstance(value, dict):
        mapped = {name: map_tensors(function, each) for name, each in value.items()}
    elif isinstance(value, list | tuple):
        mapped = type(value)(map_tensors(function, each) for each in value)
    return mapped  # type: ignore[no-any-return]


class _Sum(torch.autograd.Function):
    """The sum over all ranks. What each rank computes from it counts, so that the gradient is a sum over them, too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _sum_of(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _sum_of(gradient)


def _sum_of(tensor: Tensor) -> Tensor:
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    with _collective():
        dist.all_reduce(total)
    return total


def _by_bucket(tensors: Sequence[Tensor], collective: Callable[[Tensor], Any]) -> None:
    """Has a collective change tensors in place, many at a time: each call costs as much as sending megabytes."""
    for bucket in _buckets(tensors):
        flat = torch.cat([each.detach().reshape(-1) for each in bucket])
        with _collective():
            collective(flat)
        parts = torch.split(flat, [each.numel() for each in bucket])
        torch._foreach_copy_(bucket, [part.view(each.shape) for part, each in zip(parts, bucket, strict=True)])


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighboring tensors of one type, up to ``_BUCKET`` bytes, but for a single one that is larger."""
    bucket: list[Tensor] = []
    for each in tensors:
        full = sum(other.nbytes for other in bucket) + each.nbytes > _BUCKET
        if bucket and (full or each.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(each)
    if bucket:
        yield bucket


def _noted(tensor: Tensor, tensors: list[Tensor]) -> Tensor:
    tensors.append(tensor.detach().cpu().contiguous())
    return torch.empty_like(tensor, device="meta", memory_format=torch.contiguous_format)


def _received(described: Tensor) -> Tensor:
    tensor = torch.empty(described.shape, dtype=described.dtype)
    _send(tensor)
    return tensor


def _send(tensor: Tensor) -> None:
    """From rank 0 to all others, which receive it here; a contiguous tensor on the CPU."""
    if tensor.numel():
        with _collective():
            dist.broadcast(tensor.view(-1).view(torch.uint8), 0)  # whatever the type


@contextmanager
def _collective() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise RankLost(f"the ranks of the training are no longer connected: {first_line(error)}") from error


@contextmanager
def _interface_to(host: str) -> Iterator[None]:
    """Has gloo and NCCL connect by the network that leads to rank 0; gloo would take what the own host name means.

    On many machines that is 127.0.1.1. What the environment says comes first.
    """
    import psutil  # a training by one process needs nothing that torch does not

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        own = probe.getsockname()[0]
    names = [name for name, given in psutil.net_if_addrs().items() if own in {each.address for each in given}]
    added = {variable: names[0] for variable in _INTERFACES if names and variable not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for variable in added:
            del os.environ[variable]
