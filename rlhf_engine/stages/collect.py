"""Several drafts a prompt, ranked by a judge, paired best against worst."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_engine.checkpoint import State
from rlhf_engine.data.sources import read_rows
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.spec import CollectSpec
from rlhf_engine.rewards import make_judges
from rlhf_engine.runs.reader import SampleRow
from rlhf_engine.runs.sample import Sample
from rlhf_engine.seeding import noise
from rlhf_engine.stages.asking import Respondent, questions
from rlhf_engine.stages.build import load_roles
from rlhf_engine.stages.own_prompt import OwnPrompts
from rlhf_engine.stages.rows import PAIRS, data_path
from rlhf_engine.stages.stage import StepRecord, Workplace


class CollectStage:
    """Samples drafts from a policy; its steps depend on nothing before them."""

    def __init__(self, spec: CollectSpec, place: Workplace) -> None:
        self._spec = spec
        self._place = place
        self._roles = load_roles(spec, place, "policy", None)
        self.base = self._roles.base.name
        data = spec.data
        path = data_path(data.path, place.home)
        rows = read_rows(path, split=data.split, subset=data.subset, limit=data.max_rows)
        asked = questions(rows, data, self._roles, place, "prompts")
        self._questions = asked[: spec.collect.max_prompts]
        self._respondent = Respondent(self._roles, spec.collect.sampling, place)
        self._own_prompts = OwnPrompts(
            self._roles, data, spec.collect.sampling, spec.seed, place, ("policy",)
        )
        self.held_out = 0
        self._judges = make_judges(
            spec.reward, self._roles, place.home, place.sizes, place.ranks, place.report.say
        )
        self.total_steps = -(-len(self._questions) // spec.collect.prompts_per_step)

    def step(self, step: int, knobs: Mapping[str, float]) -> StepRecord:
        collect = self._spec.collect
        start = (step - 1) * collect.prompts_per_step
        asked = self._questions[start : start + collect.prompts_per_step]
        repeated = [question for question in asked for _ in range(collect.drafts)]
        draws = noise(self._spec.seed, "draft", step, len(repeated), self._respondent.longest)
        answers = self._respondent.answer("policy", repeated, draws, knobs["temperature"])
        texts, responses = [a.text for a in answers], [a.response for a in answers]
        with self._place.report.phase("score", len(answers), "responses"):
            prompts = [question.text for question in repeated]
            scores = {
                source: judge(prompts, texts, responses) for source, judge in self._judges.items()
            }
        samples = [
            Sample(
                kind="draft",
                prompt_id=answer.question.key,
                prompt=answer.question.text,
                response=answer.text,
                finished=answer.response.finished,
                score=scores[self._spec.reward.score][index],
                detail={source: values[index] for source, values in scores.items()},
                tokens=answer.response.tokens,
            )
            for index, answer in enumerate(answers)
        ]
        return StepRecord(_figures(samples), samples)

    def evaluate(self, knobs: Mapping[str, float]) -> StepRecord:
        raise SpecError("a collect run holds no rows out")

    def ask(self, prompt: str, draw: str, knobs: Mapping[str, float]) -> list[Sample]:
        asked = self._own_prompts.ask(prompt, draw, knobs["temperature"])
        return [sample for _, sample in asked]

    def state(self) -> State | None:
        return None

    def load_state(self, state: State) -> None:
        raise SpecError("a collect run keeps no checkpoints")

    def finish(self, folder: Path, samples: Sequence[SampleRow]) -> dict[str, Any]:
        """Write the pairs, one JSON object a line."""
        drafts: dict[str, list[Sample]] = {}
        for row in samples:
            drafts.setdefault(row.sample.prompt_id, []).append(row.sample)
        pairs = [pair for group in drafts.values() for pair in self._pairs(group)]
        text = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
        (folder / PAIRS).write_text(text, encoding="utf-8")
        return {"pairs": str(len(pairs))}

    def _pairs(self, drafts: list[Sample]) -> list[dict[str, Any]]:
        """The best drafts of a prompt against the worst, if they differ enough."""
        ranked = sorted(drafts, key=lambda sample: sample.score or 0.0, reverse=True)
        found = []
        for rank in range(min(self._spec.collect.pairs_per_prompt, len(ranked) // 2)):
            better, worse = ranked[rank], ranked[-1 - rank]
            gap = (better.score or 0.0) - (worse.score or 0.0)
            if gap > self._spec.collect.min_gap and better.response != worse.response:
                found.append(
                    {
                        "prompt": better.prompt,
                        "chosen": better.response,
                        "rejected": worse.response,
                        "chosen_score": better.score,
                        "rejected_score": worse.score,
                    }
                )
        return found


def _figures(samples: Sequence[Sample]) -> dict[str, float]:
    """Means over the drafts of a step."""
    count = len(samples)
    return {
        "score": sum(s.score or 0.0 for s in samples) / count,
        "response_tokens": sum(len(s.tokens) for s in samples) / count,
        "eos_rate": sum(s.finished for s in samples) / count,
    }
