"""The rules of guards: when they fire, what they turn, and that their state is all they need."""

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.guards import Firing, Guards, knob_moves
from rlhf_engine.job.knobs import find_knob, knob_values
from rlhf_engine.job.presets import load_preset
from rlhf_engine.job.spec import PpoSpec
from rlhf_engine.job.watch import Guard, word

SMOKE = load_preset("smoke").stages[0]
assert isinstance(SMOKE, PpoSpec)
KNOBS = knob_values(SMOKE)
FIGURES = st.lists(
    st.one_of(
        st.none(), st.floats(0, 4), st.sampled_from([math.nan, math.inf, -math.inf, 1.0, 2.0])
    ),
    max_size=60,
)
CONDITIONS = st.sampled_from(
    [{"above": 2.0}, {"below": 1.0}, {"above": 0.25, "times": "kl_target"}, {"not_finite": True}]
)


def spec(*guards: Guard) -> PpoSpec:
    assert isinstance(SMOKE, PpoSpec)
    return SMOKE.model_copy(update={"guards": list(guards)})


def played(guards: Guards, figures: list[float | None], first: int = 1) -> list[Firing]:
    found = []
    for step, figure in enumerate(figures, first):
        metrics = {} if figure is None else {"kl": figure}
        found += guards.judge(step, metrics, KNOBS, KNOBS)
    return found


@st.composite
def rules(draw: st.DrawFn) -> Guard:
    numbers: dict[str, Any] = {
        "steps": draw(st.integers(1, 4)),
        "cooldown": draw(st.integers(0, 6)),
    }
    condition = draw(CONDITIONS)
    return Guard(metric="kl", mode="act", action="pause", **condition, **numbers)


def expected(guard: Guard, figures: list[float | None]) -> list[tuple[int, ...]]:
    """The steps of each firing: the first ones that held in a row after the rest before."""
    reports = [(step, f) for step, f in enumerate(figures, 1) if f is not None]
    found: list[tuple[int, ...]] = []
    since = 0
    for place in range(len(reports)):
        window = reports[max(0, place + 1 - guard.steps) : place + 1]
        full = len(window) == guard.steps and window[0][0] > since
        if full and all(guard.holds(figure, KNOBS) for _, figure in window):
            found.append(tuple(step for step, _ in window))
            since = window[-1][0] + guard.cooldown
    return found


@given(rules(), FIGURES)
def test_a_rule_fires_when_it_has_held_in_a_row_and_then_rests(
    guard: Guard, figures: list[float | None]
) -> None:
    fired = played(Guards(spec(guard), "run"), figures)
    assert [firing.steps for firing in fired] == expected(guard, figures)
    for firing in fired:
        shown = [figures[step - 1] for step in firing.steps]
        assert repr(list(firing.figures)) == repr(shown)
        json.dumps(firing.data, allow_nan=False)
        assert firing.steps[-1] == firing.data["steps"][-1]
        assert f"{guard.condition}" in firing.text


@given(st.lists(rules(), min_size=1, max_size=3), FIGURES, st.data())
def test_the_saved_state_is_all_that_a_rule_needs_to_go_on(
    guards: list[Guard], figures: list[float | None], data: st.DataObject
) -> None:
    undisturbed = played(Guards(spec(*guards), "run"), figures)
    cut = data.draw(st.integers(0, len(figures)))
    before, after = Guards(spec(*guards), "run"), Guards(spec(*guards), "run")
    fired = played(before, figures[:cut])
    after.load(json.loads(json.dumps(before.state())))
    fired += played(after, figures[cut:], cut + 1)
    assert repr(fired) == repr(undisturbed)


@given(st.floats(0, 10), st.floats(0.01, 1000), st.sampled_from(["kl_coef", "clip", "kl_target"]))
def test_a_scaled_knob_stays_a_value_that_a_person_could_set(
    start: float, factor: float, name: str
) -> None:
    if factor == 1 or (name != "kl_coef" and start == 0):
        return
    guard = Guard(
        metric="kl", above=1, steps=1, mode="act", action="scale", knob=name, factor=factor
    )
    (firing,) = Guards(spec(guard), "run").judge(1, {"kl": 2.0}, KNOBS, KNOBS | {name: start})
    knob = find_knob(PpoSpec, name)
    assert firing.new is not None
    assert knob.parse(firing.new) == firing.new
    moved = knob_moves([firing])
    assert moved == ({name: firing.new} if firing.new != start else {})


def test_rules_on_one_knob_follow_each_other_and_the_last_step_turns_nothing() -> None:
    up = {"metric": "kl", "above": 1, "steps": 1, "action": "scale", "knob": "kl_coef"}
    guards = [Guard(mode="act", factor=f, **up) for f in (2.0, 3.0)]
    advising = Guard(mode="advise", factor=7.0, **up)
    fired = Guards(spec(*guards, advising), "run").judge(4, {"kl": 2.0}, KNOBS, KNOBS)
    assert [(f.old, f.new, f.acts) for f in fired] == [
        (0.01, 0.02, True),
        (0.02, 0.06, True),
        (0.06, 0.42, False),
    ]
    assert knob_moves(fired) == {"kl_coef": 0.06}
    assert "advises: kl_coef 0.06 → 0.42 (workbench set run kl_coef 0.42)" in fired[2].text
    at_the_end = Guards(spec(*guards), "run").judge(4, {"kl": 2.0}, KNOBS, KNOBS, last=True)
    assert knob_moves(at_the_end) == {}
    assert [firing.acts for firing in at_the_end] == [False, False]
    assert "too late for kl_coef 0.01 → 0.02" in at_the_end[0].text
    back = Guard(metric="kl", above=1, steps=1, mode="act", action="rollback")
    assert Guards(spec(back), "run").judge(4, {"kl": 2.0}, KNOBS, KNOBS, last=True)[0].acts


def test_a_rule_acts_only_after_the_step_that_it_names_and_never_when_off() -> None:
    about = {"metric": "kl", "above": 1, "steps": 1, "cooldown": 0, "action": "pause"}
    fired = played(Guards(spec(Guard(mode="act", act_after=2, **about)), "run"), [2.0] * 4)
    assert [firing.acts for firing in fired] == [False, False, True, True]
    assert not played(Guards(spec(Guard(mode="off", **about)), "run"), [2.0] * 4)


def test_state_of_a_rule_that_was_changed_is_not_taken_for_the_new_one() -> None:
    about = {"metric": "kl", "steps": 3, "mode": "act", "action": "pause"}
    before = Guards(spec(Guard(above=1, **about)), "run")
    played(before, [2.0, 2.0])
    other, acting = Guards(spec(Guard(above=1.5, **about)), "run"), dict(about, mode="advise")
    other.load(before.state())
    assert not played(other, [2.0], 3)
    same = Guards(spec(Guard(above=1, **acting)), "run")
    same.load(before.state())
    assert [firing.steps for firing in played(same, [2.0], 3)] == [(1, 2, 3)]


@given(st.floats(allow_nan=True), st.floats(-5, 5), st.floats(-5, 5))
def test_a_word_gets_worse_in_one_direction_only(figure: float, watch: float, bad: float) -> None:
    if watch == bad:
        return
    said = word([watch, bad], figure)
    if not math.isfinite(figure):
        assert said == "bad"
        return
    sign = 1 if bad > watch else -1
    order = ["ok", "watch", "bad"]
    assert order.index(word([watch, bad], figure + sign)) >= order.index(said)
    assert word([watch, bad], watch) == "ok"
    assert word([watch, bad], bad) == "watch"
    assert word([], figure) == ""
