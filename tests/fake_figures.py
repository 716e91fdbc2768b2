"""Plausible figures and responses of a run, or hostile ones, for the fake engine."""

import math
import random
from collections.abc import Iterator, Mapping

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs.sample import Sample
from tests.tui.fake_run import HOSTILE, figures

TOPICS = (
    "my roommate never pays",
    "I moved to a small town",
    "our train was late again",
    "what should I cook for nine people",
    "the cat looks at the wall",
    "my neighbour plays the drums",
    "is it normal to talk to plants",
    "I forgot the name of my colleague",
)
STARTS = ("He should", "You could", "I would first", "It may help to", "Most people", "Just")
MIDDLES = (
    "talk to them and say what you need",
    "write down what happened and wait a day",
    "ask a friend who has seen this before",
    "make a list of three things that matter",
    "be kind, since nobody knows the whole story",
    "stop for a moment and take a long walk",
)
ENDS = ("and see what comes of it.", "before it gets worse.", "as soon as you can.", "and smile.")
BAD = (math.nan, math.inf, -math.inf, -3.0, 0.0, 1e300, -1e300)
LONG_LINE = 100_000


class Figures:
    """Draws what an engine would have measured; a dearer KL makes the next steps drift less."""

    def __init__(self, spec: Spec, seed: int, hostile: bool) -> None:
        self._stage = spec.stage
        self._start = knob_values(spec)
        self._noise = random.Random(seed)
        self._hostile = hostile
        self._pull = 1.0
        self._kl, self._score = 0.0, 0.0

    def metrics(self, step: int, knobs: Mapping[str, float]) -> dict[str, float]:
        """One step's figures, a tenth of them hostile if asked for."""
        row = figures(self._stage, step, self._noise)
        coef = knobs.get("kl_coef", 0.0)
        if "kl" in row and coef > 0:
            aim = math.sqrt(self._start["kl_coef"] / coef)
            self._pull += 0.05 * (aim - self._pull)
            row["kl"] *= self._pull
            row["kl_k3"] = 0.9 * row["kl"]
            row["net_reward"] = row["score"] - coef * row["kl"]
        self._kl, self._score = row.get("kl", 0.0), row.get("score", 0.0)
        if self._hostile and step % 10 == 0:
            row = {name: self._noise.choice(BAD) for name in row}
        return row

    def samples(self, count: int, knobs: Mapping[str, float]) -> Iterator[Sample]:
        """Responses around the figures of the last step."""
        for _ in range(count):
            yield self._hostile_sample() if self._hostile else self._sample(knobs)

    def _sample(self, knobs: Mapping[str, float]) -> Sample:
        draw = self._noise
        topic = draw.randrange(len(TOPICS))
        text = f"{draw.choice(STARTS)} {draw.choice(MIDDLES)} {draw.choice(ENDS)}"
        first, *rest = text.split(" ")
        pieces = [first, *(f" {word}" for word in rest)]
        count, end = len(pieces), max(0.0, self._kl * draw.uniform(0.4, 1.6))
        ratios = [draw.gauss(end / count, 0.3) for _ in pieces]
        logp = [-draw.expovariate(1.2) for _ in pieces]
        kl, score = sum(ratios), draw.gauss(self._score, 0.4)
        return Sample(
            kind="train",
            prompt_id=f"p{topic}",
            prompt=f"Answer in one sentence: {TOPICS[topic]}.",
            response=text,
            finished=draw.random() < 0.97,
            score=score,
            gold=draw.gauss(0.7 * self._score, 0.4),
            kl=kl,
            net_reward=score - knobs.get("kl_coef", 0.0) * kl,
            detail={"rule:length": score},
            pieces=pieces,
            tokens=[draw.randrange(32_000) for _ in pieces],
            logp=logp,
            ref_logp=[ours - ratio for ours, ratio in zip(logp, ratios, strict=True)],
            value=[score * (place + 1) / count for place in range(count)],
            advantage=[draw.gauss(0, 1) for _ in pieces],
        )

    def _hostile_sample(self) -> Sample:
        draw = self._noise
        pieces = [HOSTILE, "\x1b[2J", "漢字", "e\u0301", "[/INST]", "\n", "\t", ""] * 4
        response = "".join(pieces)
        if draw.random() < 0.05:
            response = "endless" * (LONG_LINE // 7)
            pieces = [response]
        bad = [draw.choice(BAD) for _ in pieces]
        return Sample(
            kind="train",
            prompt_id=HOSTILE,
            prompt=HOSTILE * draw.randint(0, 20),
            response=response,
            finished=draw.random() < 0.5,
            score=draw.choice(BAD),
            gold=draw.choice(BAD),
            kl=draw.choice(BAD),
            net_reward=draw.choice(BAD),
            detail={HOSTILE: draw.choice(BAD)},
            pieces=pieces,
            tokens=[0] * len(pieces),
            logp=bad,
            ref_logp=bad[::-1],
            value=bad,
            advantage=bad,
        )
