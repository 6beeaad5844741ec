"""What the model of administration holds against a broker."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.adversity import topic_requests
from tests.adversity.administration import ABSENT, NAMES, Administrator, State
from tests.raw_client import RawClient, batch
from tests.serving import Serving

NAME = NAMES[0]
HELD = State(2, b"i" * 16, "1000", 3, 5, {3: b"x", 4: b"y"})


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (HELD, ""),
        (ABSENT, "0 partitions, not 2"),
        (replace(HELD, partitions=3), "3 partitions, not 2"),
        (replace(HELD, topic_id=b"j" * 16), "another topic's id"),
        (replace(HELD, retention=""), "retention.ms is '', not '1000'"),
        (replace(HELD, start=4), "offsets 4 to 5, not 3 to 5"),
        (replace(HELD, end=4), "offsets 3 to 4, not 3 to 5"),
        (replace(HELD, values={3: b"x", 4: b"z"}), "values"),
    ],
)
def test_what_differs(found: State, told: str) -> None:
    assert (told in HELD.differs(found)) if told else HELD.differs(found) == ""


def test_what_somebody_else_did_is_an_anomaly() -> None:
    with Serving() as serving, RawClient(serving.port) as client:
        administrator = Administrator(lambda: serving.port, random.Random(1))
        administrator._create(client, NAME)
        administrator._produce(client, NAME, administrator.states[NAME])
        administrator.look(client)
        assert administrator.anomalies == []
        state = administrator.states[NAME]
        assert client.produce(NAME, batch(b"of somebody else")).error_code == 0
        administrator.look(client)
        assert administrator.anomalies == [f"{NAME}: offsets 0 to {state.end + 1}, not 0 to {state.end}"]
        assert topic_requests.delete(client, NAME) == 0
        administrator.look(client)
        assert administrator.anomalies[1] == f"{NAME}: 0 partitions, not {state.partitions}"


@pytest.mark.parametrize("was_done", [True, False])
def test_what_was_in_doubt_may_be_either(was_done: bool) -> None:
    with Serving() as serving, RawClient(serving.port) as client:
        administrator = Administrator(lambda: serving.port, random.Random(1))
        administrator._create(client, NAME)
        state = administrator.states[NAME]
        after = replace(state, partitions=state.partitions + 1)
        administrator._doubt = (NAME, "a growth", after)
        if was_done:
            assert topic_requests.grow(client, NAME, after.partitions) == 0
        administrator.look(client)
        assert administrator.anomalies == []
        assert administrator.states[NAME] == (after if was_done else state)
        assert administrator._doubt is None
