"""Sampling with transformers' continuous batching: a finished row's place goes to the next prompt.

The library schedules, pages and computes; the draws are ours. A row's tokens come from its own
noise, through a processor that turns logits into a certainty, so that neither the library's
random numbers nor the order in which rows meet decide anything.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
)

from rlhf_engine.job.errors import SpecError
from rlhf_engine.model.merged import MergedCopy
from rlhf_engine.model.roles import Role, Roles
from rlhf_engine.rollout.backend import Progress, Response, draw, protected

# Most tokens of one forward: what prompts are cut into on their way in.
FORWARD_TOKENS = 1024
POLL_SECONDS = 1.0


class ContinuousRollout:
    """At most `batch_size` rows at once in a paged cache that is freed after the rollout."""

    def __init__(self, roles: Roles, batch_size: int, merge: bool) -> None:
        model = roles.base.model
        config = model.config.get_text_config()
        if not (hasattr(model, "init_continuous_batching") and model._supports_attention_backend):
            raise SpecError(
                f"sampling.backend = continuous: transformers cannot page the cache of "
                f"{config.model_type} models; use cached"
            )
        self._roles = roles
        self.batch_size = batch_size
        self._weights = MergedCopy(roles) if merge else roles

    # Not inference mode: the library computes in a thread of its own, where it would not hold.
    @torch.no_grad()
    def sample(
        self,
        role: Role,
        prompts: Sequence[list[int]],
        noise: Tensor,
        temperature: float,
        progress: Progress,
    ) -> list[Response]:
        model, device = self._roles.base.model, self._roles.device
        attention = model.config._attn_implementation
        draws = _Draws(prompts, noise, temperature, self.batch_size, device)
        # The library seeds the global generators.
        generators = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
        with protected(model), self._weights.using(role), generators:
            try:
                tokens = self._run(prompts, noise.shape[1], draws, progress)
            finally:
                if model.config._attn_implementation != attention:
                    model.set_attn_implementation(attention)
        return draws.responses(tokens, self._roles.base.eos_ids)

    def _run(
        self, prompts: Sequence[list[int]], new_tokens: int, draws: "_Draws", progress: Progress
    ) -> list[list[int]]:
        base = self._roles.base
        greedy = GenerationConfig(
            do_sample=False,
            max_new_tokens=new_tokens,
            eos_token_id=list(base.eos_ids),
            pad_token_id=base.pad_id,
        )
        manager = base.model.init_continuous_batching(
            greedy, self._settings(max(map(len, prompts)) + new_tokens)
        )
        draws.join(manager.logit_processor)
        # All requests wait before the first forward: what it holds must not depend on a race.
        for row, prompt in enumerate(prompts):
            manager.add_request(prompt, request_id=str(row), max_new_tokens=new_tokens)
        found: dict[int, list[int]] = {}
        if self._roles.device.type == "cuda":
            # The library's stream does not wait for ours, which may still be merging.
            torch.cuda.synchronize(self._roles.device)
        try:
            manager.start()
            while len(found) < len(prompts):
                output = manager.get_result(timeout=POLL_SECONDS)
                if output is None and manager.is_running():
                    continue
                if output is None or output.error is not None:
                    raise self._failure(manager, output)
                found[int(output.request_id)] = output.generated_tokens
                progress(len(found), len(prompts))
        finally:
            if manager.is_running():
                manager.stop(block=True, hard_stop=True)
            manager.destroy()
        return [found[row] for row in range(len(prompts))]

    def _settings(self, longest: int) -> ContinuousBatchingConfig:
        """A cache for `batch_size` of the longest rows, and nothing that outlives the rollout."""
        settings = ContinuousBatchingConfig(
            max_batch_tokens=max(FORWARD_TOKENS, self.batch_size),
            max_requests_per_batch=self.batch_size,
            safety_margin=0.0,
            allow_block_sharing=False,
            # Both would be built anew in every rollout; the second takes the memory twice.
            use_cuda_graph=False,
            use_async_batching=False,
            seed=0,
        )
        if hasattr(settings, "auto_switch_to_flash"):
            # FlashAttention knows no fp32.
            settings.auto_switch_to_flash = self._roles.base.model.dtype != torch.float32
        # Renamed after transformers 5.17.
        page: int = getattr(settings, "page_size", None) or getattr(settings, "block_size")  # noqa: B009
        settings.num_blocks = self.batch_size * -(-longest // page)
        return settings

    def _failure(self, manager: Any, output: Any) -> BaseException:
        """What went wrong in the library's thread, once that thread is gone."""
        if manager.is_running():
            manager.stop(block=True, hard_stop=True)
        error = manager.background_thread_status.fatal_error
        reason = output.error if output is not None else "its thread ended early"
        return error or RuntimeError(f"continuous batching failed: {reason}")


class _Draws(ContinuousBatchingLogitsProcessor):
    """Draws each row's next token from that row's noise, and keeps its log-prob.

    The library hands a processor one number for each row of a forward: here the place of the
    noise to use, flat in (rows, new tokens). What comes back is 1 at the drawn token and 0
    elsewhere, for the library to take the highest.
    """

    supported_kwargs: dict[str, type] = {}
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(
        self,
        prompts: Sequence[list[int]],
        noise: Tensor,
        temperature: float,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self._prompts = prompts
        self._columns = noise.shape[1]
        self._temperature = temperature
        self._batch_size = batch_size
        # One more place, for rows of a forward that are no request's.
        self._noise = torch.cat([noise.flatten(), noise.new_zeros(1)]).to(device)
        self._logps = torch.zeros_like(self._noise)

    def join(self, processors: Any) -> None:
        """Become the only processor of a manager that has not started."""
        processors.logits_processor.append(self)
        processors.tensors_required += 1
        processors.do_processing = True

    def fill_defaults(self, int32_tensor: Tensor) -> None:
        int32_tensor.fill_(len(self._noise) - 1)

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Tensor:
        places = [self._place(request.state) for request in requests_with_new_token]
        places += [len(self._noise) - 1] * (self._batch_size - len(places))
        return torch.tensor(places, dtype=torch.int32)

    def _place(self, state: Any) -> int:
        row = int(state.request_id)
        drawn = len(state.initial_tokens) + len(state.generated_tokens) - len(self._prompts[row])
        return row * self._columns + drawn

    def __call__(self, scores: Tensor, tensor_arg: Tensor) -> Tensor:
        places = tensor_arg[: len(scores)].long()
        tokens, logp = draw(scores, self._noise[places], self._temperature)
        self._logps[places] = logp
        return torch.zeros_like(scores).scatter_(1, tokens[:, None], 1.0)

    def responses(self, tokens: list[list[int]], eos_ids: Sequence[int]) -> list[Response]:
        logps = self._logps[:-1].view(-1, self._columns).tolist()
        rows = zip(self._prompts, tokens, logps, strict=True)
        return [
            Response(prompt, drawn, drawn[-1] in eos_ids, logp[: len(drawn)])
            for prompt, drawn, logp in rows
        ]
