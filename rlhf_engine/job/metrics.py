"""The figures that a step of each stage reports, by the names that guards and limits watch."""

from rlhf_engine.job.spec import DpoSpec, PpoSpec, RewardSpec, RunSpec, SftSpec

# Endings of the names of what a clock measures: no repetition gives them again.
CLOCKED = ("seconds", "per_second")
_LEARNING = ("lr", "grad_norm")
_PAIRS = (
    *("accuracy", "margin", "chosen_reward", "rejected_reward", "chosen_logp", "rejected_logp"),
)
_ANSWERS = ("kl", "kl_k3", "response_tokens", "eos_rate")
_PPO = (
    *("score", "score_std", "kl", "kl_k3", "net_reward", "entropy", "response_tokens", "eos_rate"),
    *("logp_mismatch", "policy_loss", "clip_fraction", "approx_kl", "first_ratio_error"),
)


def metrics_of(spec: RunSpec) -> list[str]:
    """Names of what a run of this spec reports, but for clocks; `eval_` marks held-out data."""
    match spec:
        case SftSpec():
            return [*_LEARNING, "tokens", *_with_held_out("loss", "token_accuracy")]
        case RewardSpec():
            return [*_LEARNING, *_with_held_out("loss", "accuracy", "margin")]
        case DpoSpec():
            asked = _ANSWERS if spec.dpo.sample_prompts else ()
            return [*_LEARNING, *_with_held_out("loss", *_PAIRS, *asked)]
        case PpoSpec():
            return [*_LEARNING, *_ppo(spec)]
    return []


def _with_held_out(*names: str) -> list[str]:
    return [*names, *(f"eval_{name}" for name in names)]


def _ppo(spec: PpoSpec) -> list[str]:
    numbers = range(2, len(spec.reward.gold) + 1)
    gold = [*["gold"][: len(spec.reward.gold)], *(f"gold_{number}" for number in numbers)]
    held_out = [f"eval_{name}" for name in ("score", *gold, "response_tokens", "eos_rate")]
    value = ("explained_variance", "value_loss", "value_clip_fraction")
    return [
        *_PPO,
        *gold,
        *held_out,
        *(value if spec.ppo.advantage == "gae" else ()),
        *(("ptx_loss",) if spec.ppo.ptx.data.path else ()),
    ]
