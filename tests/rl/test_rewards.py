import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.rl.kl import sequence_kl
from rlhf_engine.rl.rewards import apply_missing_eos, penalised_rewards
from tests.rl.golden import close, golden


def test_missing_end_tokens_are_penalised_as_the_peers_do() -> None:
    known = golden("07_response_processing")
    scores, finished = known["scores"], known["contains_eos"]
    replaced = apply_missing_eos(scores, finished, "replace", 1.0)
    close(replaced, known["nplus_scores_replace_minus1"])
    close(apply_missing_eos(scores, finished, "subtract", 1.0), known["trl_scores_penalty1"])
    close(apply_missing_eos(scores, finished, "none", 1.0), scores)


def test_the_score_stands_on_the_last_response_token() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    kl = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, float("nan")], [5.0, 5.0, 5.0]])
    rewards = penalised_rewards(torch.tensor([10.0, 20.0, 30.0]), kl, 0.5, mask)
    assert rewards.tolist() == [[-0.5, -1.0, 8.5], [18.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


@given(st.integers(0, 2**31), st.floats(0, 2), st.integers(1, 4))
def test_rewards_of_a_response_add_up_to_its_net_reward(
    seed: int, kl_coef: float, padding: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    kl = torch.randn(4, 6, dtype=torch.float64, generator=random)
    scores = torch.randn(4, dtype=torch.float64, generator=random)
    mask = torch.arange(6) < torch.randint(1, 7, (4, 1), generator=random)
    rewards = penalised_rewards(scores, kl, kl_coef, mask)
    close(rewards.sum(-1), scores - kl_coef * sequence_kl(kl, mask))
    wider = torch.nn.functional.pad(kl, (0, padding), value=7.0)
    longer = torch.nn.functional.pad(mask, (0, padding))
    close(penalised_rewards(scores, wider, kl_coef, longer)[:, :6], rewards)
