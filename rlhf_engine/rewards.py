"""Rewards: shipped rules, a person's own function, a learned reward run."""

import importlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch

from rlhf_engine.fitting import Sizes
from rlhf_engine.job.errors import SpecError, nearest
from rlhf_engine.job.sections import Judge
from rlhf_engine.model.base import resolve_source
from rlhf_engine.model.roles import Role, Roles
from rlhf_engine.ranks import Ranks
from rlhf_engine.rollout import Response
from rlhf_engine.rules import RULES, Rule
from rlhf_engine.scoring import hidden_states, micro_batches, pack, sequence_scores

REWARD: Role = "reward"
GOLD: Role = "gold"


class Scorer(Protocol):
    """Scores responses to prompts, given as tokens and as text."""

    def __call__(
        self, prompts: Sequence[str], texts: Sequence[str], responses: Sequence[Response]
    ) -> list[float]: ...


def make_judges(
    reward: Judge,
    roles: Roles,
    home: Path,
    sizes: Sizes,
    ranks: Ranks,
    say: Callable[[str], None],
) -> dict[str, "SharedScorer"]:
    """A scorer for each source that a spec trains on or watches.

    A source is `rule:<name>`, `<module or file.py>:<function>`, `run:<id>` or a folder. Learned
    ones are roles: `reward` is what is trained on, each that is watched has one of its own.
    Raises SpecError if there is no such source, or if a learned reward has another base.
    """
    judges: dict[str, SharedScorer] = {}
    for source, role in _judging_roles(reward).items():
        if _is_learned(source):
            _add_learned(source, role, roles, home, say)
            judges[source] = SharedScorer(LearnedScorer(roles, role, sizes), ranks)
        else:
            judges[source] = SharedScorer(RuleScorer(source, _rule(source)), ranks)
    return judges


def _judging_roles(reward: Judge) -> dict[str, Role]:
    """The role of each source, should it be a learned one; a source given twice is one role."""
    named = {source: f"{GOLD}_{n}" for n, source in reversed([*enumerate(reward.gold, 1)])}
    return {reward.score: REWARD} | {s: role for s, role in named.items() if s != reward.score}


def check_source(source: str, home: Path) -> None:
    """Raise SpecError if there is no such rule, function or reward adapter; loads no weights."""
    if not _is_learned(source):
        _rule(source)
    elif resolve_source(source, home, lambda _: None).adapter is None:
        raise SpecError(f"reward: {source} is no reward adapter; give a done reward run")


def _is_learned(source: str) -> bool:
    return source.startswith("run:") or Path(source).is_dir()


def _rule(source: str) -> Rule:
    if not source.startswith("rule:"):
        return _own_function(source)
    name = source.removeprefix("rule:")
    if name not in RULES:
        raise SpecError(f"reward: no rule {name!r}; {nearest(name, RULES)}")
    return RULES[name]


class SharedScorer:
    """A scorer whose work all processes of a run share; each is given all scores.

    `alone` is what one process can ask by itself.
    """

    def __init__(self, scorer: Scorer, ranks: Ranks) -> None:
        self.alone = scorer
        self._ranks = ranks

    def __call__(
        self, prompts: Sequence[str], texts: Sequence[str], responses: Sequence[Response]
    ) -> list[float]:
        share = self._ranks.share
        scores = self.alone(share(prompts), share(texts), share(responses))
        return self._ranks.gather(scores, len(prompts))


class RuleScorer:
    """A Python function of prompt, response and whether it ended itself."""

    def __init__(self, name: str, rule: Rule) -> None:
        self._name = name
        self._rule = rule

    def __call__(
        self, prompts: Sequence[str], texts: Sequence[str], responses: Sequence[Response]
    ) -> list[float]:
        return [
            self._score(prompt, text, response.finished)
            for prompt, text, response in zip(prompts, texts, responses, strict=True)
        ]

    def _score(self, prompt: str, text: str, finished: bool) -> float:
        try:
            value = float(self._rule(prompt, text, finished))
        except Exception as fault:
            raise SpecError(
                f"reward {self._name}: {type(fault).__name__}: {fault}; on the response {text!r}"
            ) from fault
        if not math.isfinite(value):
            raise SpecError(f"reward {self._name}: gave {value} on the response {text!r}")
        return value


class LearnedScorer:
    """A reward role: adapter and head of a reward run, on the shared base."""

    def __init__(self, roles: Roles, role: Role, sizes: Sizes) -> None:
        self._roles = roles
        self._role = role
        self._sizes = sizes

    @torch.no_grad()
    def __call__(
        self, prompts: Sequence[str], texts: Sequence[str], responses: Sequence[Response]
    ) -> list[float]:
        given, answers = [r.prompt for r in responses], [r.tokens for r in responses]
        lengths = [len(r.prompt) + len(r.tokens) for r in responses]
        found: dict[int, float] = {}
        for rows in micro_batches(lengths, range(len(responses)), self._sizes.micro_batch):
            block = pack(given, answers, rows, self._roles.base.pad_id, self._roles.device)
            hidden = hidden_states(self._roles, self._role, block)
            scores = sequence_scores(self._roles, self._role, hidden, block).tolist()
            found |= dict(zip(rows, scores, strict=True))
        return [found[row] for row in range(len(responses))]


def _add_learned(
    source: str, role: Role, roles: Roles, home: Path, say: Callable[[str], None]
) -> None:
    found = resolve_source(source, home, say)
    if found.adapter is None:
        raise SpecError(f"reward: {source} is no reward adapter; give a done reward run")
    if found.base != roles.base.name:
        raise SpecError(
            f"reward: {source} was trained on {found.base}, the policy on {roles.base.name}; "
            "all roles share one base"
        )
    roles.add_from(role, found.adapter)
    if role not in roles.heads:
        raise SpecError(f"reward: {source} has no score head; it is not a reward adapter")


def _own_function(source: str) -> Rule:
    """Import `file.py:function` or `module:function`."""
    place, _, name = source.rpartition(":")
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location("workbench_own_reward", place)
            if spec is None or spec.loader is None:
                raise ImportError(f"{place} is no Python file")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    except Exception as fault:
        raise SpecError(f"reward {source}: cannot import it: {fault}") from fault
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise SpecError(
            f"reward {source}: {place} has no function {name!r}; {nearest(name, known)}"
        )
    return function  # type: ignore[no-any-return]
