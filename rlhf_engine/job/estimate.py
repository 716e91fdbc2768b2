"""Peak memory of a stage by phase and part, from its spec and a model's numbers alone.

Every sequence is taken to be as long as the spec allows, so that shorter data takes less. What
the data itself takes is not known here; rows and their tokens are small beside a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rlhf_engine.job import footprint
from rlhf_engine.job.footprint import FP32, Block, Device, Shape
from rlhf_engine.job.sections import Sampling
from rlhf_engine.job.spec import CollectSpec, EvaluateSpec, PpoSpec, RewardSpec, SftSpec, Spec

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
    run = _Run(spec, shape, device)
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
        case CollectSpec():
            sampling = spec.collect.sampling
            count = spec.collect.prompts_per_step * spec.collect.drafts
            judged = run.judging(min(sampling.batch_size, count), sampling)
            generated = run.generating(count, sampling)
            phases = (run.phase("generate", generated), run.phase("score", judged))
        case EvaluateSpec():
            phases = _evaluate(spec, run)
    return Estimate((run.load(), *phases))


def _ppo(spec: PpoSpec, run: "_Run") -> tuple[Phase, ...]:
    ppo = spec.ppo
    size = min(ppo.micro_batch_size, ppo.batch_size // ppo.minibatches)
    longest = spec.data.max_prompt_tokens + ppo.sampling.max_new_tokens
    rows = size * ppo.sampling.max_new_tokens
    block = Block(size, longest)
    judged = run.judging(min(ppo.micro_batch_size, ppo.batch_size), ppo.sampling)
    return (
        run.phase("generate", run.generating(ppo.batch_size, ppo.sampling)),
        run.phase("judge", judged),
        run.phase("measure", run.measuring(block, rows)),
        run.phase("update", run.training(block, logit_rows=rows)),
    )


def _evaluate(spec: EvaluateSpec, run: "_Run") -> tuple[Phase, ...]:
    sampling = spec.evaluate.sampling
    count = spec.evaluate.prompts_per_step * spec.evaluate.responses
    # The KL is measured on all answers of a step at once.
    all_answers = Block(count, spec.data.max_prompt_tokens + sampling.max_new_tokens)
    measured = run.measuring(all_answers, count * sampling.max_new_tokens)
    judged = run.judging(min(sampling.batch_size, count), sampling)
    scored = max(measured, judged, key=lambda parts: sum(parts.values()))
    return (
        run.phase("generate", run.generating(count, sampling)),
        run.phase("score", scored),
    )


@dataclass(frozen=True)
class _Run:
    """One stage on one model and device; the parts of each kind of work."""

    spec: Spec
    shape: Shape
    device: Device

    def phase(self, name: str, parts: Parts) -> Phase:
        whole = {**self._standing(), **parts}
        return Phase(name, {part: size for part, size in whole.items() if size})

    def load(self) -> Phase:
        """The base on its way in: on the CPU its file stays mapped while it is converted, and
        is only mapped, not read, where there is nothing to convert."""
        model, shape = self.spec.model, self.shape
        stored = (shape.linear + shape.other) * shape.stored_bytes
        wide = footprint.BYTES[model.dtype]
        kept = footprint.base(shape, model)
        reading = shape.largest * wide
        if self.device.kind == "cpu":
            plain = model.quantization == "none" and shape.stored_bytes == wide
            kept, reading = (0, 0) if plain else (kept, stored)
        parts = {"process": self.device.process, "base": kept, "model files": reading}
        return Phase("load model", {part: size for part, size in parts.items() if size})

    def generating(self, answers: int, sampling: Sampling) -> Parts:
        """Sampling: the copy is merged, then prompts fill the cache, then tokens extend it."""
        spec, shape, model = self.spec, self.shape, self.spec.model
        rows = min(sampling.batch_size, answers)
        prompt = Block(rows, spec.data.max_prompt_tokens)
        whole = Block(rows, spec.data.max_prompt_tokens + sampling.max_new_tokens)
        if self._merged:
            packed, merging = 0, footprint.merging(shape, model)
        else:
            packed, merging = footprint.dequantized(shape, model), 0
        moments: list[Parts] = [
            {"merging": merging},
            {
                "KV cache": footprint.kv_cache(shape, model, prompt),
                "activations": footprint.forward(shape, model, self.device, prompt),
                "dequantized weight": packed,
            },
            {
                "KV cache": footprint.kv_cache(shape, model, whole),
                "decoding": footprint.decoding(shape, model, self.device, whole),
                "dequantized weight": packed,
            },
        ]
        return max(moments, key=lambda parts: sum(parts.values()))

    def judging(self, answers: int, sampling: Sampling) -> Parts:
        """A learned reward's forward pass; rules take nothing worth counting."""
        if not self.shape.reward_lora:
            return {}
        block = Block(answers, self.spec.data.max_prompt_tokens + sampling.max_new_tokens)
        return self._passing(block)

    def measuring(self, block: Block, rows: int) -> Parts:
        """A forward pass, then log-probs of `rows` response tokens, without gradients."""
        model = self.spec.model
        passing = self._passing(block)
        hidden = block.tokens * self.shape.hidden * footprint.BYTES[model.dtype]
        logits = footprint.logit_chunk(self.shape, model, rows, train=False)
        reading = {"activations": hidden, "logit chunk": logits}
        return max(passing, reading, key=lambda parts: sum(parts.values()))

    def _passing(self, block: Block) -> Parts:
        shape, model = self.shape, self.spec.model
        return {
            "activations": footprint.forward(shape, model, self.device, block),
            "dequantized weight": footprint.dequantized(shape, model),
        }

    def training(self, block: Block, logit_rows: int) -> Parts:
        """Forward and backward pass of one micro-batch: all that was saved stands while the
        logits, then the last layer, get their gradients."""
        shape, model, device = self.shape, self.spec.model, self.device
        saved = footprint.saved(shape, model, device, block)
        chunk = footprint.logit_chunk(shape, model, logit_rows, train=True)
        layer = footprint.backward(shape, model, device, block)
        layer += footprint.dequantized(shape, model)
        return {
            "gradients": self.trained * FP32,
            "activations": saved,
            **({"logit chunk": chunk} if chunk > layer else {"backward": layer}),
            "heap holes": footprint.heap_holes(shape, model, device, block),
        }

    @property
    def trained(self) -> int:
        """Parameters that an optimiser updates."""
        shape, spec = self.shape, self.spec
        match spec:
            case SftSpec():
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
        spec, shape = self.spec, self.shape
        if not isinstance(spec, PpoSpec):
            return 0
        own = spec.ppo.advantage == "gae" and spec.ppo.value == "separate"
        return (shape.reward_lora or shape.policy_lora) if own else 0

    @property
    def _frozen(self) -> int:
        """Parameters of adapters and heads that only judge or compare."""
        shape, spec = self.shape, self.spec
        judge = shape.reward_lora + shape.hidden if shape.reward_lora else 0
        match spec:
            case PpoSpec():
                return judge + (shape.policy_lora if shape.inherited else 0)
            case CollectSpec() | EvaluateSpec():
                return judge + shape.policy_lora + shape.against_lora
        return 0

    @property
    def _merged(self) -> bool:
        sampling = sampling_of(self.spec)
        adapters = self.shape.policy_lora + self.shape.against_lora
        return sampling is not None and sampling.merge and adapters > 0

    def _standing(self) -> Parts:
        """What every phase finds in place."""
        shape, model = self.shape, self.spec.model
        return {
            "process": self.device.process,
            "base": footprint.base(shape, model),
            "adapters": (self.trained + self._frozen) * FP32,
            "merged copy": footprint.merged_copy(shape, model) if self._merged else 0,
            "optimizer": footprint.optimizer(self.trained),
        }


def sampling_of(spec: Spec) -> Sampling | None:
    """How a stage samples; None for one that does not."""
    match spec:
        case PpoSpec():
            return spec.ppo.sampling
        case CollectSpec():
            return spec.collect.sampling
        case EvaluateSpec():
            return spec.evaluate.sampling
    return None
