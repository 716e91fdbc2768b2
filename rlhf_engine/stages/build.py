"""What stages build alike: the base with its roles, and the number of steps."""

import math
from typing import cast

from rlhf_engine.data.messages import Message
from rlhf_engine.fitting import out_of_memory
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.remedies import loading_remedies
from rlhf_engine.job.sections import Batches, Lora
from rlhf_engine.job.spec import PpoSpec, RunSpec, Spec
from rlhf_engine.model.base import Base, Source, load_base, resolve_source
from rlhf_engine.model.roles import Role, Roles
from rlhf_engine.seeding import derived
from rlhf_engine.stages.stage import Workplace

# The largest difference between two passes over one block that is rounding: none in bf16.
ROUNDING = {"fp32": 1e-5, "bf16": 0.0}


def load_roles(spec: RunSpec, place: Workplace, start: Role, lora: Lora | None) -> Roles:
    """The base of a spec, with its starting adapter in the role `start`.

    Where the spec starts from a bare base, `lora` shapes a new adapter; without it the role is
    the bare base.
    """
    with place.report.phase("load model"):
        source = resolve_source(spec.policy, place.home, place.report.say)
        place.report.say(f"loading {source.base}")
        roles = Roles(_base(source, spec, place))
        if spec.model.gradient_checkpointing:
            roles.save_activation_memory()
        if source.adapter is not None:
            roles.add_from(start, source.adapter)
        elif lora is not None:
            roles.add_new(start, lora, derived(spec.seed, "adapter", 0))
    return roles


def _base(source: Source, spec: RunSpec, place: Workplace) -> Base:
    """Load the base; SpecError with remedies if there is no room, as there are no rows to halve."""
    try:
        return load_base(source, spec.model, place.device)
    except Exception as fault:
        if not out_of_memory(fault):
            raise
        cheapest = ", ".join(loading_remedies(cast(Spec, spec)))
        raise SpecError(
            f"out of memory while loading {source.base}; the cheapest remedies: {cheapest}"
        ) from fault


def add_reference(roles: Roles) -> None:
    """Freeze where the policy starts as the reference: a copy of its adapter, or the bare base."""
    if "policy" not in roles.fresh:
        roles.add_copy("reference", "policy")


def add_reference_and_value(spec: PpoSpec, roles: Roles) -> str | None:
    """Freeze the reference where the policy starts; start the value role from the reward role.

    Returns the role whose hidden states the value head reads, None without a value role.
    """
    add_reference(roles)
    if spec.ppo.advantage != "gae":
        roles.freeze("policy")
        return None
    if spec.ppo.value == "separate":
        roles.add_copy("value", "reward" if "reward" in roles.heads else "policy")
        if "value" not in roles.configs:
            raise SpecError("ppo.value = separate needs an adapter to start from")
    if "value" not in roles.heads:
        roles.add_head("value")
    roles.freeze("policy", "value")
    return "value" if spec.ppo.value == "separate" else "policy"


def step_count(batches: Batches, rows: int) -> int:
    """Optimiser steps that `epochs` over the rows take, at most `max_steps`."""
    steps = max(1, math.ceil(batches.epochs * rows / batches.batch_size))
    return min(steps, batches.max_steps or steps)


def due(every: int, step: int, total: int) -> bool:
    """Whether held-out data is measured at this step: every so many, and at the end."""
    return step == total or (every > 0 and step % every == 0)


def prompt_text(messages: tuple[Message, ...]) -> str:
    """What the person last asked, as rules and screens see it."""
    asked = [m.content for m in messages if m.role == "user"]
    if not asked:
        raise SpecError("a prompt has no user message")
    return asked[-1]
