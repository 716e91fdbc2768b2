"""Controllers of the KL coefficient."""


def adaptive_coef(
    coef: float, kl: float, target: float, batch: int, horizon: float, clip: float = 0.2
) -> float:
    """The next coefficient: times 1 + clip(kl / target - 1) * batch / horizon.

    Ziegler et al. 2019, section 2.2, in the form of OpenAI's code; `kl` and `target` in nats per
    response, `batch` and `horizon` in responses.
    """
    error = min(max(kl / target - 1.0, -clip), clip)
    return coef * (1.0 + error * batch / horizon)
