"""What is asked for: one typed, frozen model per stage."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, model_validator

from rlhf_engine.job.section import Section, fixed, live
from rlhf_engine.job.sections import (
    Batches,
    Checkpoints,
    Data,
    Fork,
    Judge,
    Lora,
    Model,
    Optimizer,
    PlannedChange,
    Sampling,
)
from rlhf_engine.job.watch import (
    AnswersHealth,
    DpoHealth,
    Guard,
    LearningHealth,
    PpoHealth,
    RewardHealth,
)


class RunSpec(Section):
    """What every run says of itself."""

    name: str = fixed("run", pattern=r"^[a-z0-9][a-z0-9._-]{0,60}$")
    """Short name, part of the run's id: lower-case letters, digits, dots and dashes."""
    policy: str
    """What the run starts from: a base model (hub id, folder, `builtin:smollm2-135m`,
    `builtin:tiny-llama`), a PEFT adapter folder, or `run:<id>`."""
    seed: int = fixed(0, ge=0)
    """Seed of everything random in the run."""
    device: str = fixed("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """`auto` takes the GPU if there is one; else `cpu`, `cuda` or `cuda:<n>`."""
    threads: int | None = fixed(None, ge=1, le=1024)
    """CPU threads of the engine; empty lets torch choose."""
    changes: list[PlannedChange] = []
    """Knobs set at given steps, for example `[{step = 20, knob = "kl_coef", value = 0.1}]`; a
    person's own change at the same step comes after it."""
    model: Model = Model()
    checkpoints: Checkpoints = Checkpoints()
    fork: Fork | None = None
    """The run and step that this run was forked from; `workbench fork` writes it."""

    @property
    def begins_after(self) -> int:
        """The step after which this run's own steps begin: 0, or that of its fork."""
        return self.fork.step if self.fork else 0


class TrainedSpec(RunSpec):
    """What every run says that trains something."""

    guards: list[Guard] = []
    """Rules on figures, for example `[{metric = "kl", above = 2, times = "kl_target", action =
    "scale", knob = "kl_coef", factor = 1.5}]`: they advise, or act by themselves."""


class Sft(Section):
    """Supervised fine-tuning on the assistant's tokens."""

    batches: Batches = Batches()
    optimizer: Optimizer = Optimizer()


class SftSpec(TrainedSpec):
    """Supervised fine-tuning of a LoRA adapter on conversations."""

    stage: Literal["sft"]
    data: Data
    lora: Lora = Lora()
    sft: Sft = Sft()
    health: LearningHealth = LearningHealth()


class Collect(Section):
    """Several drafts a prompt, ranked by a judge, best against worst."""

    drafts: int = fixed(4, ge=2, le=64)
    """Responses sampled for each prompt."""
    prompts_per_step: int = fixed(16, ge=1)
    """Prompts answered in one step."""
    max_prompts: int | None = fixed(None, ge=1)
    """Use at most so many prompts; empty uses all."""
    pairs_per_prompt: int = fixed(1, ge=1, le=8)
    """Pairs kept of each prompt's drafts: best against worst, second best against second worst,
    and so on."""
    min_gap: float = fixed(0.0, ge=0)
    """Pairs whose scores differ by no more than this are dropped."""
    sampling: Sampling = Sampling()


class CollectSpec(RunSpec):
    """Drafts sampled from a policy and paired by a judge."""

    stage: Literal["collect"]
    data: Data
    reward: Judge
    collect: Collect = Collect()
    health: AnswersHealth = AnswersHealth()


class Reward(Section):
    """Reward model on preference pairs (Bradley-Terry)."""

    centre_coef: float = fixed(0.01, ge=0, le=10)
    """Weight of the penalty on (chosen + rejected)^2 that keeps scores around 0."""
    batches: Batches = Batches()
    optimizer: Optimizer = Optimizer(lr=1e-4)


class RewardSpec(TrainedSpec):
    """A reward model: LoRA adapter and scalar head, from preference pairs."""

    stage: Literal["reward"]
    data: Data
    lora: Lora = Lora()
    reward: Reward = Reward()
    health: RewardHealth = RewardHealth()


class KLControl(Section):
    """How far the policy may drift from its reference."""

    coef: float = live(0.05, knob="kl_coef", ge=0, le=10, unit="reward per nat")
    """Price of one nat of drift from the reference; raise it when samples get strange."""
    controller: Literal["fixed", "adaptive"] = "fixed"
    """`adaptive` moves the coefficient towards `target` after each step (Ziegler et al. 2019)."""
    target: float = live(6.0, knob="kl_target", gt=0, le=10000, unit="nats per response")
    """Where the adaptive controller steers the KL; drawn as a line on the chart."""
    horizon: float = fixed(10000.0, gt=0, unit="responses")
    """Responses over which the adaptive controller corrects; smaller is quicker."""
    estimator: Literal["k1", "k2", "k3"] = "k1"
    """Per-token estimator that is penalised; k1 and k3 are always recorded."""

    @model_validator(mode="after")
    def _movable(self) -> "KLControl":
        if self.controller == "adaptive" and self.coef == 0:
            raise ValueError(
                "coef = 0 stays 0 under controller = adaptive, which multiplies it: set coef "
                "above 0, or controller = fixed"
            )
        return self


class Ptx(Section):
    """PPO-ptx: conversations trained on beside PPO (Ouyang et al. 2022, equation 2)."""

    coef: float = live(0.0, knob="ptx_coef", ge=0, le=1000)
    """Weight of the conversations' mean token cross-entropy in the policy's loss; 0 is off."""
    batch_size: int = fixed(8, ge=1, unit="rows")
    """Conversations in each optimiser update, on top of its minibatch of responses."""
    data: Data = Data(path="")
    """Where the conversations come from, such as the data of the SFT run; held-out rows are left
    out. An empty path is none."""

    @model_validator(mode="after")
    def _has_rows(self) -> "Ptx":
        if self.coef > 0 and not self.data.path:
            raise ValueError("coef > 0 needs conversations: set ppo.ptx.data.path")
        return self


class Ppo(Section):
    """Proximal policy optimisation of responses (Schulman et al. 2017; Ziegler et al. 2019)."""

    steps: int = fixed(200, ge=1, unit="steps")
    """Rollout batches in the run."""
    batch_size: int = fixed(64, ge=1, unit="responses")
    """Responses a step."""
    epochs: int = fixed(4, ge=1, le=64)
    """Passes over each rollout batch."""
    minibatches: int = fixed(4, ge=1)
    """Optimiser updates an epoch; must divide `batch_size`."""
    micro_batch_size: int = fixed(8, ge=1)
    """Responses in memory at once; changes memory and speed, not the result."""
    advantage: Literal["gae", "rloo", "grpo", "dr_grpo"] = "gae"
    """`gae` learns a value role; the group estimators compare responses to the same prompt."""
    value: Literal["separate", "shared"] = "separate"
    """`separate` gives the value role an adapter of its own, started from the reward role;
    `shared` puts its head on the policy: half the passes of the update."""
    group_size: int = fixed(4, ge=2, le=256, unit="responses a prompt")
    """Responses to each prompt for the group estimators; must divide `batch_size`."""
    gamma: float = fixed(1.0, gt=0, le=1)
    """Discount a token."""
    lam: float = fixed(0.95, ge=0, le=1)
    """GAE's lambda."""
    whiten_rewards: bool = False
    """Scale per-token rewards to unit variance (without shifting their mean)."""
    clip: float = live(0.2, knob="clip", gt=0, le=10)
    """Range of the probability ratio."""
    value_clip: float = live(0.2, knob="value_clip", gt=0, le=100)
    """Range of a value's change within a step."""
    value_coef: float = live(0.1, knob="value_coef", ge=0, le=10)
    """Weight of the value loss."""
    missing_eos: Literal["replace", "subtract", "none"] = "replace"
    """What happens to the score of a response that did not end itself."""
    missing_eos_penalty: float = fixed(1.0, ge=0)
    """`replace` makes the score minus this; `subtract` takes this off."""
    normalise_score: Literal["none", "mean", "mean_std"] = "mean"
    """Shift (and scale) learned and rule scores so that the starting policy's first batch has
    mean 0 (and deviation 1)."""
    eval_every: int = fixed(0, ge=0, unit="steps")
    """Answer the held-out prompts every so many steps and at the end; 0 only at the end."""
    record_samples: int = fixed(16, ge=0, le=1024, unit="responses")
    """Responses a step that are kept with all figures of their tokens."""
    kl: KLControl = KLControl()
    ptx: Ptx = Ptx()
    sampling: Sampling = Sampling()
    optimizer: Optimizer = Optimizer(lr=1e-5)

    @model_validator(mode="after")
    def _divisible(self) -> "Ppo":
        if self.batch_size % self.minibatches:
            raise ValueError(
                f"minibatches = {self.minibatches} does not divide batch_size = {self.batch_size}"
            )
        if self.advantage != "gae" and self.batch_size % self.group_size:
            raise ValueError(
                f"group_size = {self.group_size} does not divide batch_size = {self.batch_size}"
            )
        return self


class PpoSpec(TrainedSpec):
    """PPO of a policy against a score, held near its reference by a KL penalty."""

    stage: Literal["ppo"]
    data: Data
    reward: Judge
    lora: Lora = Lora()
    ppo: Ppo = Ppo()
    health: PpoHealth = PpoHealth()


class Dpo(Section):
    """Direct preference optimisation of a policy on pairs, without a reward model."""

    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    """`sigmoid` is DPO (Rafailov et al. 2023); `ipo` steers to a margin of 1 / (2 beta) nats a
    token and no further (Azar et al. 2024)."""
    beta: float = live(0.1, knob="beta", gt=0, le=10, unit="reward per nat")
    """Reward that one nat of drift from the reference stands for; raise it to stay nearer."""
    sample_every: int = fixed(10, ge=1, unit="steps")
    """Measure KL on the policy's own answers to prompts of the step's pairs every so many steps,
    from the first on, and at the end."""
    sample_prompts: int = fixed(16, ge=0, le=1024, unit="prompts")
    """Prompts answered for that, and as many held-out ones with every measure of held-out pairs;
    0 samples nothing and leaves KL out."""
    sampling: Sampling = Sampling()
    batches: Batches = Batches()
    optimizer: Optimizer = Optimizer(lr=2e-5)


class DpoSpec(TrainedSpec):
    """Direct alignment of a policy on preference pairs, near the reference that it starts from."""

    stage: Literal["dpo"]
    data: Data
    lora: Lora = Lora()
    dpo: Dpo = Dpo()
    health: DpoHealth = DpoHealth()


class Evaluate(Section):
    """Answers of one or more policies to the same held-out prompts."""

    against: list[str] = []
    """More policies (runs or adapter folders) that answer the same prompts."""
    prompts_per_step: int = fixed(16, ge=1)
    """Prompts answered in one step."""
    responses: int = fixed(1, ge=1, le=64)
    """Responses to each prompt."""
    max_prompts: int | None = fixed(None, ge=1)
    """Use at most so many prompts; empty uses all."""
    bootstrap: int = fixed(2000, ge=100, le=100000)
    """Resamples of the 95 % interval of the difference between two policies."""
    sampling: Sampling = Sampling()


class EvaluateSpec(RunSpec):
    """The same prompts answered by several policies, scored alike."""

    stage: Literal["evaluate"]
    data: Data
    reward: Judge
    evaluate: Evaluate = Evaluate()
    health: AnswersHealth = AnswersHealth()


Spec = SftSpec | CollectSpec | RewardSpec | PpoSpec | DpoSpec | EvaluateSpec
STAGES: dict[str, type[RunSpec]] = {
    "sft": SftSpec,
    "collect": CollectSpec,
    "reward": RewardSpec,
    "ppo": PpoSpec,
    "dpo": DpoSpec,
    "evaluate": EvaluateSpec,
}
SPEC: TypeAdapter[Spec] = TypeAdapter(Annotated[Spec, Field(discriminator="stage")])


def inputs(spec: Spec) -> list[str]:
    """Ids of the runs that this spec reads from, in the order of its fields, without repeats."""
    sources = [spec.policy, spec.data.path, spec.data.eval_path or ""]
    if isinstance(spec, CollectSpec | PpoSpec | EvaluateSpec):
        sources += [spec.reward.score, *spec.reward.gold]
    if isinstance(spec, PpoSpec):
        sources += [spec.ppo.ptx.data.path, spec.ppo.ptx.data.eval_path or ""]
    if isinstance(spec, EvaluateSpec):
        sources += spec.evaluate.against
    return list(dict.fromkeys(s.removeprefix("run:") for s in sources if s.startswith("run:")))
