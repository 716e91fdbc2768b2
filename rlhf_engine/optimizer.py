"""AdamW on the trained roles, with a state that fits into safetensors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.sections import Optimizer
from rlhf_engine.ranks import Ranks

# The first bitsandbytes whose 8-bit AdamW runs on the CPU.
CPU_EIGHT_BIT = (0, 50)


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
    """One AdamW over groups of parameters; each group's gradient is clipped on its own.

    Its state is made here, so that no step can fail half-way for want of memory.
    """

    def __init__(
        self, spec: Optimizer, groups: Sequence[Sequence[nn.Parameter]], ranks: Ranks | None = None
    ) -> None:
        self._ranks = ranks or Ranks()
        self._groups = [list(group) for group in groups]
        self._parameters = [parameter for group in self._groups for parameter in group]
        make = _eight_bit_adamw if spec.eight_bit else _adamw
        self._adam = make(self._parameters, spec.weight_decay)

    @contextmanager
    def accumulating(self) -> Iterator[None]:
        """Inside, the gradients of one update add up; after an error none of them is left."""
        try:
            yield
        except BaseException:
            self._adam.zero_grad(set_to_none=True)
            raise

    def update(self, lr: float, max_grad_norm: float) -> float:
        """Sum over processes, clip, step, clear the gradients; return the first group's norm."""
        with self.accumulating():
            self._ranks.sum(_gradients(self._parameters) if self._ranks.size > 1 else ())
            norms = [torch.nn.utils.clip_grad_norm_(group, max_grad_norm) for group in self._groups]
            self._adam.param_groups[0]["lr"] = lr
            self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        return float(norms[0])

    def state(self) -> dict[str, Tensor]:
        """First and second moments and update counts, named by the parameter's place."""
        return {
            f"{index}.{name}": torch.as_tensor(value)
            for index, parameter in enumerate(self._parameters)
            for name, value in self._adam.state[parameter].items()
            if name not in CODEBOOKS
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        for key, tensor in state.items():
            index, _, name = key.partition(".")
            own = self._adam.state[self._parameters[int(index)]]
            if isinstance(own[name], Tensor):
                own[name].copy_(tensor)
            else:
                own[name] = int(tensor)


def _gradients(parameters: Sequence[nn.Parameter]) -> Iterator[Tensor]:
    """The gradients of all; a process that had no row for a parameter adds nothing to it."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        yield parameter.grad


def _adamw(parameters: list[nn.Parameter], weight_decay: float) -> Any:
    adam = torch.optim.AdamW(parameters, lr=0.0, weight_decay=weight_decay, fused=True)
    for parameter in parameters:
        adam.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return adam


# Constants that bitsandbytes keeps beside each moment: the values of its 8-bit codes.
CODEBOOKS = ("qmap1", "qmap2")


def _eight_bit_adamw(parameters: list[nn.Parameter], weight_decay: float) -> Any:
    """Moments in 8 bits, in blocks of 256 (Dettmers et al. 2021); large ones paged on CUDA."""
    from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit

    make = PagedAdamW8bit if parameters[0].is_cuda else AdamW8bit
    adam: Any = make(parameters, lr=0.0, weight_decay=weight_decay)
    for index, parameter in enumerate(parameters):
        adam.init_state(adam.param_groups[0], parameter, 0, index)
    # bitsandbytes compiles its update of small parameters on the CPU, anew in each process and
    # not to the same bits: a resumed run would differ.
    adam.step = torch.compiler.set_stance("force_eager")(adam.step)
    return adam


def check_eight_bit(spec: Optimizer, device: str) -> None:
    """Raise SpecError where bitsandbytes has no 8-bit AdamW for the device."""
    installed = version("bitsandbytes")
    release = tuple(int(part) for part in installed.split(".")[:2])
    if spec.eight_bit and device == "cpu" and release < CPU_EIGHT_BIT:
        raise SpecError(
            f"optimizer.eight_bit: bitsandbytes {installed} has no 8-bit AdamW for the CPU; set "
            "optimizer.eight_bit=false, or install bitsandbytes 0.50 or newer"
        )
