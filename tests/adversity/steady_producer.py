"""A program that produces all the time, with librdkafka, and keeps what it was told."""

from __future__ import annotations

import threading
from collections.abc import Callable

from confluent_kafka import KafkaError, Message, Producer

WAIT_S = 20.0


class SteadyProducer:
    """Sends numbered values of `size` bytes to partition 0 until it is stopped, `window` of them open at a time. Use as
    a context manager; at its end everything is acknowledged, or the test fails."""

    def __init__(self, bootstrap: str, topic: str, *, idempotent: bool = True, size: int = 10_000, window: int = 50):
        self.topic = topic
        self.size = size
        self.window = window
        self.acknowledged: dict[int, bytes] = {}
        """Value by offset."""
        self.errors: list[str] = []
        self.sent = 0
        self._changed = threading.Condition()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="steady-producer")
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": idempotent,
                "acks": "all",
                "linger.ms": 1,
                "log_level": 0,
            }
        )

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        with self._changed:
            if error is not None:
                self.errors.append(str(error))
            else:
                offset, value = message.offset(), message.value()
                assert offset is not None and isinstance(value, bytes)
                if offset in self.acknowledged:
                    self.errors.append(f"two values at offset {offset}")
                self.acknowledged[offset] = value
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._stop:
            if len(self._producer) >= self.window:
                self._producer.poll(0.1)
                continue
            self._producer.produce(
                self.topic, b"%09d" % self.sent + bytes(self.size - 9), partition=0, on_delivery=self._delivered
            )
            self.sent += 1
            self._producer.poll(0)

    def __enter__(self) -> SteadyProducer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop = True
        self._thread.join()
        left = self._producer.flush(WAIT_S)
        if kind is None:
            assert (left, self.errors) == (0, [])
            assert len(self.acknowledged) == self.sent

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until something holds that acknowledgements change."""
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_S), (self.sent, len(self.acknowledged), self.errors)

    def wait_for_more(self, count: int) -> None:
        """Until so many more are acknowledged."""
        goal = len(self.acknowledged) + count
        self.wait_for(lambda: len(self.acknowledged) >= goal)
