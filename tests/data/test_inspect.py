"""The report on a data set, with and without a tokenizer."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from rlhf_engine.data.errors import DataError
from rlhf_engine.data.formats import pairs
from rlhf_engine.data.inspect import Quantiles, inspect
from rlhf_engine.data.sources import Row, read_rows
from rlhf_engine.data.tokens import encode_pair
from tests.data.conftest import MakeTokenizer

PAIRS = [
    Row("a.csv:1", {"prompt": "How are you?", "chosen": "I am fine.", "rejected": "Go away!"}),
    Row("a.csv:2", {"prompt": "Hi", "chosen": "x" * 30, "rejected": "no"}),
    Row("a.csv:3", {"prompt": "Hi", "chosen": "x" * 30, "rejected": "no"}),
    Row("a.csv:4", {"prompt": "Hi", "chosen": "same", "rejected": "same"}),
    Row("a.csv:5", {"prompt": "Hi", "chosen": "", "rejected": "no"}),
    Row("a.csv:6", {"prompt": "  ", "chosen": "yes", "rejected": "no"}),
]


def test_pairs_in_characters() -> None:
    found = inspect(PAIRS, "auto", None, 10)
    assert (found.report.format, found.report.rows, found.report.kept) == ("pairs", 6, 3)
    assert (found.duplicates, found.identical, found.empty) == (1, 1, 2)
    assert (found.unit, found.truncated) == ("characters", None)
    assert found.lengths["prompt"] == Quantiles(2, 2, 12, 12, 12)
    assert found.lengths["chosen"].max == 30
    assert found.example == "user: How are you?\n[chosen] I am fine.\n[rejected] Go away!"
    assert found.lines()[0] == "3 of 6 rows kept (format pairs)"
    assert "1 repeat an earlier row" in found.lines()


def test_lengths_and_cuts_agree_with_the_encoding(chatml: PreTrainedTokenizerFast) -> None:
    encoded = [encode_pair(chatml, pair, 40)[0] for pair in pairs(PAIRS)[0]]
    found = inspect(PAIRS, "pairs", chatml, 40)
    total = [len(e.ids) + e.cut for e in encoded]
    assert found.truncated == sum(e.cut > 0 for e in encoded) / 3 > 0
    assert found.lengths["prompt"].max + found.lengths["chosen"].min <= max(total)
    assert found.lengths["chosen"].max == 31
    assert "66.7% of the rows are cut" in found.lines()
    assert inspect(PAIRS, "pairs", chatml, 400).truncated == 0
    assert inspect(PAIRS, "pairs", chatml, None, max_prompt_tokens=5).truncated == 1
    assert inspect(PAIRS, "pairs", chatml, None).truncated is None


def test_conversations_and_prompts(chatml: PreTrainedTokenizerFast) -> None:
    talk = [Row("a.jsonl:1", {"prompt": "hi", "completion": "yo"})]
    found = inspect(talk, "auto", chatml, 100, system="Be kind.")
    assert found.report.format == "prompt_completion"
    assert found.lengths["answer"].max == 3
    assert found.example.endswith("<|im_start|>assistant\n\n[answer] yo")
    assert "Be kind." in found.example
    found = inspect([Row("a.jsonl:1", {"q": "hi"})], "auto", None, None, columns={"prompt": "q"})
    assert (found.report.format, found.example) == ("prompts", "user: hi")
    assert list(found.lengths) == ["prompt"]


def test_a_row_that_the_template_refuses_is_named(make_tokenizer: MakeTokenizer) -> None:
    strict = make_tokenizer("{{ raise_exception('no') }}")
    with pytest.raises(DataError, match=r"^a\.jsonl:1: the chat template refuses"):
        inspect([Row("a.jsonl:1", {"prompt": "hi"})], "auto", strict, 9)


def test_the_real_hh_pairs(hh_file: Path, chatml: PreTrainedTokenizerFast) -> None:
    found = inspect(read_rows(str(hh_file)), "auto", chatml, 1024)
    assert (found.report.kept, found.empty, found.identical) == (1196, 4, 0)
    assert found.truncated is not None
    assert 0 < found.truncated < 1
