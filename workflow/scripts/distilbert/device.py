"""Where a step computes, and how precisely."""

import torch

from distilbert import processes


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


def _cpu_has_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
