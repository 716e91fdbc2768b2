"""The demo's data is what its README says."""

import json
import re
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

from rlhf_engine.rules import friendly_short_parts

DEMO = Path(__file__).parents[1] / "presets" / "demo"
EXPLICITLY_FRIENDLY = re.compile(
    r"\b(glad|happy to help|good luck|enjoy|take care|have fun|congratulations|well done|"
    r"i hope|lovely|wonderful|thank you|welcome|safe travels)\b"
)


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DEMO / name).read_text("utf-8").splitlines()]


def prompts(name: str) -> list[str]:
    return [row["prompt"] for row in rows(name)]


def demonstrations() -> list[tuple[str, str]]:
    return [
        (asked["content"], answer["content"])
        for asked, answer in (row["messages"] for row in rows("demonstrations.jsonl"))
    ]


def normalised(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def overlap(one: str, other: str) -> float:
    """Jaccard similarity of the two sets of words."""
    a, b = set(normalised(one).split()), set(normalised(other).split())
    return len(a & b) / len(a | b)


def sentences(text: str) -> int:
    return len(re.findall(r"[.!?](?=\s|$)", text))


@pytest.mark.parametrize(("name", "count"), [("prompts.jsonl", 300), ("heldout.jsonl", 80)])
def test_prompts_are_short_distinct_messages(name: str, count: int) -> None:
    assert all(row.keys() == {"prompt"} for row in rows(name))
    texts = prompts(name)
    assert len(texts) == count
    assert all(text == text.strip() and text.isascii() for text in texts)
    assert all(5 <= len(text.split()) <= 25 for text in texts)
    assert max(overlap(*pair) for pair in combinations(texts, 2)) < 0.8


def test_held_out_prompts_are_new() -> None:
    held_out = prompts("heldout.jsonl")
    seen = prompts("prompts.jsonl") + [prompt for prompt, _ in demonstrations()]
    assert not {normalised(text) for text in held_out} & {normalised(text) for text in seen}
    assert max(overlap(*pair) for pair in product(held_out, seen)) < 0.8


def test_demonstrations_are_one_question_and_one_answer() -> None:
    found = rows("demonstrations.jsonl")
    assert len(found) == 160
    for row in found:
        assert row.keys() == {"messages"}
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert all(message.keys() == {"role", "content"} for message in row["messages"])


def test_demonstrations_answer_training_prompts_once_each() -> None:
    asked = [prompt for prompt, _ in demonstrations()]
    assert len(set(asked)) == len(asked)
    assert set(asked) <= set(prompts("prompts.jsonl"))
    answers = [answer for _, answer in demonstrations()]
    assert max(overlap(*pair) for pair in combinations(answers, 2)) < 0.8


def test_demonstrations_mix_the_lengths_and_leave_room_for_the_rule() -> None:
    answers = [answer for _, answer in demonstrations()]
    counts = [sentences(answer) for answer in answers]
    assert sum(n in {1, 2} for n in counts) == 64
    assert sum(n in {3, 4} for n in counts) == 64
    assert sum(n in {5, 6} for n in counts) == 32
    assert all(len(answer.split()) <= 90 and answer.isascii() for answer in answers)
    friendly = sum(bool(EXPLICITLY_FRIENDLY.search(answer.lower())) for answer in answers)
    assert 0.15 <= friendly / len(answers) <= 0.35


def test_demonstrations_teach_the_ending_that_the_rule_wants() -> None:
    for prompt, answer in demonstrations():
        assert friendly_short_parts(prompt, answer, True)["ending"] == 1.0
