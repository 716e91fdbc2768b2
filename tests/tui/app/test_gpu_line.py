"""The line about the GPUs: what a card does not tell is left out, the rest is shown."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_nvml import FakeNvml
from tests.tui.screen_text import screen_text
from tests.tui.viewer import settle
from workbench.app import WorkbenchApp
from workbench.screens import home_gpus


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    home_gpus._handles.cache_clear()
    yield fake
    home_gpus._handles.cache_clear()


def test_a_card_that_tells_everything_is_described_in_full(nvml: FakeNvml) -> None:
    one = "RTX 4090  6.0/8.0 GiB  97%  71°C  402 W"
    assert home_gpus.gpu_line() == f"GPU 0 {one}   GPU 1 {one}"


@pytest.mark.parametrize(
    ("refused", "left"),
    [
        ("nvmlDeviceGetMemoryInfo", "GPU 0 RTX 4090  97%  71°C  402 W"),
        ("nvmlDeviceGetName", "GPU 0 6.0/8.0 GiB  97%  71°C  402 W"),
        ("nvmlDeviceGetPowerUsage", "GPU 0 RTX 4090  6.0/8.0 GiB  97%  71°C"),
    ],
)
def test_only_the_figure_that_cannot_be_had_is_left_out(
    nvml: FakeNvml, refused: str, left: str
) -> None:
    nvml.refused = {refused}
    assert home_gpus.gpu_line().startswith(left)


def test_a_gpu_that_cannot_be_reached_leaves_the_others(nvml: FakeNvml) -> None:
    nvml.refused = {("nvmlDeviceGetHandleByIndex", 0)}
    assert home_gpus.gpu_line().startswith("GPU 1 RTX 4090")


async def test_the_list_of_runs_outlives_a_gpu_that_falls_silent(
    several: Path, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.screens.home.gpu_line", home_gpus.gpu_line)
    monkeypatch.setattr("workbench.screens.home.REFRESH_SECONDS", 0.05)
    nvml.refused = {"nvmlDeviceGetMemoryInfo"}
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        for _ in range(20):
            await settle(pilot)
            if "97%" in screen_text(app):
                break
        assert "97%" in screen_text(app)
        assert "no-memory" in screen_text(app)
