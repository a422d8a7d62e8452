"""AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), bias-corrected, on PyTorch's fused kernel.

The same numbers as `torch.optim.AdamW(fused=True)`, bit for bit (a test holds them together). Ours because the
first use of `torch.optim` imports all of the compiler, two seconds of every training job, and the demo has dozens.
"""

import torch
from torch import Tensor, nn


class AdamW:
    """The optimizer's state: a step count and two moments of each parameter, float32.

    Biases and LayerNorms (parameters of one dimension) are not decayed, as in BERT.
    """

    def __init__(self, model: nn.Module, *, betas: tuple[float, float], epsilon: float, weight_decay: float):
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        matrices, vectors = ([p for p in parameters if (p.ndim > 1) == decayed] for decayed in (True, False))
        self._groups = [group for group in ((matrices, weight_decay), (vectors, 0.0)) if group[0]]
        self._betas, self._epsilon = betas, epsilon
        self._state = {
            name: {id(p): torch.zeros_like(p) for p in parameters} for name in ("first_moment", "second_moment")
        }
        self._steps = {id(p): torch.zeros((), device=p.device) for p in parameters}
        self._names = {id(p): name for name, p in model.named_parameters()}
        self.num_steps = 0

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update every parameter by its gradient; all must have one."""
        self.num_steps += 1
        for parameters, weight_decay in self._groups:
            torch._fused_adamw_(
                parameters,
                [p.grad for p in parameters],
                [self._state["first_moment"][id(p)] for p in parameters],
                [self._state["second_moment"][id(p)] for p in parameters],
                [],
                [self._steps[id(p)].fill_(self.num_steps) for p in parameters],
                lr=learning_rate,
                beta1=self._betas[0],
                beta2=self._betas[1],
                weight_decay=weight_decay,
                eps=self._epsilon,
                amsgrad=False,
                maximize=False,
            )

    def state_dict(self) -> dict[str, Tensor]:
        """Return the moments as {"first_moment.<parameter>": ..., "second_moment.<parameter>": ...}."""
        return {
            f"{moment}.{self._names[key]}": value
            for moment, state in self._state.items()
            for key, value in state.items()
        }

    def load_state_dict(self, state: dict[str, Tensor], *, num_steps: int) -> None:
        """Take over moments as `state_dict` returns them, after `num_steps` steps.

        Raises:
            KeyError: a moment is absent.
        """
        self.num_steps = num_steps
        for name, value in self.state_dict().items():
            value.copy_(state[name])
