"""Print the sizes of the product's files and refuse those that have grown too long."""

import statistics
import sys
from pathlib import Path

LONGEST = 500
MEDIAN = 150


def main() -> int:
    root = Path(__file__).parents[1]
    sizes = {
        path: len(path.read_text(encoding="utf-8").splitlines())
        for package in ("rlhf_engine", "workbench")
        for path in (root / package).rglob("*.py")
    }
    lengths = sorted(size for size in sizes.values() if size)
    median, p90 = statistics.median(lengths), lengths[int(0.9 * len(lengths))]
    print(f"{len(lengths)} files, {sum(lengths)} lines: median {median:.0f}, p90 {p90}")
    for path, size in sorted(sizes.items(), key=lambda item: -item[1])[:5]:
        print(f"  {size:4d} {path.relative_to(root)}")
    too_long = [path for path, size in sizes.items() if size > LONGEST]
    if too_long or median > MEDIAN:
        print(f"over the bar: longest {LONGEST}, median {MEDIAN}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
