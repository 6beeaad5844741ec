"""The story of the slow consumer, as its README tells it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

STORY = Path(__file__).parent.parent / "examples" / "slow_consumer" / "story.py"


def test_a_loss_is_foretold_told_and_prevented_and_a_group_gets_advice() -> None:
    done = subprocess.run([sys.executable, str(STORY)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert re.search(r"billing on orders will lose at .*, retention.ms takes them in \d+ min at these rates", said)
    assert re.search(r"billing on orders has lost \d+ records?: offsets \d+ to \d+ were deleted unread", said)
    warned = re.search(r"the warning came (\d+) minutes before the loss", said)
    assert warned is not None and int(warned[1]) >= 2
    assert re.search(r"orders: \d+ of \d+ records were gone when billing came to them", said)
    assert "payments: the guard kept them" in said and "billing on payments has lost" not in said
    assert re.search(r"advice: partition 0 of parcels carries \d+% of the bytes: more members will not help", said)
    assert "advice: 3 partitions over 2 members: one carries 2; 3 members would be even" in said
