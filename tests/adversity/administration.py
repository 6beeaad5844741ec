"""Topics that are made, deleted, made again, grown, configured and emptied, over kills: what of it must be true?

Role: an `Administrator` does one thing after the other to a few topics of its own, and keeps a `State` of each: what
must be true once it was acknowledged. Where a kill came between, both the state before and the one after may be; which
it is, is looked up when the broker is back, and everything else of each topic with it. What is not so is an anomaly.

It also is a producer, idempotent, that does what a producer must after a lost connection: it sends its last batch
again, which must be there once, also where its records have been deleted. And it asks for what must be refused.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from odradek.errors import ErrorCode
from odradek.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from odradek.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from tests.adversity import topic_requests
from tests.adversity.topic_requests import Described
from tests.raw_client import Closed, RawClient, batch, records_of

NAMES = tuple(f"administered-{number}" for number in range(4))
INTERNAL = ("__consumer_offsets", "__transaction_state", "__cluster_metadata")
RETENTION = "retention.ms"
PARTITIONS_MAX = 6
RECORDS_A_BATCH = 3
EARLIEST, LATEST = -2, -1
AGAIN_S = 0.02
ANOMALIES_MAX = 10


@dataclass(frozen=True)
class State:
    """What must be true of a topic. `values` are those of partition 0, by offset."""

    partitions: int = 0
    """0 for a topic that does not exist."""
    topic_id: bytes = b""
    """Empty where the answer with it was lost."""
    retention: str = ""
    start: int = 0
    end: int = 0
    values: dict[int, bytes] = field(default_factory=dict)

    def differs(self, other: State) -> str:
        """How what was found (`other`) is not this; empty where it is."""
        if self.partitions != other.partitions:
            return f"{other.partitions} partitions, not {self.partitions}"
        if not self.partitions:
            return ""
        if self.topic_id and self.topic_id != other.topic_id:
            return "another topic's id"
        if self.retention != other.retention:
            return f"{RETENTION} is {other.retention!r}, not {self.retention!r}"
        if (self.start, self.end) != (other.start, other.end):
            return f"offsets {other.start} to {other.end}, not {self.start} to {self.end}"
        if self.values != other.values:
            return f"values {other.values}, not {self.values}"
        return ""


ABSENT = State()


@dataclass
class Batch:
    """What the producer of a topic sent last."""

    producer_id: int
    sequence: int
    values: tuple[bytes, ...]
    offset: int = -1
    """-1 while it is not acknowledged."""

    def data(self) -> bytes:
        return batch(*self.values, producer_id=self.producer_id, producer_epoch=0, base_sequence=self.sequence)


class Administrator:
    """A context manager: it goes on in a thread of its own until its end."""

    def __init__(self, port: Callable[[], int], chance: random.Random) -> None:
        self.port = port
        self.chance = chance
        self.states: dict[str, State] = dict.fromkeys(NAMES, ABSENT)
        self.batches: dict[str, Batch] = {}
        self.anomalies: list[str] = []
        self.done = 0
        self._doubt: tuple[str, str, State] | None = None
        """What was asked and not answered: of which topic, what, and what is true if it was done."""
        self._number = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="administrator")

    def __enter__(self) -> Administrator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set() and len(self.anomalies) < ANOMALIES_MAX:
            try:
                with RawClient(self.port()) as client:
                    self.look(client)
                    while not self._stop.is_set() and len(self.anomalies) < ANOMALIES_MAX:
                        self._step(client)
            except (Closed, OSError):
                self._stop.wait(AGAIN_S)

    # --- what is done --------------------------------------------------------------------------------------------

    def _step(self, client: RawClient) -> None:
        name = self.chance.choice(NAMES)
        state = self.states[name]
        self.done += 1
        if not state.partitions:
            self._create(client, name)
            return
        weighed = [
            (6, self._produce),
            (2, self._grow),
            (2, self._configure),
            (3, self._delete_records),
            (2, self._delete),
            (1, self._ask_too_much),
        ]
        (step,) = self.chance.choices([step for _, step in weighed], [weight for weight, _ in weighed])
        step(client, name, state)

    def _ask(self, name: str, what: str, after: State, request: Callable[[], int]) -> bool:
        """Whether it was done."""
        self._doubt = (name, what, after)
        code = request()
        self._doubt = None
        if code:
            self.anomalies.append(f"{name}: {what} was refused with {ErrorCode(code).name}")
            return False
        self.states[name] = after
        return True

    def _create(self, client: RawClient, name: str) -> None:
        retention = self.chance.choice(("", "86400000", "777600000"))
        after = State(self.chance.randrange(1, 4), retention=retention)
        self.batches.pop(name, None)
        configs = {RETENTION: retention} if retention else {}
        if self._ask(name, "a creation", after, lambda: topic_requests.create(client, name, after.partitions, configs)):
            found = topic_requests.described(client).get(name)
            if found is None:
                self.anomalies.append(f"{name}: it was made, and is not there")
            else:
                self.states[name] = replace(after, topic_id=found.topic_id)

    def _produce(self, client: RawClient, name: str, state: State) -> None:
        last = self.batches.get(name)
        if last is None:
            answer = client.call(
                InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000), InitProducerIdResponse, 4
            )
            if answer.error_code:
                self.anomalies.append(f"a producer id was refused with {answer.error_code}")
                return
            producer_id, sequence = answer.producer_id, 0
        else:
            producer_id, sequence = last.producer_id, last.sequence + len(last.values)
        values = []
        for _ in range(self.chance.randrange(1, RECORDS_A_BATCH + 1)):
            self._number += 1
            values.append(b"%08d" % self._number)
        self.batches[name] = Batch(producer_id, sequence, tuple(values))
        self._send(client, name)

    def _send(self, client: RawClient, name: str) -> None:
        """Sends the last batch, perhaps again."""
        sent, state = self.batches[name], self.states[name]
        answer = client.produce(name, sent.data())
        if sent.offset >= 0 and answer.error_code == ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            return
        if answer.error_code:
            self.anomalies.append(
                f"{name}: the batch of sequence {sent.sequence} was refused with {ErrorCode(answer.error_code).name}; "
                f"the log goes from {state.start} to {state.end}"
            )
            del self.batches[name]  # another producer goes on
        elif sent.offset >= 0:
            if answer.base_offset != sent.offset:
                self.anomalies.append(
                    f"{name}: the batch at offset {sent.offset} was sent again, and is at {answer.base_offset}, too; "
                    f"the log begins at {state.start}"
                )
                self._take_over(client, name)
        elif answer.base_offset != state.end:
            self.anomalies.append(f"{name}: a batch is at offset {answer.base_offset}, the log ended at {state.end}")
            self._take_over(client, name)
        else:
            sent.offset = state.end
            values = {state.end + number: value for number, value in enumerate(sent.values)}
            self.states[name] = replace(state, end=state.end + len(values), values={**state.values, **values})

    def _take_over(self, client: RawClient, name: str) -> None:
        """What is there counts from now on: one loss is told once."""
        found = self._found(client, name, topic_requests.described(client).get(name))
        self.states[name] = found
        self.batches.pop(name, None)

    def _grow(self, client: RawClient, name: str, state: State) -> None:
        if state.partitions < PARTITIONS_MAX:
            after = replace(state, partitions=state.partitions + 1)
            self._ask(name, "a growth", after, lambda: topic_requests.grow(client, name, after.partitions))

    def _configure(self, client: RawClient, name: str, state: State) -> None:
        after = replace(state, retention=str(self.chance.randrange(1, 100) * 86_400_000))
        self._ask(name, "a setting", after, lambda: topic_requests.configure(client, name, RETENTION, after.retention))

    def _delete_records(self, client: RawClient, name: str, state: State) -> None:
        start = self.chance.choice((state.end, self.chance.randint(state.start, state.end)))
        kept = {offset: value for offset, value in state.values.items() if offset >= start}
        after = replace(state, start=start, values=kept)
        self._ask(
            name, f"deleting records to {start}", after, lambda: topic_requests.delete_records(client, name, start)
        )

    def _delete(self, client: RawClient, name: str, state: State) -> None:
        self.batches.pop(name, None)
        self._ask(name, "a deletion", ABSENT, lambda: topic_requests.delete(client, name))

    def _ask_too_much(self, client: RawClient, name: str, state: State) -> None:
        """What would take from others what they were promised."""
        topic, partition = self.chance.choice(INTERNAL), self.chance.randrange(2)
        if topic_requests.delete_records(client, topic, LATEST, partition) == 0:
            told = f"records of {topic} could be deleted"
            if told not in self.anomalies:
                self.anomalies.append(told)

    # --- what is there -------------------------------------------------------------------------------------------

    def look(self, client: RawClient) -> None:
        """Compares all topics with what must be true; what was in doubt is known then."""
        there = topic_requests.described(client)
        doubt, self._doubt = self._doubt, None
        for name, state in list(self.states.items()):
            found = self._found(client, name, there.get(name))
            sent = self.batches.get(name)
            if sent is not None and sent.offset < 0 and found.end == state.end + len(sent.values):
                # It had been written: the answer is had by sending it again.
                values = {state.end + number: value for number, value in enumerate(sent.values)}
                state = replace(state, end=found.end, values={**state.values, **values})
                sent.offset = self.states[name].end
            may_be = [state]
            if doubt is not None and doubt[0] == name:
                may_be.append(doubt[2])
            differences = [one.differs(found) for one in may_be]
            if all(differences):
                in_doubt = f" ({doubt[1]} was in doubt)" if len(may_be) > 1 and doubt is not None else ""
                self.anomalies.append(f"{name}: {' or '.join(differences)}{in_doubt}")
            self.states[name] = found
            if not found.partitions:
                self.batches.pop(name, None)
            elif name in self.batches:
                self._send(client, name)
        for name in there.keys() - set(NAMES):
            if name.startswith(NAMES[0][:-1]):
                self.anomalies.append(f"{name}: nobody made it")

    def _found(self, client: RawClient, name: str, described: Described | None) -> State:
        if described is None:
            return ABSENT
        start, end = (_offset(client, name, which) for which in (EARLIEST, LATEST))
        values: dict[int, bytes] = {}
        offset = start
        while offset < end:
            answer = client.fetch(name, offset)
            records = [one for one in records_of(answer.records) if one.offset >= offset]
            if answer.error_code or not records:
                self.anomalies.append(f"{name}: error {answer.error_code} at offset {offset} of {start} to {end}")
                break
            values.update({one.offset: bytes(one.value or b"") for one in records})
            offset = records[-1].offset + 1
        retention = described.configs.get(RETENTION, "")
        return State(described.partitions, described.topic_id, retention, start, end, values)


def _offset(client: RawClient, topic: str, which: int) -> int:
    wanted = ListOffsetsTopic(name=topic, partitions=[ListOffsetsPartition(partition_index=0, timestamp=which)])
    answer = client.call(ListOffsetsRequest(replica_id=-1, topics=[wanted]), ListOffsetsResponse, 7)
    return answer.topics[0].partitions[0].offset
