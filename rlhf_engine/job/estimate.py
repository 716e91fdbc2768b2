"""Peak memory of a stage by phase and part, from its spec and a model's numbers alone.

Every sequence is taken to be as long as the spec allows, so that shorter data takes less. What
the data itself takes is not known here; rows and their tokens are small beside a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rlhf_engine.job.footprint import (
    BYTES,
    FP32,
    MERGED_SHARE,
    STATIC_SHARE,
    Block,
    Device,
    Footprint,
    Shape,
)
from rlhf_engine.job.sections import Sampling
from rlhf_engine.job.spec import (
    CollectSpec,
    DpoSpec,
    EvaluateSpec,
    PpoSpec,
    RewardSpec,
    SftSpec,
    Spec,
)

Parts = Mapping[str, int]


@dataclass(frozen=True)
class Phase:
    """A phase by the engine's name for it, and the bytes of each part at its peak."""

    name: str
    parts: Parts

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Estimate:
    """A stage's phases, as they are once its first step is done."""

    phases: tuple[Phase, ...]

    @property
    def peak(self) -> Phase:
        """The phase that takes most."""
        return max(self.phases, key=lambda phase: phase.bytes)


def estimate(spec: Spec, shape: Shape, device: Device) -> Estimate:
    """Bytes of every part in every phase: load, then the phases of a step."""
    run = _Run(spec, Footprint(shape, spec.model, device))
    phases: tuple[Phase, ...]
    match spec:
        case SftSpec():
            rows = Block(spec.sft.batches.micro_batch_size, spec.data.max_tokens)
            phases = (run.phase("train", run.training(rows, logit_rows=rows.tokens)),)
        case RewardSpec():
            # Chosen and rejected sides pass together.
            pairs = Block(2 * spec.reward.batches.micro_batch_size, spec.data.max_tokens)
            phases = (run.phase("train", run.training(pairs, logit_rows=0)),)
        case PpoSpec():
            phases = _ppo(spec, run)
        case DpoSpec():
            phases = _dpo(spec, run)
        case CollectSpec():
            phases = _answering(run, spec.collect.sampling, kl=False)
        case EvaluateSpec():
            phases = _answering(run, spec.evaluate.sampling, kl=True)
    return Estimate((run.load(), *phases))


