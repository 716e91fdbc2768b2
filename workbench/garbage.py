"""When Python looks for unreachable cycles: between a person's keys rather than within one.

Left to itself it looks when enough objects were made, which is while a screen is drawn; over a
long run's rows that takes longer than the drawing.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

TIDY_SECONDS = 0.5
# Of so many tidyings one looks through everything, the others through what is new.
TIDYINGS_TO_ALL = 120
# Python looks by itself once so many objects were made since the last tidying.
AT_LATEST = 100_000

_tidyings = count(1)


@contextmanager
def loading() -> Iterator[None]:
    """What is loaded within stays: looking through it, now and later, is work for nothing."""
    gc.disable()
    yield
    gc.freeze()
    gc.set_threshold(AT_LATEST, *gc.get_threshold()[1:])
    gc.enable()


def tidy() -> None:
    """Free what became unreachable; called again and again, every `TIDY_SECONDS`."""
    gc.collect(1 if next(_tidyings) % TIDYINGS_TO_ALL else 2)
