"""Floating-point operations: how many a model takes, how many a device can do, and which share of them is reached.

FLOPs of a token, by the matrices that it is multiplied with (D hidden, I intermediate, V vocabulary, T tokens of its
sequence): a layer 8 D^2 + 4 D I + 4 D T, the vocabulary head 2 D^2 + 2 D V; a training three times that, for its
gradient. Biases, LayerNorms, the look-up of embeddings and a classifier's two small layers are left out.
"""

import math
import re
import time
from dataclasses import dataclass

# The makers' dense FLOP/s: of bfloat16 products with float32 sums, and of float32 for GPUs that have no bfloat16.
PEAKS = {
    "bfloat16": {
        "H200": 989e12,
        "H100 PCIe": 756e12,
        "H100": 989e12,
        "A100": 312e12,
        "L40S": 362e12,
        "L40": 181e12,
        "L4": 121e12,
        "RTX 4090": 165e12,
        "RTX 4070": 58e12,
        "RTX 3090": 71e12,
    },
    "float32": {"V100": 15.7e12, "T4": 8.1e12},
}
# Words in the name of a GPU that is not the one whose name it begins with.
VARIANTS = re.compile(r"\b(Ti|SUPER|D|Laptop|NVL|MIG)\b")


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder with a vocabulary head."""

    hidden: int
    layers: int
    intermediate: int
    vocabulary: int
    positions: int

    @classmethod
    def of(cls, config) -> "Shape":
        """Return the sizes in a `config.EncoderConfig`."""
        sizes = (config.hidden_size, config.num_layers, config.intermediate_size)
        return cls(*sizes, config.vocab_size, config.max_positions)

    def flops(self, length: float, *, head: float, read: float = 1.0) -> float:
        """Return the FLOPs of a forward pass for one token of a sequence of `length` tokens.

        head: the share of the tokens that are read whose logits are computed: all (True), none (False), or some.
        read: the share of the tokens whose last hidden state is read; the last layer ends with the attention for the
            others (see `model.Encoder.forward`), and they have no head.
        """
        attention = 6 * self.hidden**2 + 4 * self.hidden * length
        rest = 2 * self.hidden**2 + 4 * self.hidden * self.intermediate
        per_read = rest + head * 2 * self.hidden * (self.hidden + self.vocabulary)
        return (self.layers - 1) * (attention + rest) + attention + read * per_read

    def num_bytes(self) -> int:
        """Return the size of its weights in float32, biases and LayerNorms left out."""
        per_layer = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        return 4 * (self.layers * per_layer + self.hidden * (self.vocabulary + self.positions + self.hidden))


def gpu_peak(name: str, precision: str) -> float | None:
    """Return the maker's FLOP/s of a GPU in "bfloat16" or "float32", or None where the table has none."""
    if VARIANTS.search(name):
        return None
    return next((peak for part, peak in PEAKS[precision].items() if re.search(rf"\b{part}\b", name)), None)


def core_peak(matrix, repeats: int = 5) -> float:
    """Return the FLOP/s at which one core computes the product of a square matrix with itself.

    By the CPU's seconds, not the clock's, and the fastest of some: other work on the machine hardly shows.
    """
    fastest = math.inf
    for _ in range(repeats):
        started = time.process_time()
        matrix @ matrix
        fastest = min(fastest, time.process_time() - started)
    return 2 * len(matrix) ** 3 / fastest


class Utilization:
    """Model FLOPs utilisation (Chowdhery et al. 2022, arXiv:2204.02311, appendix B): FLOP/s as a share of the peak."""

    def __init__(self, peak: float):
        self.peak = peak
        self.restart()

    def restart(self) -> None:
        """Forget what was done so far, such as before work that is not counted."""
        self.flops, self.started = 0.0, time.monotonic()

    def take(self) -> float:
        """Return the share since the last restart, and restart."""
        share = self.flops / (time.monotonic() - self.started) / self.peak
        self.restart()
        return share
