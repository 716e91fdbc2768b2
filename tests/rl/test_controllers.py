import pytest

from rlhf_engine.rl.controllers import adaptive_coef
from tests.rl.golden import golden


@pytest.mark.parametrize("case", range(5))
def test_the_adaptive_controller_follows_openai(case: int) -> None:
    known = golden("05_adaptive_kl")
    coef, target, horizon, batch = known[f"case{case}_init_target_horizon_nsteps"].tolist()
    found = [coef]
    for kl in known["kl_sequence"].tolist():
        coef = adaptive_coef(coef, kl, target, int(batch), horizon)
        found.append(coef)
    assert found == pytest.approx(known[f"case{case}_beta"].tolist(), rel=1e-9)


def test_the_papers_gain_of_a_tenth_is_a_batch_of_a_tenth_of_the_horizon() -> None:
    known = golden("05_adaptive_kl")
    coef, found = 0.15, [0.15]
    for kl in known["kl_sequence"].tolist():
        coef = adaptive_coef(coef, kl, target=6.0, batch=1, horizon=10.0)
        found.append(coef)
    assert found == pytest.approx(known["paper_Kbeta0.1_target6_init0.15_beta"].tolist())


def test_the_coefficient_rests_on_target_and_moves_towards_it() -> None:
    assert adaptive_coef(0.1, kl=6.0, target=6.0, batch=64, horizon=1000) == 0.1
    assert adaptive_coef(0.1, kl=6.6, target=6.0, batch=64, horizon=1000) > 0.1
    assert adaptive_coef(0.1, kl=5.4, target=6.0, batch=64, horizon=1000) < 0.1


def test_the_clip_bounds_one_move() -> None:
    wild = adaptive_coef(0.1, kl=1e6, target=6.0, batch=100, horizon=1000)
    assert wild == pytest.approx(0.1 * 1.02)
    assert adaptive_coef(0.1, 1e6, 6.0, 100, 1000, clip=0.5) == pytest.approx(0.1 * 1.05)
