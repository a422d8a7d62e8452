"""Several processes of one training: who they are, and sums over them.

torchrun starts one process a GPU (see `runlog.run`). Every process prepares the same step and computes its share
of the step's micro-batches. A micro-batch's losses are already divided by the counts of the whole step, so the
gradient of a step is the plain sum over the processes: one all-reduce a step, after its last micro-batch, which is
what DistributedDataParallel does with `no_sync`, and right however unequal the shares are.
"""

import atexit
import os
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Processes:
    """This process's rank, from 0, and how many processes train together."""

    rank: int
    count: int

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the processes of a tensor of one shape."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its sum over the processes."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
        flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.count > 1:
            distributed.barrier()


@cache
def join() -> Processes:
    """Return this process's place among those that torchrun started, (0, 1) without it; connect them, once."""
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if count > 1:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(distributed.destroy_process_group)
    return Processes(rank, count)


def local_rank() -> int:
    """Return this process's number on its machine, which is also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))
