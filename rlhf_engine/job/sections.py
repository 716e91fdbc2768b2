"""The tables that the stages share: model, adapters, data, optimiser, sampling, checkpoints."""

from typing import Literal

from pydantic import model_validator

from rlhf_engine.job.section import Section, fixed, live

Format = Literal["auto", "chat", "prompt_completion", "pairs", "hh", "prompts"]


class Model(Section):
    """How the frozen base is loaded."""

    dtype: Literal["fp32", "bf16"] = "bf16"
    """Number format of the base weights and of matrix products; adapters and heads stay fp32."""
    quantization: Literal["none", "nf4", "int8"] = "none"
    """Store the base in 4-bit NF4 or 8-bit (bitsandbytes); products run in `dtype`."""
    double_quant: bool = True
    """Quantize the NF4 constants too: about 0.4 bits a parameter less."""
    gradient_checkpointing: bool = False
    """Keep only the inputs of each layer while training and make the rest again in the backward
    pass: much less memory, about a third slower, the same result."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; leave off unless you have read that code."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; empty takes its main branch."""


class Lora(Section):
    """The trained low-rank adapter (Hu et al. 2021)."""

    r: int = fixed(16, ge=1, le=1024)
    """Rank of the adapter."""
    alpha: float = fixed(32.0, gt=0)
    """Scale: the update is multiplied by alpha / r."""
    targets: str = "all-linear"
    """Layers that get an adapter: `all-linear`, or names separated by commas (`q_proj,v_proj`)."""


class Data(Section):
    """Where the rows come from and how they are read."""

    path: str
    """Hub id, file (JSONL, JSON, CSV, Parquet; plain or .gz), folder of a saved dataset,
    `run:<id>` (the pairs that a collect run made), or `builtin:<name>` (the demo's data)."""
    format: Format = "auto"
    """What a row is; `auto` looks at the first row."""
    split: str = "train"
    """Split of a hub or saved dataset."""
    subset: str | None = None
    """Configuration (or data directory) of a hub dataset."""
    columns: dict[str, str] = {}
    """Our field name = your column name, for example `prompt = "question"`."""
    system: str | None = None
    """System message put before every conversation."""
    max_rows: int | None = fixed(None, ge=1)
    """Read at most so many rows."""
    eval_path: str | None = None
    """Held-out rows of their own; empty takes `eval_rows` from the end of a seeded shuffle."""
    eval_split: str | None = None
    """Held-out split of the same dataset."""
    eval_rows: int = fixed(0, ge=0)
    """Rows held out from training when there is no `eval_path` or `eval_split`."""
    max_prompt_tokens: int = fixed(512, ge=1, unit="tokens")
    """Longer prompts lose tokens at their start."""
    max_tokens: int = fixed(1024, ge=2, unit="tokens")
    """Longer conversations and pairs lose tokens at their end."""


class Optimizer(Section):
    """AdamW on adapters and heads."""

    lr: float = live(2e-4, knob="lr", ge=0, le=1, unit="per step")
    """Learning rate; the schedule multiplies it."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls over the run, after the warm-up."""
    warmup_steps: int = fixed(0, ge=0, unit="steps")
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = fixed(0.0, ge=0, le=1)
    """Decoupled weight decay."""
    max_grad_norm: float = live(1.0, knob="max_grad_norm", gt=0, le=1000)
    """Gradients longer than this are shortened to it."""
    eight_bit: bool = False
    """Keep AdamW's moments in 8 bits (bitsandbytes; paged on CUDA): a quarter of their memory."""


class Batches(Section):
    """How many examples a step takes, and how many at once."""

    epochs: float = fixed(1.0, gt=0, le=1000)
    """Passes over the training rows."""
    max_steps: int | None = fixed(None, ge=1, unit="steps")
    """Stop after so many steps, whatever `epochs` says."""
    batch_size: int = fixed(32, ge=1)
    """Rows (or pairs) a step."""
    micro_batch_size: int = fixed(8, ge=1)
    """Rows in memory at once; changes memory and speed, not the result."""
    eval_every: int = fixed(0, ge=0, unit="steps")
    """Measure held-out rows every so many steps and at the end; 0 only at the end."""


class Sampling(Section):
    """How responses are sampled."""

    max_new_tokens: int = fixed(128, ge=1, le=32768, unit="tokens")
    """A response is cut at this length."""
    temperature: float = live(1.0, knob="temperature", gt=0, le=5)
    """Softmax temperature; every log-prob and the KL use it too."""
    batch_size: int = fixed(64, ge=1)
    """Responses generated at once; changes memory and speed, not the result."""
    merge: bool = True
    """Sample from a merged copy of the adapted layers, where at most half of a GPU's free memory
    holds it: faster, and costs their memory once more in `dtype`."""
    backend: Literal["auto", "cached", "static", "continuous"] = "auto"
    """`cached` drops finished rows from a growing cache; `static` replays CUDA graphs on buffers
    that stay; `continuous` (transformers' own, for long ragged responses) refills finished rows;
    `auto` is `static` on a GPU where model and memory allow it, else `cached`."""


class Checkpoints(Section):
    """When the run saves what the next step depends on."""

    every: int = fixed(50, ge=1, unit="steps")
    """Steps between checkpoints."""
    keep: int = fixed(3, ge=1)
    """How many of the newest are kept."""


class PlannedChange(Section):
    """A knob's new value at a step that was chosen before the run began."""

    step: int = fixed(ge=1)
    """The first step that runs with the value."""
    knob: str
    """The knob's name or its dotted path."""
    value: float = fixed(strict=True)
    """What the knob is set to; within its bounds."""


class Fork(Section):
    """Where a run left its parent: written by `workbench fork`, whose checkpoint comes along."""

    run: str
    """Id of the parent."""
    step: int = fixed(ge=1)
    """Its last step that this run shares; this run's own steps begin after it."""


class Judge(Section):
    """One source of scores."""

    score: str
    """`rule:<name>` (shipped), `<module or file.py>:<function>` (yours), `run:<id>` or a folder
    with a reward adapter."""
    gold: list[str] = []
    """Rewards that are only watched, never trained on; the first one is the metric `gold`."""

    @model_validator(mode="after")
    def _named(self) -> "Judge":
        for source in (self.score, *self.gold):
            if ":" not in source and "/" not in source:
                raise ValueError(
                    f"{source!r} is no reward: write rule:<name>, file.py:<function>, run:<id> "
                    "or the path of a reward adapter"
                )
        return self
