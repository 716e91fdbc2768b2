import torch

from rlhf_engine.rl.responses import lengths, response_mask
from tests.rl.golden import golden

EOS = 2


def test_responses_end_with_their_first_end_token() -> None:
    known = golden("07_response_processing")
    mask, finished = response_mask(known["responses"], {EOS})
    assert torch.equal(mask, ~known["padding_mask"])
    assert torch.equal(finished, known["contains_eos"])
    assert torch.equal(lengths(mask), known["sequence_lengths"] + 1)
    assert torch.equal(known["responses"] * mask, known["truncated"])


def test_padding_with_the_end_token_changes_nothing() -> None:
    known = golden("07_response_processing")
    plain, _ = response_mask(known["truncated"], [EOS])
    padded, finished = response_mask(known["padeos_truncated"], [EOS])
    assert torch.equal(padded, ~known["padding_mask"])
    assert torch.equal(plain[finished].sum(-1), (known["sequence_lengths"] + 1)[finished])
    # The peers' lengths, read off the pad token, lose the end token here.
    assert torch.equal(lengths(padded)[finished], known["padeos_sequence_lengths"][finished] + 2)


def test_any_of_several_end_tokens_ends_a_response() -> None:
    tokens = torch.tensor([[5, 7, 2], [5, 5, 5], [2, 7, 5]])
    mask, finished = response_mask(tokens, {2, 7})
    assert lengths(mask).tolist() == [2, 3, 1]
    assert finished.tolist() == [True, False, True]


def test_without_end_tokens_or_without_tokens_nothing_is_finished() -> None:
    mask, finished = response_mask(torch.tensor([[1, 2]]), [])
    assert mask.all()
    assert not finished.any()
    mask, finished = response_mask(torch.empty(2, 0, dtype=torch.long), [2])
    assert lengths(mask).tolist() == [0, 0]
    assert finished.tolist() == [False, False]
