"""The README's pictures: two PPO runs, then each screen as an SVG.

`python -m tests.screenshots [FOLDER]`; with FOLDER the runs are kept there, and shown again the
next time without training.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rlhf_engine.runs.directory import all_runs
from tests.tui.screen_text import screen_text
from workbench.app import WorkbenchApp
from workbench.themes import DARK

# Beside this program: the folders at the top are those of the two packages, tests and presets.
FOLDER = Path(__file__).parent / "screenshots"
SIZE = (120, 40)
SCREENS = {"monitor": "3", "samples": "4", "compare": "5", "launch": "2"}
# What the form says while it reads a model for the memory that it takes.
WORKS = "reading the model"
# Looks in a row, a quarter of a second apart, at which a screen must be the same.
STILL = 6
# Fonts from a network: a picture in a repository must do with those of whoever looks at it.
FONTS = re.compile(r"@font-face\s*\{[^}]*\}")
RUNS = {
    "steered": ("ppo.kl.coef=0.02", 'changes=[{step = 7, knob = "kl_coef", value = 0.1}]'),
    "strict": ("ppo.kl.coef=0.2",),
}
# A model whose answers can be read, and as little work as shows how they change.
SETTINGS = (
    "policy=builtin:smollm2-135m",
    "reward.score=rule:friendly_short",
    'reward.gold=["rule:brevity"]',
    "threads=2",
    "ppo.steps=14",
    "ppo.batch_size=8",
    "ppo.micro_batch_size=4",
    "ppo.value=shared",
    "ppo.optimizer.lr=5e-4",
    "ppo.sampling.temperature=0.7",
    "ppo.sampling.max_new_tokens=28",
)


def train(home: Path) -> None:
    """Two runs of the preset `smoke` on the demo's model: one whose KL coefficient is raised on the
    way, one with a high one."""
    program = "from workbench.cli import main; main()"
    for name, own in RUNS.items():
        settings = [word for setting in (*SETTINGS, *own) for word in ("--set", setting)]
        words = ["run", "smoke", "--name", name, "--wait", *settings]
        subprocess.run([sys.executable, "-c", program, "--home", str(home), *words], check=True)


async def draw(home: Path) -> None:
    """Open every screen by its key, and keep a picture of it once it stands still."""
    FOLDER.mkdir(exist_ok=True)
    runs = list(all_runs(home))
    steered = next(run for run in runs if run.id.endswith("-steered"))
    app = WorkbenchApp(home, open_run=steered.id)
    for run in runs:
        app.board.add(run)
    async with app.run_test(size=SIZE) as pilot:
        app.theme = DARK.name
        for name, key in SCREENS.items():
            await pilot.press(key)
            before, still = "", 0
            while still < STILL or WORKS in before:
                await pilot.pause(0.25)
                now = screen_text(app)
                still, before = (still + 1 if now == before else 0), now
            picture = FOLDER / f"{name}.svg"
            drawn = app.export_screenshot(title=f"workbench · {name}")
            picture.write_text(FONTS.sub("", drawn), encoding="utf-8")
            print(picture)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(sys.argv[1] if len(sys.argv) > 1 else temporary).resolve()
        # Where runs are by default: no path of this machine in a picture.
        os.environ["XDG_DATA_HOME"] = str(data)
        os.environ.pop("WORKBENCH_HOME", None)
        home = data / "rlhf-workbench"
        if not any(all_runs(home)):
            train(home)
        asyncio.run(draw(home))


if __name__ == "__main__":
    main()
