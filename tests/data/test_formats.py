"""Every usual format becomes conversations, pairs and prompts; bad rows are counted or named."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.data.errors import DataError
from rlhf_engine.data.formats import Format, Message, conversations, detect, pairs, prompts
from rlhf_engine.data.messages import transcript
from rlhf_engine.data.sources import Row, read_rows


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def rows(*fields: dict[str, Any]) -> list[Row]:
    return [Row(f"a.jsonl:{n}", f) for n, f in enumerate(fields, 1)]


def said(*turns: str) -> tuple[Message, ...]:
    return tuple(Message(("user", "assistant")[n % 2], text) for n, text in enumerate(turns))


def hh(*turns: str) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[n % 2]}: {t}" for n, t in enumerate(turns))


CASES: list[tuple[Format, dict[str, Any]]] = [
    ("chat", {"messages": [user("q"), assistant("a")]}),
    (
        "chat",
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    ),
    ("prompt_completion", {"prompt": "q", "completion": "a"}),
    ("prompt_completion", {"prompt": [user("q")], "completion": [assistant("a")]}),
    ("prompt_completion", {"instruction": "q", "input": "", "output": "a"}),
    ("prompt_completion", {"prompt": "q", "label": "a"}),
    ("prompt_completion", {"prompt": None, "question": "q", "answer": "a"}),
    ("pairs", {"prompt": "q", "chosen": "a", "rejected": "b"}),
    ("pairs", {"prompt": [user("q")], "chosen": [assistant("a")], "rejected": [assistant("b")]}),
    ("pairs", {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "a", "rejected": "b"}),
    (
        "pairs",  # UltraFeedback: whole lists on both sides, and a `messages` column besides
        {
            "prompt": "q",
            "chosen": [user("q"), assistant("a")],
            "rejected": [user("q"), assistant("b")],
            "messages": [user("q"), assistant("a")],
            "score_chosen": 8.0,
        },
    ),
    ("pairs", {"chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]}),
    ("hh", {"chosen": hh("q", "a"), "rejected": hh("q", "b")}),
]


@pytest.mark.parametrize(("format", "fields"), CASES)
def test_each_format_serves_sft_and_sampling(format: Format, fields: dict[str, Any]) -> None:
    assert detect(fields) == format
    (conversation,), report = conversations(rows(fields))
    assert conversation.messages == said("q", "a")
    assert (report.format, report.rows, report.kept, report.dropped) == (format, 1, 1, {})
    (prompt,), _ = prompts(rows(fields))
    assert prompt.messages == said("q")
    assert prompt.where == "a.jsonl:1"


@pytest.mark.parametrize(("format", "fields"), [c for c in CASES if c[0] in ("pairs", "hh")])
def test_each_pair_format_gives_the_pair(format: Format, fields: dict[str, Any]) -> None:
    (pair,), _ = pairs(rows(fields), format)
    assert (pair.prompt, pair.chosen, pair.rejected) == (said("q"), "a", "b")


@pytest.mark.parametrize("name", ["prompt", "question", "instruction", "text"])
def test_prompts_alone(name: str) -> None:
    assert detect({name: "q"}) == "prompts"
    (prompt,), _ = prompts(rows({name: "q"}))
    assert prompt.messages == said("q")
    with pytest.raises(DataError, match=r"a\.jsonl:1: prompts hold no answers"):
        conversations(rows({name: "q"}))


def test_a_number_under_label_is_no_answer() -> None:
    assert detect({"prompt": "q", "label": 1}) == "prompts"
    assert detect({"prompt": "q", "completion": "a", "label": True}) == "prompt_completion"


def test_alpaca_input_belongs_to_the_prompt() -> None:
    (prompt,), _ = prompts(rows({"instruction": "Translate.", "input": "chat", "output": "cat"}))
    assert prompt.messages == said("Translate.\n\nchat")


def test_prompt_keys_tell_prompts_apart_and_are_stable() -> None:
    first, second, again = prompts(rows({"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}))[0]
    assert first.key == again.key != second.key


def test_a_system_message_comes_first_unless_the_row_has_its_own() -> None:
    own = {"messages": [{"role": "system", "content": "mine"}, user("q"), assistant("a")]}
    blank = {"messages": [{"role": "system", "content": " "}, user("q"), assistant("a")]}
    kept, _ = conversations(rows(own, blank), system="ours")
    assert [c.messages[0].content for c in kept] == ["mine", "ours"]
    assert [len(c.messages) for c in kept] == [3, 3]
    (pair,), _ = pairs(rows(CASES[7][1]), system="ours")
    assert pair.prompt == (Message("system", "ours"), Message("user", "q"))


def test_mapped_columns_win_over_known_names() -> None:
    fields = {"query": "q", "good": "a", "bad": "b", "prompt": "not this"}
    mapping = {"prompt": "query", "chosen": "good", "rejected": "bad"}
    (pair,), report = pairs(rows(fields), columns=mapping)
    assert (pair.prompt, pair.chosen, report.format) == (said("q"), "a", "pairs")
    with pytest.raises(DataError, match="maps prompt to 'quary', but the keys are 'query'"):
        pairs(rows(fields), columns={"prompt": "quary"})
    with pytest.raises(DataError, match="'promt', which is none of our fields"):
        pairs(rows(fields), columns={"promt": "query"})


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "answers"),
    [
        (("q", "x", "r", "a"), ("q", "x", "r", "b"), ("q", "x", "r"), ("a", "b")),
        (("q", "x", "r", "a"), ("q", "y", "s", "b"), ("q",), ("x", "y")),
        (("q", "x", "r", "a"), ("q", "b"), ("q",), ("x", "b")),
    ],
)
def test_hh_pairs_part_at_the_last_common_human_turn(
    chosen: tuple[str, ...],
    rejected: tuple[str, ...],
    prompt: tuple[str, ...],
    answers: tuple[str, str],
) -> None:
    (pair,), _ = pairs(rows({"chosen": hh(*chosen), "rejected": hh(*rejected)}))
    assert pair.prompt == said(*prompt)
    assert (pair.chosen, pair.rejected) == answers


GOOD = {"chosen": hh("q", "a"), "rejected": hh("q", "b")}


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (hh("q", ""), hh("q", "b"), "chosen is empty"),
        (hh("q", "a"), hh("q", " "), "rejected is empty"),
        (None, hh("q", "b"), "chosen is empty"),
        (hh("q", "a"), hh("q", "a\n"), "chosen equals rejected"),
        (hh("q", "a"), hh("other", "b"), "chosen and rejected answer different prompts"),
        (
            hh("q", "x", "r", "a"),
            hh("q", "x", "s", "b"),
            "chosen and rejected answer different prompts",
        ),
        (hh("q", "a", "r"), hh("q", "b", "r"), "the last message is not from the assistant"),
        (hh("q", "a"), hh("q"), "the last message is not from the assistant"),
        ("no transcript", hh("q", "b"), "is not a Human/Assistant transcript"),
        (hh("q", "a \ud800"), hh("q", "b"), "text is not valid Unicode"),
        (hh("", "a"), hh("", "b"), "the prompt is empty"),
    ],
)
def test_unusable_pairs_are_left_out_and_counted(
    chosen: str | None, rejected: str, reason: str
) -> None:
    bad = {"chosen": chosen, "rejected": rejected}
    kept, report = pairs(rows(GOOD, bad, bad, bad, bad), "hh")
    assert len(kept) == report.kept == 1
    assert report.dropped[reason].count == 4
    assert report.dropped[reason].first == ["a.jsonl:2", "a.jsonl:3", "a.jsonl:4"]
    assert report.lines() == [
        "1 of 5 rows kept (format hh)",
        f"4 left out: {reason} (a.jsonl:2, a.jsonl:3, a.jsonl:4, ...)",
    ]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([user("q")], "the last message is not from the assistant"),
        ([], "the last message is not from the assistant"),
        ([user("q"), assistant(" \n")], "the answer is empty"),
        ([assistant("a")], "the prompt does not end with a user message"),
        (
            [user("q"), {"role": "tool", "content": "42"}, assistant("a")],
            "has a role other than system, user and assistant",
        ),
    ],
)
def test_unusable_conversations_are_counted(messages: list[Any], reason: str) -> None:
    good = {"messages": [user("q"), assistant("a")]}
    kept, report = conversations(rows(good, {"messages": messages}))
    assert len(kept) == 1
    assert list(report.dropped) == [reason]


@pytest.mark.parametrize(
    ("fields", "format", "says"),
    [
        ({"foo": 1, "bar": 2}, "auto", "the keys are 'foo', 'bar'"),
        ({}, "auto", "the keys are none"),
        ({"chosen": "a", "prompt": "q"}, "pairs", "no 'rejected' here; the keys are"),
        ({"chosen": "a", "rejected": "b"}, "auto", "no 'prompt' or 'question'"),
        ({"prompt": "q", "chosen": 3, "rejected": "b"}, "auto", "'chosen' is a number, not text"),
        ({"prompt": {"a": 1}, "chosen": "a", "rejected": "b"}, "auto", "is an object, not text"),
        ({"chosen": ["q"], "rejected": ["r"]}, "auto", r"chosen\[0\] must have role and content"),
        ({"messages": [user("q")]}, "pairs", "no 'chosen' here"),
        ({"messages": [user("q"), assistant("a")]}, "auto", "hold one answer, not two"),
        (
            {"prompt": "q", "chosen": [{"role": "assistant", "content": None}], "rejected": "b"},
            "auto",
            r"'chosen\[0\].content' is empty, not text",
        ),
    ],
)
def test_malformed_rows_are_errors_that_name_the_row(
    fields: dict[str, Any], format: Format, says: str
) -> None:
    with pytest.raises(DataError, match=rf"a\.jsonl:1: .*{says}"):
        pairs(rows(fields), format)


def test_text_where_messages_belong_is_an_error() -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: 'messages' is text, not a list of messages"):
        conversations(rows({"messages": "hello"}))


def test_no_usable_row_says_why() -> None:
    with pytest.raises(DataError, match=r"a\.jsonl: no row can be used\. 1 left out: chosen is"):
        pairs(rows({"prompt": "q", "chosen": "", "rejected": "b"}))
    with pytest.raises(DataError, match="no rows to read"):
        pairs([])


def test_successive_turns_of_one_speaker_become_one() -> None:
    text = "\n\nHuman: q\n\nAssistant: x\n\nAssistant: y\n\nHuman: r\n\nAssistant: a"
    assert transcript(text) == said("q", "x\n\ny", "r", "a")


turn = st.text(
    st.characters(codec="utf-8", exclude_characters="\x1c\x1d\x1e\x1f"), min_size=1
).filter(lambda t: t.strip() == t and "\n\nHuman:" not in t and "\n\nAssistant:" not in t)


@given(st.lists(turn, min_size=2, max_size=6))
def test_a_transcript_gives_back_its_turns(turns: list[str]) -> None:
    assert transcript(hh(*turns)) == said(*turns)


def test_the_real_hh_pairs(hh_file: Path) -> None:
    kept, report = pairs(read_rows(str(hh_file)))
    assert (report.format, report.rows, report.kept) == ("hh", 1200, 1196)
    assert {reason: d.count for reason, d in report.dropped.items()} == {"chosen is empty": 4}
    assert report.dropped["chosen is empty"].first[0] == "hh_harmless_1200.jsonl.gz:87"
    assert all(p.prompt[-1].role == "user" and p.chosen != p.rejected for p in kept)
    assert Counter(p.prompt[0].role for p in kept) == {"user": 1196}
    assert not any("\n\nHuman:" in p.chosen or "\n\nAssistant:" in p.rejected for p in kept)
    assert len(conversations(read_rows(str(hh_file)))[0]) == 1196
    assert len(prompts(read_rows(str(hh_file)))[0]) == 1200
