"""Two files of `benchmarks.micro`, step by step: what the second has gained or lost.

python -m benchmarks.micro.compare BEFORE.json AFTER.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

# The extremes of instructions say how far counts differ, and are not compared.
COMPARED = ("best", "median", "instructions")
# So much more of instructions is a loss: Produce varies by 1 % between two counts.
TOLERATED = 0.02


def print_ratios(before: dict[str, dict[str, float]], after: dict[str, dict[str, float]]) -> int:
    """Prints how the second relate to the first; returns how many steps take more instructions than is tolerated."""
    lost = 0
    for name, found in after.items():
        if name not in before:
            print(f"{name:45} is new")
        for figure in COMPARED:
            if figure in found and figure in before.get(name, {}):
                was, now = before[name][figure], found[figure]
                is_loss = figure == "instructions" and now / was - 1 > TOLERATED
                lost += is_loss
                mark = f"  more than {TOLERATED:.0%} more" if is_loss else ""
                print(f"{name:45} {figure:12} {was:14,.2f} {now:14,.2f} {now / was:8.3f}{mark}")
    return lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    given = parser.parse_args()
    before, after = (json.loads(path.read_text())["steps"] for path in (given.before, given.after))
    if print_ratios(before, after):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
