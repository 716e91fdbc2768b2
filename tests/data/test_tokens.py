"""Loss masks are checked by reading the masked tokens back as text."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from rlhf_engine.data.errors import DataError
from rlhf_engine.data.formats import Message, Pair
from rlhf_engine.data.tokens import (
    Encoded,
    encode_conversation,
    encode_pair,
    encode_prompt,
    render_prompt,
)
from tests.data.conftest import CHATML, MakeTokenizer

# Thinks in the last answer and when asked for one, as Qwen3's template does.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
# Trims contents, marks no end of an answer and starts a turn with a special token.
NO_END = (
    "<|bos|>{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant:{% endif %}"
)
# Puts the system message into the last user turn, as some of Mistral's templates do.
MOVING = (
    "{% for m in messages if m.role != 'system' %}"
    "{% if m.role == 'user' and messages[0].role == 'system' and loop.revindex <= 2 %}"
    "{{ messages[0].content }} {% endif %}{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
)
STRICT = "{{ raise_exception('System role not supported') }}"

SYSTEM, QUESTION = Message("system", "be kind"), Message("user", "how are you?")
TALK = (
    SYSTEM,
    QUESTION,
    Message("assistant", "  I am fine.\n\n\té 🎉 "),
    Message("user", "and assistant?"),
    Message("assistant", "assistant"),
)


def masked(tokenizer: PreTrainedTokenizerFast, encoded: Encoded) -> str:
    assert len(encoded.ids) == len(encoded.loss_mask)
    kept = [i for i, m in zip(encoded.ids, encoded.loss_mask, strict=True) if m]
    return str(tokenizer.decode(kept))


@pytest.mark.parametrize(
    ("template", "options", "expected"),
    [
        (CHATML, {}, "  I am fine.\n\n\té 🎉 <|im_end|>assistant<|im_end|>"),
        (THINKING, {}, "  I am fine.\n\n\té 🎉 <|im_end|>assistant<|im_end|>"),
        (NO_END, {"eos": "</s>"}, " I am fine.\n\n\té 🎉 assistant</s>"),
        (None, {"eos": "</s>"}, "   I am fine.\n\n\té 🎉 </s> assistant</s>"),
        (None, {"eos": "</s>", "bos": True}, "   I am fine.\n\n\té 🎉 </s> assistant</s>"),
    ],
)
def test_the_mask_covers_what_the_assistant_said(
    make_tokenizer: MakeTokenizer, template: str | None, options: dict[str, object], expected: str
) -> None:
    tokenizer = make_tokenizer(template, **options)
    encoded = encode_conversation(tokenizer, TALK)
    assert masked(tokenizer, encoded) == expected
    assert encoded.cut == 0
    assert encoded.loss_mask[-1] == 1
    prompt = encode_prompt(tokenizer, TALK[:-1])
    assert encoded.ids[: len(prompt)] == prompt


content = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(
    lambda t: bool(t.strip()) and "<|" not in t
)


@given(st.lists(content.map(str.lstrip), max_size=2), content, content)
@example(["hello"], "\n\n\n there", "hi\n\n")
@example([], "\n\nthere", "hi")
def test_any_text_is_masked_exactly(
    chatml: PreTrainedTokenizerFast, earlier: list[str], last: str, question: str
) -> None:
    answers = [*earlier, last]
    turns = [m for a in answers for m in (Message("user", question), Message("assistant", a))]
    encoded = encode_conversation(chatml, turns)
    assert masked(chatml, encoded) == "".join(f"{a}<|im_end|>" for a in answers)
    prompt = encode_prompt(chatml, turns[:-1])
    assert encoded.ids[: len(prompt)] == prompt


def test_the_plain_fallback(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(None, eos="</s>", bos=True)
    text = "system: be kind\n\nuser: how are you?\n\nassistant: Well.</s>\n\nassistant:"
    prompt = (SYSTEM, QUESTION, Message("assistant", "Well."))
    assert render_prompt(tokenizer, prompt) == text
    ids = encode_prompt(tokenizer, prompt)
    assert tokenizer.decode(ids) == f"<|bos|>{text}"


def test_a_template_that_writes_bos_gets_no_second_one(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(NO_END, eos="</s>", bos=True)
    assert encode_prompt(tokenizer, [QUESTION]).count(tokenizer.bos_token_id) == 1
    encoded = encode_conversation(tokenizer, TALK)
    assert encoded.ids.count(tokenizer.bos_token_id) == 1


def test_a_long_prompt_loses_its_start_but_not_its_bos(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(None, eos="</s>", bos=True)
    whole = encode_prompt(tokenizer, [SYSTEM, QUESTION])
    assert encode_prompt(tokenizer, [SYSTEM, QUESTION], len(whole)) == whole
    assert encode_prompt(tokenizer, [SYSTEM, QUESTION], 9) == [whole[0], *whole[-8:]]
    assert encode_prompt(tokenizer, [SYSTEM, QUESTION], 1) == whole[-1:]


def test_limits_cut_the_prompt_at_its_start_and_the_answer_at_its_end(
    chatml: PreTrainedTokenizerFast,
) -> None:
    whole = encode_conversation(chatml, TALK)
    prompt = encode_prompt(chatml, TALK[:-1])
    answer = len(whole.ids) - len(prompt)
    short = encode_conversation(chatml, TALK, max_tokens=10 + answer, max_prompt_tokens=10)
    assert short.ids == [*encode_prompt(chatml, TALK[:-1], 10), *whole.ids[len(prompt) :]]
    assert masked(chatml, short) == "assistant<|im_end|>"
    assert short.cut == len(prompt) - 10
    shorter = encode_conversation(chatml, TALK, max_tokens=len(whole.ids) - 1)
    assert (shorter.ids, shorter.cut) == (whole.ids[:-1], 1)
    assert chatml.eos_token_id not in shorter.ids[len(prompt) :]


@pytest.mark.parametrize(
    ("template", "options"),
    [(CHATML, {}), (THINKING, {}), (NO_END, {"eos": "</s>"}), (None, {"eos": "</s>"})],
)
def test_pairs_share_their_prompt_and_end_with_eos(
    make_tokenizer: MakeTokenizer, template: str | None, options: dict[str, object]
) -> None:
    tokenizer = make_tokenizer(template, **options)
    pair = Pair(TALK[:-1], "I am.", "no", "a.jsonl:1")
    chosen, rejected = encode_pair(tokenizer, pair)
    prompt = encode_prompt(tokenizer, pair.prompt)
    for side, answer in ((chosen, "I am."), (rejected, "no")):
        assert side.ids[: len(prompt)] == prompt
        assert side.ids[-1] == tokenizer.eos_token_id
        assert side.loss_mask[: len(prompt)] == [0] * len(prompt)
        assert masked(tokenizer, side).strip() == f"{answer}{tokenizer.eos_token}"


def test_a_pair_with_an_empty_side_is_masked_on_its_end_token(
    chatml: PreTrainedTokenizerFast,
) -> None:
    chosen, rejected = encode_pair(chatml, Pair(TALK[:-1], "yes", "", "a.jsonl:1"))
    assert masked(chatml, chosen) == "yes<|im_end|>"
    assert masked(chatml, rejected) == "<|im_end|>"


def test_an_answer_that_reads_like_the_thinking_block(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(THINKING)
    talk = (QUESTION, Message("assistant", "<b>"), QUESTION, Message("assistant", "think"))
    assert masked(tokenizer, encode_conversation(tokenizer, talk)) == "<b><|im_end|>think<|im_end|>"


def test_a_template_that_moves_messages_is_refused(make_tokenizer: MakeTokenizer) -> None:
    with pytest.raises(DataError, match="template rewrites message 3 or those before it"):
        encode_conversation(make_tokenizer(MOVING), TALK)


def test_a_template_that_refuses_a_role_says_so(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(STRICT)
    with pytest.raises(DataError, match=r"of system, user \(System role not supported\)"):
        render_prompt(tokenizer, [SYSTEM, QUESTION])
    with pytest.raises(DataError, match=r"^a\.jsonl:7: the chat template refuses"):
        encode_pair(tokenizer, Pair((QUESTION,), "a", "b", "a.jsonl:7"))


def test_a_tokenizer_without_end_token_is_refused(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(None)
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="no end-of-sequence token"):
        encode_conversation(tokenizer, TALK)
