"""Figures that tell whether a run is well: value, way so far, and a word for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.widgets import Static

from workbench.format import short, sparkline
from workbench.widgets.series import SeriesBook

WORDS = {"ok": "$primary", "watch": "bold $accent", "bad": "bold $error", "": "$text-muted"}


@dataclass(frozen=True)
class Limits:
    """From where on a figure is worth watching, and bad; `falling` if small is what is bad."""

    watch: float
    bad: float
    falling: bool = False

    def word(self, value: float) -> str:
        sign = -1 if self.falling else 1
        if sign * value > sign * self.bad:
            return "bad"
        return "watch" if sign * value > sign * self.watch else "ok"


@dataclass(frozen=True)
class Figure:
    metric: str
    label: str
    limits: Limits | None = None


PPO = (
    Figure("entropy", "entropy", Limits(0.5, 0.1, falling=True)),
    Figure("clip_fraction", "clip fraction", Limits(0.3, 0.5)),
    Figure("approx_kl", "approx KL", Limits(0.05, 0.2)),
    Figure("value_loss", "value loss"),
    Figure("explained_variance", "explained var", Limits(0.0, -1.0, falling=True)),
    Figure("score_std", "score std", Limits(0.02, 0.001, falling=True)),
    Figure("response_tokens", "length"),
    Figure("eos_rate", "EOS rate", Limits(0.8, 0.3, falling=True)),
    Figure("grad_norm", "grad norm", Limits(100.0, 1000.0)),
    Figure("logp_mismatch", "logp mismatch", Limits(0.01, 0.1)),
    Figure("tokens_per_second", "tokens/s"),
)
LEARNING = (
    Figure("grad_norm", "grad norm", Limits(100.0, 1000.0)),
    Figure("eval_loss", "held-out loss"),
    Figure("eval_token_accuracy", "held-out acc"),
    Figure("eval_accuracy", "held-out acc", Limits(0.55, 0.5, falling=True)),
    Figure("margin", "margin"),
    Figure("lr", "learning rate"),
    Figure("tokens_per_second", "tokens/s"),
    Figure("seconds", "seconds/step"),
)
PAIRS = (
    Figure("kl", "KL own samples"),
    Figure("eval_kl", "held-out KL"),
    Figure("accuracy", "accuracy"),
    Figure("eval_accuracy", "held-out acc", Limits(0.55, 0.5, falling=True)),
    Figure("chosen_logp", "chosen log p"),
    Figure("rejected_logp", "rejected log p"),
    Figure("response_tokens", "length"),
    Figure("eos_rate", "EOS rate", Limits(0.8, 0.3, falling=True)),
    Figure("grad_norm", "grad norm", Limits(100.0, 1000.0)),
    Figure("lr", "learning rate"),
    Figure("seconds", "seconds/step"),
)
ANSWERING = (
    Figure("kl", "KL"),
    Figure("gold", "gold"),
    Figure("eos_rate", "EOS rate", Limits(0.8, 0.3, falling=True)),
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


def word(figure: Figure, value: float) -> str:
    """`ok`, `watch` or `bad`; empty for a figure that no limit is known for."""
    if not math.isfinite(value):
        return "bad"
    return figure.limits.word(value) if figure.limits else ""


def worries(figures: Sequence[Figure], book: SeriesBook) -> list[str]:
    """The figures that are not well now, worst first, such as `bad: EOS rate 0.10`."""
    found = []
    for figure in figures:
        raw = book.get(figure.metric).raw
        if raw and (now := word(figure, raw[-1])) in ("watch", "bad"):
            found.append(f"{now}: {figure.label} {short(raw[-1])}")
    return sorted(found)


class Health(Static):
    """A line for each figure that the run has reported."""

    DEFAULT_CSS = "Health { border: round $panel; padding: 0 1; }"

    def __init__(self, figures: Sequence[Figure], id: str) -> None:
        super().__init__(id=id)
        self._figures = figures
        self.border_title = "health"

    def show(self, book: SeriesBook) -> None:
        lines = []
        bars = max(4, self.size.width - 30)
        for figure in self._figures:
            if raw := book.get(figure.metric).raw:
                now = word(figure, raw[-1])
                lines.append(
                    Content.assemble(
                        f"{figure.label:<14}{short(raw[-1]):>8}  ",
                        (sparkline(raw, bars), "$primary"),
                        (f" {now}", WORDS[now]),
                    )
                )
        self.update(Content("\n").join(lines) if lines else Content("no data yet"))
