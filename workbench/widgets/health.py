"""Figures that tell whether a run is well: value, way so far, and a word for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from textual.content import Content
from textual.widgets import Static

from rlhf_engine.job.guards import guards_of, limits_of
from rlhf_engine.job.spec import Spec
from rlhf_engine.job.watch import Word, word
from rlhf_engine.runs.sample import printable
from workbench.feed import Snapshot
from workbench.format import short, sparkline, within
from workbench.widgets.advice import advice
from workbench.widgets.series import SeriesBook

WORDS = {"ok": "$primary", "watch": "bold $accent", "bad": "bold $error", "": "$text-muted"}


@dataclass(frozen=True)
class Figure:
    """A figure of a stage as the panel names it; its limits are in the run's spec."""

    metric: str
    label: str


PPO = (
    Figure("kl", "KL / target"),
    Figure("entropy", "entropy"),
    Figure("clip_fraction", "clip fraction"),
    Figure("approx_kl", "approx KL"),
    Figure("value_loss", "value loss"),
    Figure("explained_variance", "explained var"),
    Figure("score_std", "score std"),
    Figure("response_tokens", "length"),
    Figure("eos_rate", "EOS rate"),
    Figure("grad_norm", "grad norm"),
    Figure("logp_mismatch", "logp mismatch"),
    Figure("tokens_per_second", "tokens/s"),
)
LEARNING = (
    Figure("grad_norm", "grad norm"),
    Figure("eval_loss", "held-out loss"),
    Figure("eval_token_accuracy", "held-out acc"),
    Figure("eval_accuracy", "held-out acc"),
    Figure("margin", "margin"),
    Figure("lr", "learning rate"),
    Figure("tokens_per_second", "tokens/s"),
    Figure("seconds", "seconds/step"),
)
PAIRS = (
    Figure("kl", "KL own samples"),
    Figure("eval_kl", "held-out KL"),
    Figure("accuracy", "accuracy"),
    Figure("eval_accuracy", "held-out acc"),
    Figure("chosen_logp", "chosen log p"),
    Figure("rejected_logp", "rejected log p"),
    Figure("response_tokens", "length"),
    Figure("eos_rate", "EOS rate"),
    Figure("grad_norm", "grad norm"),
    Figure("lr", "learning rate"),
    Figure("seconds", "seconds/step"),
)
ANSWERING = (
    Figure("kl", "KL"),
    Figure("gold", "gold"),
    Figure("eos_rate", "EOS rate"),
    Figure("tokens_per_second", "tokens/s"),
    Figure("seconds", "seconds/step"),
)
FIGURES = {
    "ppo": PPO,
    "sft": LEARNING,
    "reward": LEARNING,
    "dpo": PAIRS,
    "collect": ANSWERING,
    "evaluate": ANSWERING,
}


@dataclass(frozen=True)
class Reading:
    """A figure at the last step that reports it, and what it is called."""

    label: str
    value: float
    word: Word
    way: list[float]


def readings(spec: Spec, book: SeriesBook, snapshot: Snapshot) -> list[Reading]:
    """The figures that a run has reported, judged by the limits of its spec."""
    found, limits = [], limits_of(spec)
    knobs: Mapping[str, float] = snapshot.last.knobs if snapshot.last else {}
    for figure in FIGURES[spec.stage]:
        if raw := book.get(figure.metric).raw:
            limited = limits.get(figure.metric)
            value = raw[-1] / knobs.get(limited.times, 1.0) if limited else raw[-1]
            judged = word(limited.limits if limited else [], value)
            found.append(Reading(figure.label, value, judged, raw))
    return found


def worries(spec: Spec, book: SeriesBook, snapshot: Snapshot) -> list[str]:
    """What a guard advises, then the figures that are not well now, worst first, such as
    `bad: EOS rate 0.10`."""
    now = advice(guards_of(spec), snapshot)
    unwell = [
        f"{reading.word}: {reading.label} {short(reading.value)}"
        for reading in readings(spec, book, snapshot)
        if reading.word in ("watch", "bad")
    ]
    return [*([now.short] if now else []), *sorted(unwell)]


class Health(Static):
    """What a guard advises, and a line for each figure that the run has reported."""

    DEFAULT_CSS = """
    Health { border: round $panel; padding: 0 1; border-title-color: $foreground; }
    """

    def __init__(self, spec: Spec, id: str) -> None:
        super().__init__(id=id)
        self._spec = spec
        self.border_title = "health"

    def show(self, book: SeriesBook, snapshot: Snapshot) -> None:
        now = advice(guards_of(self._spec), snapshot)
        lines = [Content.styled(printable(now.long), WORDS["watch"])] if now else []
        bars = max(4, self.size.width - 30)
        lines += [
            Content.assemble(
                f"{reading.label:<14}{within(reading.value, 8):>8}  ",
                (sparkline(reading.way, bars), "$primary"),
                (f" {reading.word}", WORDS[reading.word]),
            )
            for reading in readings(self._spec, book, snapshot)
        ]
        told = Content("\n").join(lines) if lines else Content("no data yet")
        self.update(told, layout=False)
