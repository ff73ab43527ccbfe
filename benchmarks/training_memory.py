"""What keeping freed memory is worth in training: step times with and without `edgeattn.train.memory.kept`.

    python benchmarks/training_memory.py

Interleaved rounds in one process, BF16, channels last, two threads; prints medians in ms and their ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch

from edgeattn.models import attention_align, restore_unet
from edgeattn.train.memory import kept

_ROUNDS, _STEPS = 8, 4


def align(batch: int = 32, side: int = 128) -> Callable[[], torch.Tensor]:
    """The loss of attention_align on random pairs."""
    network = attention_align.Network(attention_align.Settings(), 0)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it alone
    a, b = (x.contiguous(memory_format=torch.channels_last) for x in torch.randn(2, batch, 3, side, side))
    targets = torch.eye(3).repeat(batch, 1, 1)
    return lambda: network.training_loss(a, b, targets, 0.0)


def restore(batch: int = 32, side: int = 64) -> Callable[[], torch.Tensor]:
    """The loss of restore_unet on random crops."""
    network = restore_unet.Network(restore_unet.Settings())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as above
    crops = torch.rand(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
    return lambda: network.loss(network(crops), crops, 0.0)


def steps_ms(loss: Callable[[], torch.Tensor]) -> float:
    started = time.perf_counter()
    for _ in range(_STEPS):
        with torch.autocast("cpu", torch.bfloat16):
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]
    return (time.perf_counter() - started) / _STEPS * 1e3


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(2)
    for make in (align, restore):
        loss = make()
        plain: list[float] = []
        keeping: list[float] = []
        for _ in range(_ROUNDS):
            for times, manner in ((plain, nullcontext()), (keeping, kept())):
                with manner:
                    times.append(steps_ms(loss))
        one, other = statistics.median(plain[1:]), statistics.median(keeping[1:])
        print(f"{make.__name__}: {one:.0f} ms without, {other:.0f} ms with, {one / other:.2f} times")


if __name__ == "__main__":
    main()
