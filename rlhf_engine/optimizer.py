"""AdamW on the trained roles, with a state that fits into safetensors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlhf_engine.job.sections import Optimizer


def schedule_factor(spec: Optimizer, step: int, total: int) -> float:
    """What the learning rate is multiplied by at a 1-based step: warm-up, then the schedule."""
    if step <= spec.warmup_steps:
        return step / spec.warmup_steps
    done = (step - 1 - spec.warmup_steps) / max(1, total - spec.warmup_steps)
    if spec.schedule == "linear":
        return 1.0 - done
    if spec.schedule == "cosine":
        return 0.5 * (1.0 + float(torch.cos(torch.tensor(torch.pi * done, dtype=torch.float64))))
    return 1.0


class AdapterOptimizer:
    """One AdamW over groups of parameters; each group's gradient is clipped on its own."""

    def __init__(self, spec: Optimizer, groups: Sequence[Sequence[nn.Parameter]]) -> None:
        self._groups = [list(group) for group in groups]
        self._parameters = [parameter for group in self._groups for parameter in group]
        self._adam = torch.optim.AdamW(
            self._parameters, lr=0.0, weight_decay=spec.weight_decay, fused=True
        )

    def update(self, lr: float, max_grad_norm: float) -> float:
        """Clip, step, clear the gradients; return the gradient norm of the first group."""
        norms = [torch.nn.utils.clip_grad_norm_(group, max_grad_norm) for group in self._groups]
        self._adam.param_groups[0]["lr"] = lr
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        return float(norms[0])

    def state(self) -> dict[str, Tensor]:
        """First and second moments and update counts, named by the parameter's place."""
        return {
            f"{index}.{name}": tensor
            for index, parameter in enumerate(self._parameters)
            for name, tensor in self._adam.state.get(parameter, {}).items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._adam.state.clear()
        for key, tensor in state.items():
            index, _, name = key.partition(".")
            parameter = self._parameters[int(index)]
            target = "cpu" if name == "step" and not parameter.is_cuda else parameter.device
            self._adam.state[parameter][name] = tensor.to(target)
