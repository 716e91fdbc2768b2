"""The same held-out prompts answered by several policies, scored alike."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlhf_engine.checkpoint import State
from rlhf_engine.data.sources import read_rows
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.spec import EvaluateSpec
from rlhf_engine.model.base import resolve_source
from rlhf_engine.model.roles import Role, Roles
from rlhf_engine.rewards import GOLD, REWARD, make_judges
from rlhf_engine.rl.kl import k1
from rlhf_engine.runs.directory import find_run
from rlhf_engine.runs.reader import SampleRow
from rlhf_engine.runs.sample import Sample
from rlhf_engine.scoring import hidden_states, micro_batches, pack, response_logprobs
from rlhf_engine.seeding import derived, noise
from rlhf_engine.stages.asking import Answer, Respondent, questions
from rlhf_engine.stages.build import load_roles
from rlhf_engine.stages.own_prompt import OwnPrompts
from rlhf_engine.stages.rows import data_path
from rlhf_engine.stages.stage import StepRecord, Workplace

SHOWN_PROMPTS = 3


class EvaluateStage:
    """Asks every policy every prompt with the same draws; the first policy is the reference."""

    def __init__(self, spec: EvaluateSpec, place: Workplace) -> None:
        self._spec = spec
        self._place = place
        names = _names([spec.policy, *spec.evaluate.against], place.home)
        self._roles = load_roles(spec, place, names[0], None)
        self.base = self._roles.base.name
        for name, source in zip(names[1:], spec.evaluate.against, strict=True):
            self._add(name, source)
        self._names = names
        data = spec.data
        path = data_path(data.path, place.home)
        rows = read_rows(path, split=data.split, subset=data.subset, limit=data.max_rows)
        asked = questions(rows, data, self._roles, place, "prompts")[: spec.evaluate.max_prompts]
        self._questions = [q for q in asked for _ in range(spec.evaluate.responses)]
        self._respondent = Respondent(self._roles, spec.evaluate.sampling, place)
        self._own_prompts = OwnPrompts(
            self._roles, data, spec.evaluate.sampling, spec.seed, place, (*names[1:], names[0])
        )
        self.held_out = 0
        self._judges = make_judges(
            spec.reward, self._roles, place.home, place.sizes, place.ranks, place.report.say
        )
        size = spec.evaluate.prompts_per_step * spec.evaluate.responses
        self._chunks = [
            (name, start, size) for name in names for start in range(0, len(self._questions), size)
        ]
        self.total_steps = len(self._chunks)

    def _add(self, name: Role, source: str) -> None:
        found = resolve_source(source, self._place.home, self._place.report.say)
        if found.base != self._roles.base.name:
            raise SpecError(
                f"evaluate.against: {source} stands on {found.base}, {self._spec.policy} on "
                f"{self._roles.base.name}; only adapters of one base can be compared"
            )
        if found.adapter is not None:
            self._roles.add_from(name, found.adapter)

    def step(self, step: int, knobs: Mapping[str, float]) -> StepRecord:
        name, start, size = self._chunks[step - 1]
        asked = self._questions[start : start + size]
        draws = noise(self._spec.seed, "evaluate", start, len(asked), self._respondent.longest)
        answers = self._respondent.answer(name, asked, draws, knobs["temperature"])
        with self._place.report.phase("score", len(answers), "responses"):
            prompts = [a.question.text for a in answers]
            texts, responses = [a.text for a in answers], [a.response for a in answers]
            scores = {s: judge(prompts, texts, responses) for s, judge in self._judges.items()}
            rows = self._place.sizes.micro_batch
            kl = _kl(self._roles, name, self._names[0], answers, knobs["temperature"], rows)
        gold = self._spec.reward.gold
        samples = [
            Sample(
                kind="eval",
                prompt_id=answer.question.key,
                prompt=answer.question.text,
                response=answer.text,
                finished=answer.response.finished,
                score=scores[self._spec.reward.score][row],
                gold=scores[gold[0]][row] if gold else None,
                kl=kl[row],
                detail={"policy": name, "draw": start + row},
                tokens=answer.response.tokens,
            )
            for row, answer in enumerate(answers)
        ]
        return StepRecord(_means(samples), samples)

    def evaluate(self, knobs: Mapping[str, float]) -> StepRecord:
        raise SpecError("an evaluation holds no rows out")

    def ask(self, prompt: str, draw: str, knobs: Mapping[str, float]) -> list[Sample]:
        asked = self._own_prompts.ask(prompt, draw, knobs["temperature"])
        return [sample for _, sample in asked]

    def state(self) -> State | None:
        return None

    def load_state(self, state: State) -> None:
        raise SpecError("an evaluation keeps no checkpoints")

    def finish(self, folder: Path, samples: Sequence[SampleRow]) -> dict[str, Any]:
        """Write result.json: means by policy, differences with intervals, sample answers."""
        by_policy: dict[str, list[Sample]] = {name: [] for name in self._names}
        for row in samples:
            by_policy[row.sample.detail["policy"]].append(row.sample)
        runs = [self._spec.policy, *self._spec.evaluate.against]
        result = {
            "reference": self._names[0],
            "prompts": len({q.key for q in self._questions}),
            "rows": [
                {"policy": name, "run": run.removeprefix("run:"), **_means(by_policy[name])}
                for name, run in zip(self._names, runs, strict=True)
                if by_policy[name]
            ],
            "differences": self._differences(by_policy),
            "samples": _shown(by_policy),
        }
        (folder / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        return {"result": json.dumps(result)}

    def _differences(self, by_policy: Mapping[str, list[Sample]]) -> list[dict[str, Any]]:
        """Each policy against the first: mean over prompts and its 95 % bootstrap interval."""
        first, found = by_policy[self._names[0]], []
        metrics = ["score", *(["gold"] if self._spec.reward.gold else [])]
        for name in self._names[1:]:
            for metric in metrics:
                paired = _paired(by_policy[name], first, metric)
                if len(paired):
                    seed = derived(self._spec.seed, f"bootstrap-{metric}", 0)
                    low, high = interval(paired, self._spec.evaluate.bootstrap, seed)
                    found.append(
                        {
                            "policy": name,
                            "against": self._names[0],
                            "metric": metric,
                            "mean": float(paired.mean()),
                            "low": low,
                            "high": high,
                        }
                    )
        return found


def interval(differences: "np.ndarray[Any, Any]", resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean (Efron 1979). (N,) -> low, high."""
    draws = np.random.default_rng(seed)
    rows = draws.integers(0, len(differences), size=(resamples, len(differences)))
    means = differences[rows].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _paired(
    samples: Sequence[Sample], against: Sequence[Sample], metric: str
) -> "np.ndarray[Any, Any]":
    """Differences on the same prompt, averaged over a prompt's responses. (prompts,)."""

    def by_prompt(rows: Sequence[Sample]) -> dict[str, list[float]]:
        groups: dict[str, list[float]] = {}
        for sample in rows:
            groups.setdefault(sample.prompt_id, []).append(getattr(sample, metric))
        return groups

    ours, theirs = by_prompt(samples), by_prompt(against)
    return np.array([np.mean(ours[k]) - np.mean(theirs[k]) for k in ours if k in theirs])


