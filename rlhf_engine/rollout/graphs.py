"""Steps captured as CUDA graphs, one for each shape they run at."""

from collections import Counter
from collections.abc import Callable, Hashable

import torch

# Steps at a new shape that run as they are before one is captured: libraries set themselves up.
WARM_UP = 2


class StepGraphs:
    """Runs a step that changes buffers in place; from the third time on by replaying its graph.

    All graphs share one memory pool: nothing a step allocates outlives the step.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._runs: Counter[Hashable] = Counter()

    def run(self, shape: Hashable, step: Callable[[], None]) -> None:
        """Do `step`, which must launch the same kernels on the same memory for the same shape."""
        if shape not in self._graphs:
            self._runs[shape] += 1
            if self._runs[shape] <= WARM_UP:
                self._aside(step)
                return
            self._graphs[shape] = self._captured(step)
        self._graphs[shape].replay()

    def _aside(self, step: Callable[[], None]) -> None:
        """Run on the stream of the captures: allocations there are not mixed with others."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            step()
        current.wait_stream(self._stream)

    def _captured(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            step()
        return graph
