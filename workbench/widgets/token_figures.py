"""All figures of the token under the cursor, in words and numbers."""

import math
from collections.abc import Sequence

from rlhf_engine.runs.sample import Sample, printable
from workbench.format import short
from workbench.token_colours import EXTREME, Figure, log_ratios

UNRECORDED = "no figures of single tokens are recorded for {kind} samples"
NAMES = {
    "log-ratio": "log-ratio to the reference",
    "advantage": "advantage",
    "value": "value of the state before the token",
    "reward": "reward: -kl_coef·KL, score at the end",
}
WHITENED = NAMES | {"reward": "reward of the token before whitening"}


def token_lines(sample: Sample, rewards: Sequence[float], token: int) -> list[str]:
    """Text, id and every figure of one token."""
    if not sample.pieces:
        return [UNRECORDED.format(kind=sample.kind)]
    count = len(sample.pieces)
    text = visible(sample.pieces[token])
    number = f" · id {sample.tokens[token]}" if token < len(sample.tokens) else ""
    lines = [f"token {token + 1}/{count} · {text}{number}"]
    ratios = log_ratios(sample)
    logp, ref = _at(sample.logp, token), _at(sample.ref_logp, token)
    parts = [f"logp {short(logp)}", f"reference {short(ref)}"]
    if logp is not None and ref is not None:
        parts.append(f"p {_chance(logp)} against {_chance(ref)}")
    lines.append(" · ".join(parts))
    ratio = _at(ratios, token)
    kl = None if ratio is None else _k3(ratio)
    so_far = sum(ratios[: token + 1]) if ratios else None
    lines.append(f"log-ratio {signed(ratio)} · KL k3 {short(kl)} · sum so far {signed(so_far)}")
    advantage, value = _at(sample.advantage, token), _at(sample.value, token)
    reward = signed(_at(rewards, token))
    lines.append(f"advantage {signed(advantage)} · value {signed(value)} · reward {reward}")
    return lines


def legend(figure: Figure, whitened: bool) -> str:
    """What the colours say; `whitened` where the run scaled the rewards of each batch."""
    if figure.mode == "none":
        return "no colours · v colours by a figure"
    edge = figure.scale * EXTREME
    name = (WHITENED if whitened else NAMES)[figure.mode]
    return (
        f"{name} · blue below 0, red above · full at ±{short(figure.scale)} · "
        f"underlined beyond ±{short(edge)}: bold above 0, italic below"
    )


def visible(piece: str) -> str:
    """A token's text in quotes, with blanks and ends of lines as signs."""
    if not piece:
        return "(part of a character)"
    text = printable(piece).replace("\n", "⏎").replace("\t", "→").replace(" ", "·")
    return f"“{text if len(text) <= 40 else text[:39] + '…'}”"


def signed(value: float | None) -> str:
    """A figure with its sign."""
    text = short(value)
    return f"+{text}" if value is not None and value > 0 else text


def _at(values: Sequence[float], token: int) -> float | None:
    return values[token] if token < len(values) else None


def _chance(logp: float) -> str:
    return short(math.exp(min(logp, 0.0)) if not math.isnan(logp) else math.nan)


def _k3(ratio: float) -> float:
    """exp(r) - 1 - r with r = ref - policy (Schulman 2020)."""
    try:
        return math.exp(-ratio) - 1 + ratio
    except OverflowError:
        return math.inf