def _ppo(spec: PpoSpec, run: "_Run") -> tuple[Phase, ...]:
    ppo = spec.ppo
    size = min(ppo.micro_batch_size, ppo.batch_size // ppo.minibatches)
    longest = spec.data.max_prompt_tokens + ppo.sampling.max_new_tokens
    block, rows = Block(size, longest), size * ppo.sampling.max_new_tokens
    update = run.training(block, logit_rows=rows)
    if ppo.ptx.data.path:
        mixed_in = min(ppo.micro_batch_size, ppo.ptx.batch_size)
        conversations = Block(mixed_in, ppo.ptx.data.max_tokens)
        update = largest(update, run.training(conversations, logit_rows=conversations.tokens))
    judged = run.judging(Block(min(ppo.micro_batch_size, ppo.batch_size), longest))
    return (
        run.phase("generate", run.generating()),
        run.phase("judge", judged),
        run.phase("measure", run.measuring(block, rows)),
        run.phase("update", update),
    )


def _dpo(spec: DpoSpec, run: "_Run") -> tuple[Phase, ...]:
    dpo = spec.dpo
    # Chosen and rejected sides pass together; the reference leaves nothing behind.
    pairs = Block(2 * dpo.batches.micro_batch_size, spec.data.max_tokens)
    train = run.phase("train", run.training(pairs, logit_rows=pairs.tokens))
    if not dpo.sample_prompts:
        return (train,)
    size = min(dpo.batches.micro_batch_size, dpo.sample_prompts)
    block = Block(size, spec.data.max_prompt_tokens + dpo.sampling.max_new_tokens)
    return (
        run.phase("generate", run.generating()),
        run.phase("measure", run.measuring(block, size * dpo.sampling.max_new_tokens)),
        train,
    )


def _answering(run: "_Run", sampling: Sampling, *, kl: bool) -> tuple[Phase, ...]:
    """A step's answers, then their scores and, with `kl`, their distance."""
    block = run.sampled
    scored = run.judging(block)
    if kl:
        scored = largest(scored, run.measuring(block, block.sequences * sampling.max_new_tokens))
    return run.phase("generate", run.generating()), run.phase("score", scored)


def largest(*moments: Parts) -> Parts:
    """The parts of the moment that takes most."""
    return max(moments, key=lambda parts: sum(parts.values()))


@dataclass(frozen=True)
class _Run:
    """One stage on one model and device; the parts of each kind of work."""

    spec: Spec
    footprint: Footprint

    def phase(self, name: str, parts: Parts) -> Phase:
        whole = {**self._standing(), **parts}
        return Phase(name, {part: size for part, size in whole.items() if size})

    def load(self) -> Phase:
        """The base on its way in. On the CPU its file stays mapped while it is converted, and is
        mapped and not read where there is nothing to convert."""
        model, shape, device = self.spec.model, self.footprint.shape, self.footprint.device
        kept, reading = self.footprint.base, shape.largest * BYTES[model.dtype]
        if device.kind == "cpu":
            plain = model.quantization == "none" and shape.stored_bytes == BYTES[model.dtype]
            stored = (shape.linear + shape.other) * shape.stored_bytes
            kept, reading = (0, 0) if plain and not device.widens else (kept, stored)
        parts = {"process": device.process, "base": kept, "model files": reading}
        return Phase("load model", {part: size for part, size in parts.items() if size})

    def generating(self) -> Parts:
        """Sampling: the copy is merged, then prompts fill the cache, then tokens extend it."""
        whole = self.sampled
        prompt = Block(whole.sequences, self.spec.data.max_prompt_tokens)
        merging = {"merging": self.footprint.merging if self._merged else 0}
        reading = {"activations": self.footprint.forward(prompt) + self._weight_sampled}
        if self._buffers:
            most = largest(merging, reading)
        else:
            reading["KV cache"] = self.footprint.kv_cache(prompt)
            most = largest(merging, reading, self._decoding(self.footprint.kv_cache(whole)))
        return {"merged copy": self.footprint.merged_copy if self._merged else 0, **most}

    @property
    def sampled(self) -> Block:
        """The responses that are sampled together, with their prompts."""
        sampling, answers = sampling_of(self.spec), answers_of(self.spec)
        assert sampling is not None, f"{self.spec.stage} samples nothing"
        length = self.spec.data.max_prompt_tokens + sampling.max_new_tokens
        return Block(min(sampling.batch_size, answers), length)

    def _decoding(self, cache: int) -> Parts:
        """What the last token finds: a cache of so many bytes, and what it is drawn from."""
        drawing = self.footprint.decoding(self.sampled) + self._weight_sampled
        return {"KV cache": cache, "decoding": drawing}

    @property
    def _weight_sampled(self) -> int:
        return 0 if self._merged else self.footprint.weight_in_passing

    @property
    def _buffers(self) -> int:
        """The key-value buffers that a GPU keeps between rollouts (see rollout/choice.py), 0
        where it keeps none. Models that cannot use them are taken for such that can."""
        sampling, device = sampling_of(self.spec), self.footprint.device
        quantization = self.spec.model.quantization
        if device.kind == "cpu" or sampling is None or quantization == "int8":
            return 0
        needed = self.footprint.kv_buffers(self.sampled)
        if sampling.backend != "auto" or not device.memory:
            return needed if sampling.backend in ("auto", "static") else 0
        free = device.memory - sum(self._owned().values())
        return needed if needed <= STATIC_SHARE * free else 0

    def judging(self, block: Block) -> Parts:
        """A learned reward's forward pass; rules take nothing worth counting."""
        shape = self.footprint.shape
        return self._passing(block) if shape.reward_lora or shape.gold_lora else {}

    def measuring(self, block: Block, rows: int) -> Parts:
        """A forward pass, then log-probs of `rows` response tokens, without gradients."""
        hidden = block.tokens * self.footprint.shape.hidden * self.footprint.wide
        logits = self.footprint.logit_chunk(rows, train=False)
        return largest(self._passing(block), {"activations": hidden, "logit chunk": logits})

    def _passing(self, block: Block) -> Parts:
        return {"activations": self.footprint.forward(block) + self.footprint.weight_in_passing}

    def training(self, block: Block, logit_rows: int) -> Parts:
        """Forward and backward pass of one micro-batch: all that was saved stands while the
        logits, then the last layer, get their gradients."""
        return {
            "gradients": self.trained * FP32,
            "activations": self.footprint.saved(block),
            **largest(
                {"logit chunk": self.footprint.logit_chunk(logit_rows, train=True)},
                {"backward": self.footprint.backward(block)},
            ),
            "heap holes": self.footprint.heap_holes(block),
        }

    @property
    def trained(self) -> int:
        """Parameters that an optimiser updates."""
        shape, spec = self.footprint.shape, self.spec
        match spec:
            case SftSpec() | DpoSpec():
                return shape.policy_lora
            case RewardSpec():
                return shape.policy_lora + shape.hidden
            case PpoSpec() if spec.ppo.advantage == "gae":
                return shape.policy_lora + self._value_lora + shape.hidden
            case PpoSpec():
                return shape.policy_lora
        return 0

    @property
    def _value_lora(self) -> int:
        spec, shape = self.spec, self.footprint.shape
        if not isinstance(spec, PpoSpec):
            return 0
        own = spec.ppo.advantage == "gae" and spec.ppo.value == "separate"
        return (shape.reward_lora or shape.policy_lora) if own else 0

    @property
    def _frozen(self) -> int:
        """Parameters of adapters and heads that only judge or compare."""
        shape, spec = self.footprint.shape, self.spec
        judge = shape.reward_lora + shape.gold_lora
        match spec:
            case PpoSpec():
                return judge + (shape.policy_lora if shape.inherited else 0)
            case DpoSpec():
                return shape.policy_lora if shape.inherited else 0
            case CollectSpec() | EvaluateSpec():
                return judge + shape.policy_lora + shape.against_lora
        return 0

    @property
    def _merged(self) -> bool:
        """Whether sampling makes a merged copy (see model/merged.py)."""
        sampling, shape = sampling_of(self.spec), self.footprint.shape
        device = self.footprint.device
        if sampling is None or not sampling.merge or not shape.policy_lora + shape.against_lora:
            return False
        free = device.memory - sum(self._owned().values())
        return not device.memory or self.footprint.merged_copy <= MERGED_SHARE * free

    def _standing(self) -> Parts:
        """What every phase finds in place. On a GPU the merged copy stays where it was made, and
        with fixed buffers also what their captured graphs compute in."""
        kept = self._merged and self.footprint.device.kind == "cuda"
        return {
            **self._owned(),
            "workspaces": self._workspaces,
            "merged copy": self.footprint.merged_copy if kept else 0,
            **(self._decoding(self._buffers) if self._buffers else {}),
        }

    @property
    def _workspaces(self) -> int:
        """What matrix products are given to work in: forward passes, the thread of backward
        passes, and the stream on which graphs are captured."""
        users = 1 + bool(self.trained) + bool(self._buffers)
        return users * self.footprint.device.workspace

    def _owned(self) -> Parts:
        """What the run has before its first step."""
        section = getattr(self.spec, self.spec.stage)
        moments = self.footprint.optimizer(self.trained, section.optimizer) if self.trained else 0
        return {
            "process": self.footprint.device.process,
            "base": self.footprint.base,
            "adapters": (self.trained + self._frozen) * FP32,
            "optimizer": moments,
        }


def answers_of(spec: Spec) -> int:
    """Responses that a stage samples in a step."""
    match spec:
        case PpoSpec():
            return spec.ppo.batch_size
        case DpoSpec():
            return spec.dpo.sample_prompts
        case CollectSpec():
            return spec.collect.prompts_per_step * spec.collect.drafts
        case EvaluateSpec():
            return spec.evaluate.prompts_per_step * spec.evaluate.responses
    return 0


def sampling_of(spec: Spec) -> Sampling | None:
    """How a stage samples; None for one that does not."""
    match spec:
        case PpoSpec():
            return spec.ppo.sampling
        case DpoSpec() if spec.dpo.sample_prompts:
            return spec.dpo.sampling
        case CollectSpec():
            return spec.collect.sampling
        case EvaluateSpec():
            return spec.evaluate.sampling
    return None