@torch.no_grad()
def _kl(
    roles: Roles,
    name: Role,
    reference: Role,
    answers: Sequence[Answer],
    temperature: float,
    micro_batch: int,
) -> list[float]:
    """k1 of each response against the reference policy, nats per response."""
    given = [a.question.ids for a in answers]
    responses = [a.response.tokens for a in answers]
    lengths = [len(p) + len(r) for p, r in zip(given, responses, strict=True)]
    found: dict[int, float] = {}
    for rows in micro_batches(lengths, range(len(answers)), micro_batch):
        block = pack(given, responses, rows, roles.base.pad_id, roles.device)
        own, other = (
            response_logprobs(roles, hidden_states(roles, role, block), block, temperature).logp
            for role in (name, reference)
        )
        sums = torch.zeros(len(answers), device=roles.device)
        sums.index_add_(0, block.cells[0], k1(own, other))
        found |= {row: float(sums[row]) for row in rows}
    return [found[row] for row in range(len(answers))]


def _means(samples: Sequence[Sample]) -> dict[str, float]:
    count = len(samples)
    means = {
        name: sum(getattr(s, name) for s in samples) / count
        for name in ("score", "gold", "kl")
        if getattr(samples[0], name) is not None
    }
    means["response_tokens"] = sum(len(s.tokens) for s in samples) / count
    means["eos_rate"] = sum(s.finished for s in samples) / count
    return means


def _shown(by_policy: Mapping[str, list[Sample]]) -> list[dict[str, Any]]:
    """The first few prompts with every policy's answer."""
    found: dict[str, dict[str, Any]] = {}
    for name, samples in by_policy.items():
        for sample in samples:
            entry = found.setdefault(sample.prompt_id, {"prompt": sample.prompt, "responses": {}})
            entry["responses"].setdefault(name, sample.response)
    return list(found.values())[:SHOWN_PROMPTS]


def _names(sources: Sequence[str], home: Path) -> list[str]:
    """Short distinct names: a run's stage where that is unique, else its id or path.

    A judge is a role beside them and has its name from `rewards`.
    """
    stages = [
        find_run(home, source.removeprefix("run:")).spec().stage
        if source.startswith("run:")
        else Path(source).name.removeprefix("builtin:")
        for source in sources
    ]
    names = [
        stage if stages.count(stage) == 1 else Path(source.removeprefix("run:")).name
        for stage, source in zip(stages, sources, strict=True)
    ]
    judging = re.compile(rf"{REWARD}|{GOLD}_\d+")
    return [
        source.removeprefix("run:") if judging.fullmatch(name) or names.count(name) > 1 else name
        for name, source in zip(names, sources, strict=True)
    ]
