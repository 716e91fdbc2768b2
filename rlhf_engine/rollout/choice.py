"""Which way to sample suits a spec, its model and its device."""

from collections.abc import Sequence

import transformers
from torch import Tensor

from rlhf_engine import memory
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.footprint import STATIC_SHARE
from rlhf_engine.job.sections import Sampling
from rlhf_engine.model.merged import MergedCopy
from rlhf_engine.model.roles import Role, Roles
from rlhf_engine.rollout.backend import Progress, Response, RolloutBackend
from rlhf_engine.rollout.cached import CachedRollout
from rlhf_engine.rollout.static import StaticRollout

# Rotary embeddings whose frequencies do not depend on the length of what was read.
FIXED_ROPE = ("default", "linear", "llama3", "yarn")


def make_backend(roles: Roles, sampling: Sampling) -> RolloutBackend:
    """The backend that a spec names; SpecError with the reason if the model cannot use it."""
    size, merge = sampling.batch_size, sampling.merge
    if sampling.backend == "continuous":
        return _continuous(roles, size, merge)
    obstacle = static_obstacle(roles)
    if sampling.backend == "static":
        if obstacle is not None:
            raise SpecError(f"sampling.backend = static: {obstacle}; use cached")
        return StaticRollout(roles, size, merge)
    if sampling.backend == "cached" or obstacle is not None or roles.device.type != "cuda":
        return CachedRollout(roles, size, merge)
    return StaticWhereItFits(roles, size, merge)


def _continuous(roles: Roles, batch_size: int, merge: bool) -> RolloutBackend:
    """Imported late: it stands on parts of transformers that may move."""
    try:
        from rlhf_engine.rollout.continuous import ContinuousRollout
    except ImportError as error:
        raise SpecError(
            f"sampling.backend = continuous: transformers {transformers.__version__} has no "
            f"continuous batching that is known here ({error}); use cached"
        ) from None
    return ContinuousRollout(roles, batch_size, merge)


def static_obstacle(roles: Roles) -> str | None:
    """Why a step of this model cannot run on fixed buffers, None if it can."""
    model = roles.base.model
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if getattr(config, "layer_types", None) is None and getattr(config, "sliding_window", None):
        kinds = {"sliding_attention"}
    rope = getattr(config, "rope_parameters", None) or {}
    if not model._can_compile_fullgraph:
        return f"{config.model_type} models decide on the host while they decode"
    if kinds != {"full_attention"}:
        return f"some layers of {config.model_type} keep no full key-value cache"
    if rope.get("rope_type") not in FIXED_ROPE and config.model_type != "gpt2":
        return f"positions of this {config.model_type} depend on the length of what was read"
    if model.config._attn_implementation not in ("eager", "sdpa"):
        return f"it needs eager or sdpa attention, not {model.config._attn_implementation}"
    if getattr(model, "is_loaded_in_8bit", False):
        return "8-bit layers wait for the device in every step"
    return None


class StaticWhereItFits:
    """Fixed buffers where they leave most of a GPU's memory to the update, else a growing cache."""

    def __init__(self, roles: Roles, batch_size: int, merge: bool) -> None:
        self.batch_size = batch_size
        self._device = str(roles.device)
        # One copy for both: on a GPU each keeps its own for good.
        merged = MergedCopy(roles) if merge else None
        self._static = StaticRollout(roles, batch_size, merge, merged)
        self._cached = CachedRollout(roles, batch_size, merge, merged)

    def sample(
        self,
        role: Role,
        prompts: Sequence[list[int]],
        noise: Tensor,
        temperature: float,
        progress: Progress,
    ) -> list[Response]:
        self._static.batch_size = self._cached.batch_size = self.batch_size
        more = self._static.bytes_to_add(prompts, noise)
        if more <= STATIC_SHARE * memory.free_bytes(self._device):
            return self._static.sample(role, prompts, noise, temperature, progress)
        self._static.release()
        return self._cached.sample(role, prompts, noise, temperature, progress)
