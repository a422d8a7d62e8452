"""Where a step computes, and how precisely."""

import torch

from distilbert import processes
from distilbert.flops import core_peak, gpu_peak


def choose_device() -> torch.device:
    """Return this process's GPU where there is one, else the CPU."""
    return torch.device("cuda", processes.local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context of a precision (see `resolve_precision`)."""
    enabled = resolve_precision(device, precision) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def resolve_precision(device: torch.device, precision: str) -> str:
    """Return "float32" or "bfloat16"; "auto" is bfloat16 where the device computes in it."""
    if precision != "auto":
        return precision
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bf16()
    return "bfloat16" if native else "float32"


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Return the FLOP/s that a device can reach in "float32" or "bfloat16", or None where nothing tells.

    Of a GPU what its maker says. Of a CPU what this process's threads reach, measured: a tenth of a second.
    """
    if device.type == "cuda":
        return gpu_peak(torch.cuda.get_device_name(device), precision)
    return torch.get_num_threads() * core_peak(torch.ones(1024, 1024, dtype=getattr(torch, precision)))


def _cpu_has_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
