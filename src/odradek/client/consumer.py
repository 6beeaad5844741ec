"""A consumer without a group: fetches from partition leaders, checks and parses batches, and keeps positions.

Role: read given partitions of one topic from given offsets. The caller finds the offsets to begin at.

Invariants: the records of a partition come in offset order and once each. A batch with a wrong checksum or malformed
records raises an error that names it, and is never skipped silently. A fetch waits at most `MAX_WAIT_MS` at each
broker, at all brokers concurrently; without a response for the client's timeout, reading fails. Memory is bounded by
one fetch a broker and one decompressed batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from crc32c import crc32c

from odradek.client.cluster import EARLIEST, LATEST, Client
from odradek.client.connection import BrokerConnection
from odradek.client.deadline import Deadline
from odradek.client.error_codes import RETRIED, sentence
from odradek.client.failures import ClientFailed, ConnectionLost
from odradek.errors import ErrorCode
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData
from odradek.records.batch import BatchHeader, split_batches
from odradek.records.iteration import MalformedRecords, Record, iterate

MAX_WAIT_MS = 500
FETCH_BYTES = 33_554_432
PARTITION_BYTES = 4_194_304
# Versions from 13 on name topics by id; with names the same request serves older brokers.
_FETCH_BY_NAME = 12
_CRC_START = 21
_MAGIC = 2
_NO_END = 2**63 - 1

FoundRecord = tuple[int, BatchHeader, Record]


class Consumer:
    """Reads partitions of a topic. `positions` are the next offsets. With `ends`, records at or above a partition's end
    are not returned, and the partition is done when it reaches its end."""

    def __init__(
        self,
        client: Client,
        topic: str,
        positions: Mapping[int, int],
        ends: Mapping[int, int] | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._client = client
        self._topic = topic
        self._positions = dict(positions)
        self._reached: dict[int, int] = {}
        self._ends = ends
        self._note = note
        self._deadline: Deadline | None = None
        self._finish_reached()

    def _finish_reached(self) -> None:
        if self._ends is not None:
            self._reached |= {p: offset for p, offset in self._positions.items() if offset >= self._ends[p]}
            self._positions = {p: offset for p, offset in self._positions.items() if offset < self._ends[p]}

    @property
    def is_done(self) -> bool:
        """Whether every partition has been read to its end."""
        return not self._positions

    @property
    def positions(self) -> dict[int, int]:
        """The next offset of each partition: the one after the last record returned, or control batch skipped."""
        return {**self._reached, **self._positions}

    def poll(self) -> Iterator[FoundRecord]:
        """Fetches once from every leader; yields the records with their partition and batch header, or none where
        nothing came in time. Raises `ClientFailed`."""
        asked: list[BrokerConnection] = []
        by_leader: dict[int, list[int]] = {}
        for partition in self._positions:
            by_leader.setdefault(self._client.leader(self._topic, partition), []).append(partition)
        failure = ""
        cause: ConnectionLost | None = None
        for node_id, partitions in by_leader.items():
            try:
                connection = self._client.connection(node_id)
                connection.start(self._request(partitions), FetchResponse, _FETCH_BY_NAME)
                asked.append(connection)
            except ConnectionLost as error:
                failure, cause = str(error), error
        answers: list[PartitionData] = []
        for connection in asked:
            try:
                response: FetchResponse = connection.finish()
            except ConnectionLost as error:
                self._client.drop(connection)
                failure, cause = str(error), error
                continue
            if response.error_code:
                failure = sentence(response.error_code)
            for topic in response.responses:
                answers += topic.partitions
        for answer in answers:
            if answer.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
                self._back_in_range(answer.partition_index)
            elif answer.error_code in RETRIED:
                failure = sentence(answer.error_code)
            elif answer.error_code:
                raise ClientFailed(
                    f"cannot read {self._topic}-{answer.partition_index}: {sentence(answer.error_code)}."
                )
            else:
                yield from self._records(answer)
        self._finish_reached()
        if failure:
            self._recover(failure, cause)
        else:
            self._deadline = None

    def _request(self, partitions: list[int]) -> FetchRequest:
        # The broker fills its response in the requested order, so the order rotates from fetch to fetch.
        first = partitions[0]
        self._positions[first] = self._positions.pop(first)
        return FetchRequest(
            max_wait_ms=MAX_WAIT_MS,
            min_bytes=1,
            max_bytes=FETCH_BYTES,
            topics=[
                FetchTopic(
                    topic=self._topic,
                    partitions=[
                        FetchPartition(
                            partition=p, fetch_offset=self._positions[p], partition_max_bytes=PARTITION_BYTES
                        )
                        for p in partitions
                    ],
                )
            ],
        )

    def _records(self, answer: PartitionData) -> Iterator[FoundRecord]:
        partition = answer.partition_index
        if not answer.records:
            return
        before = position = self._positions[partition]
        end = _NO_END if self._ends is None else self._ends[partition]
        for header, data in split_batches(cast(memoryview, answer.records)):
            where = f"{self._topic}-{partition} at offset {header.base_offset}"
            if header.magic != _MAGIC:
                raise ClientFailed(f"{where}: a message of the old format {header.magic}, which is not read.")
            if crc32c(data[_CRC_START:]) != header.crc:
                raise ClientFailed(f"{where}: the batch's checksum does not match its bytes.")
            if header.last_offset < position:
                continue
            if not header.is_control:
                try:
                    for record in iterate(header, data):
                        if record.offset >= end:
                            break
                        if record.offset >= position:
                            # Updated before the yield: a caller that stops here and polls again gets no record twice.
                            self._positions[partition] = record.offset + 1
                            yield partition, header, record
                except MalformedRecords as error:
                    raise ClientFailed(f"{where}: {error}.") from None
            position = self._positions[partition] = min(header.next_offset, end)
            if position == end:
                return
        if position == before:
            raise ClientFailed(f"{self._topic}-{partition} at offset {before}: the broker sent no whole batch.")

    def _back_in_range(self, partition: int) -> None:
        position = self._positions[partition]
        first = self._client.offsets(self._topic, {partition: EARLIEST})[partition]
        if position >= first:
            end = self._client.offsets(self._topic, {partition: LATEST})[partition]
            raise ClientFailed(f"{self._topic}-{partition} ends at offset {end}, before {position}.")
        self._note(f"{self._topic}-{partition} begins at offset {first} now; {position} to {first - 1} are gone.")
        self._positions[partition] = first

    def _recover(self, failure: str, cause: ConnectionLost | None) -> None:
        if self._deadline is None:
            self._deadline = Deadline(self._client.timeout_s)
        if not self._deadline.pause():
            raise ClientFailed(f"gave up after {self._client.timeout_s:g} s: {failure.rstrip('.')}.") from cause
        with contextlib.suppress(ConnectionLost):  # the next attempt meets the failure again, and reports it
            self._client.metadata([self._topic])
