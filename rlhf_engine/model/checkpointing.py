"""Activation checkpointing: a layer's activations are made again in the backward pass.

Chen et al. 2016. transformers' own switch acts in train() alone, and there it takes the layers'
key-value cache away; here the base stays in eval(), and a layer is checkpointed when it is run
with gradients: training is, sampling and scoring are not.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

Same = Callable[[], Callable[[], AbstractContextManager[None]]]


def checkpoint_layers(backbone: nn.Module, in_force: Same) -> int:
    """Checkpoint every repeated layer of a backbone; return how many there are.

    `in_force` is asked in the forward pass and gives what puts the same role in force again: the
    backward pass comes when that role is over.
    """
    layers = list(_layers(backbone))
    for layer in layers:
        setattr(layer, "forward", _checkpointed(layer.forward, in_force))  # noqa: B010
    return len(layers)


def _layers(backbone: nn.Module) -> Iterator[GradientCheckpointingLayer]:
    return (m for m in backbone.modules() if isinstance(m, GradientCheckpointingLayer))


def _checkpointed(forward: Callable[..., Any], in_force: Same) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        same = in_force()

        def again(*args: Any, **kwargs: Any) -> Any:
            with same():
                return forward(*args, **kwargs)

        # Nothing in a layer is random here: dropout is off.
        return checkpoint(again, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run
