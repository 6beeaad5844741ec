"""Two files of `benchmarks.micro`, step by step: what the second has gained or lost.

python -m benchmarks.micro.compare BEFORE.json AFTER.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    given = parser.parse_args()
    before, after = (json.loads(path.read_text()) for path in (given.before, given.after))
    for name in before:
        for figure in before[name]:
            if figure in after.get(name, {}):
                was, now = before[name][figure], after[name][figure]
                print(f"{name:45} {figure:12} {was:14,.2f} {now:14,.2f} {now / was - 1:+8.1%}")


if __name__ == "__main__":
    main()
