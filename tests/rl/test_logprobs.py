from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rlhf_engine.rl.logprobs import best_tokens, token_logprobs
from tests.rl.golden import close, golden

ROWS, WIDTH, VOCABULARY = 37, 6, 53
NAME = "06_logprob_temperature"


def naive(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    logits = torch.nn.functional.linear(hidden, weight, bias) / temperature
    logp = logits.log_softmax(-1)
    return logp.gather(-1, targets[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


def problem(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    hidden = torch.randn(ROWS, WIDTH, generator=random).to(dtype)
    weight = torch.randn(VOCABULARY, WIDTH, generator=random).to(dtype)
    bias = torch.randn(VOCABULARY, generator=random).to(dtype)
    targets = torch.randint(VOCABULARY, (ROWS,), generator=random)
    return hidden.requires_grad_(), weight, bias, targets


class Sizes(TorchDispatchMode):
    """Records the largest tensor that any operation gives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.largest = max([self.largest, *sizes])
        return result


@pytest.mark.parametrize("index", range(5))
def test_log_probs_and_entropies_match_trl_at_each_temperature(index: int) -> None:
    known = golden(NAME)
    logits, ids = known["logits"].flatten(0, 1), known["ids"].flatten()
    head = torch.eye(logits.shape[1], dtype=torch.float64)
    ours = token_logprobs(logits, head, ids, float(known["temperatures"][index]), chunk=4)
    close(ours.logp, known[f"logprob_{index}"].flatten())
    close(ours.entropy, known[f"entropy_{index}"].flatten())


def test_log_probs_in_fp32_match_trl() -> None:
    close(golden_logps(torch.float32), golden(NAME)["logprob_f32_t0.7"].flatten(), 1e-6)


def test_log_probs_in_bf16_are_at_least_as_exact_as_trls() -> None:
    known = golden(NAME)
    ours, error = golden_logps(torch.bfloat16), float(known["bf16_abs_err_vs_f64"])
    theirs, exact = (known[k].flatten() for k in ("logprob_bf16_t0.7_as_f32", "logprob_0"))
    assert (theirs - exact).abs().max() == pytest.approx(error)
    assert (ours - exact).abs().max() <= error
    assert (ours - theirs).abs().max() <= error


def golden_logps(dtype: torch.dtype) -> Tensor:
    """Log-probs of the known logits, rounded to a type, at temperature 0.7."""
    known = golden(NAME)
    logits, ids = known["logits"].flatten(0, 1).to(dtype), known["ids"].flatten()
    head = torch.eye(logits.shape[1], dtype=dtype)
    found = token_logprobs(logits, head, ids, float(known["temperatures"][0]), chunk=4).logp
    assert found.dtype == torch.float32
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("chunk", [1, 8, ROWS, 1000])
@pytest.mark.parametrize(("temperature", "biased"), [(1.0, False), (0.7, True)])
def test_values_and_gradients_equal_the_whole_batch_computation(
    dtype: torch.dtype, tolerance: float, chunk: int, temperature: float, biased: bool
) -> None:
    hidden, weight, bias, targets = problem(dtype)
    offset = bias if biased else None
    weights = torch.linspace(-1, 2, ROWS, dtype=dtype)
    logp, entropy = naive(hidden, weight, targets, temperature, offset)
    (expected,) = torch.autograd.grad((logp * weights).sum(), hidden)
    ours = token_logprobs(hidden, weight, targets, temperature, chunk, offset)
    (gradient,) = torch.autograd.grad((ours.logp * weights).sum(), hidden)
    close(ours.logp, logp, tolerance)
    close(ours.entropy, entropy, tolerance)
    close(gradient, expected, tolerance)


def test_no_tensor_of_all_rows_times_the_vocabulary_appears() -> None:
    hidden, weight, _, targets = problem(torch.float32)
    with Sizes() as chunked:
        token_logprobs(hidden, weight, targets, 0.9, chunk=8).logp.sum().backward()
    with Sizes() as whole:
        naive(hidden, weight, targets, 0.9, None)
    assert whole.largest == ROWS * VOCABULARY
    assert chunked.largest == 8 * VOCABULARY


def test_entropy_carries_no_gradient() -> None:
    hidden, weight, _, targets = problem(torch.float32)
    found = token_logprobs(hidden, weight, targets)
    assert found.logp.requires_grad
    assert not found.entropy.requires_grad


def test_bfloat16_logits_are_cast_up_before_the_softmax() -> None:
    hidden, weight, _, targets = problem(torch.bfloat16)
    ours = token_logprobs(hidden, weight, targets, chunk=ROWS)
    logits = torch.nn.functional.linear(hidden, weight).float()
    assert ours.logp.dtype == ours.entropy.dtype == torch.float32
    close(ours.logp, logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0], 1e-6)
    ours.logp.sum().backward()
    assert hidden.grad is not None
    exact = hidden.detach().double().requires_grad_()
    naive(exact, weight.double(), targets, 1.0, None)[0].sum().backward()
    assert exact.grad is not None
    assert torch.cosine_similarity(hidden.grad.double(), exact.grad).min() > 0.999


def test_nothing_is_saved_when_autograd_is_off() -> None:
    hidden, weight, _, targets = problem(torch.float32)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.no_grad():
            off = token_logprobs(hidden, weight, targets)
        assert off.logp.grad_fn is None
        assert not kept
        on = token_logprobs(hidden, weight, targets)
    assert {tuple(tensor.shape) for tensor in kept} == {
        (ROWS, WIDTH),
        (VOCABULARY, WIDTH),
        (ROWS,),
    }
    assert torch.equal(on.logp, off.logp)


@pytest.mark.parametrize("trained", ["weight", "bias"])
def test_a_trained_head_is_refused_rather_than_left_without_gradient(trained: str) -> None:
    hidden, weight, bias, targets = problem(torch.float32)
    {"weight": weight, "bias": bias}[trained].requires_grad_()
    with pytest.raises(ValueError, match="freeze"):
        token_logprobs(hidden, weight, targets, bias=bias)


def test_no_rows_give_no_numbers_and_an_empty_gradient() -> None:
    hidden = torch.empty(0, WIDTH, requires_grad=True)
    found = token_logprobs(hidden, torch.randn(5, WIDTH), torch.empty(0, dtype=torch.long))
    found.logp.sum().backward()
    assert found.logp.shape == found.entropy.shape == (0,)
    assert hidden.grad is not None
    assert hidden.grad.shape == (0, WIDTH)


def test_extreme_logits_give_numbers() -> None:
    head = torch.eye(3)
    logits = torch.tensor([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]])
    found = token_logprobs(logits, head, torch.tensor([1, 2]))
    close(found.logp, torch.tensor([-2e4, -1.0986123]), 1e-6)
    close(found.entropy, torch.tensor([0.0, 1.0986123]), 1e-6)


@pytest.mark.parametrize("rows", [0, ROWS])
def test_best_tokens_are_the_argmax_of_the_logits(rows: int) -> None:
    hidden, weight, bias, _ = problem(torch.float32)
    logits = torch.nn.functional.linear(hidden[:rows], weight, bias)
    assert torch.equal(best_tokens(hidden[:rows], weight, bias, chunk=8), logits.argmax(-1))
