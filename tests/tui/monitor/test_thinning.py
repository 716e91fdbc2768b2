"""Many values in few columns: what the blocks of a long line save may not change a picture."""

from hypothesis import given
from hypothesis import strategies as st

from workbench.widgets.thinning import BLOCK, Columns, Ends

VALUES = st.floats(-1e6, 1e6) | st.sampled_from([float("nan"), float("inf"), -1e300])


@given(
    tame=st.lists(st.floats(-1e6, 1e6), max_size=400),
    wild=st.lists(VALUES, max_size=40),
    cuts=st.lists(st.integers(0, 440), max_size=4),
    window=st.tuples(st.integers(0, 440), st.integers(0, 440)),
    columns=st.integers(7, 12),
)
def test_a_line_with_blocks_is_thinned_as_one_without(
    tame: list[float],
    wild: list[float],
    cuts: list[int],
    window: tuple[int, int],
    columns: int,
) -> None:
    values, ends = tame + wild, Ends()
    for cut in sorted(cuts):
        ends.extend(values[:cut])
    xs, (low, high) = list(range(len(values))), sorted(window)
    expected = Columns(low, high, columns).thin(xs, values)
    cut = Columns(low, high, columns)
    for line, of in ((values, ends.extend(values)), (values, None), (values, ends)):
        assert repr(cut.thin(xs, line, of)) == repr(expected)


@given(at=st.integers(0, 4_999), columns=st.integers(1, 70), extra=st.integers(0, 40))
def test_in_a_long_line_a_spike_stays_within_a_block_of_its_column(
    at: int, columns: int, extra: int
) -> None:
    values = [float(step % 7) for step in range(5_000 + extra)]
    values[at] = 99.0
    end = len(values) - 1
    cut = Columns(0, end, columns)
    xs, ys = cut.thin(range(len(values)), values, Ends().extend(values))
    assert ys.count(99.0) == 1
    assert abs(xs[ys.index(99.0)] - at) <= end / columns / 2 + BLOCK


def test_ends_look_once_at_each_value() -> None:
    class Counting(list[float]):
        seen = 0

        def __getitem__(self, at):  # type: ignore[no-untyped-def]
            found = super().__getitem__(at)
            Counting.seen += len(found) if isinstance(at, slice) else 1
            return found

    values, ends = Counting(), Ends()
    for step in range(1_000):
        values.append(float(step))
        ends.extend(values)
    assert Counting.seen <= 1_000
