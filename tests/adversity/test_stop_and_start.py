"""SIGTERM under load, and quick restarts: nothing is lost, what was accepted is answered, clients notice a retry."""

from __future__ import annotations

import threading
from pathlib import Path

from odradek.protocol.messages.produce import ProduceResponse
from tests.adversity.restarts import campaign
from tests.adversity.test_full_disk import read_from
from tests.broker import BrokerProcess
from tests.handlers.txn_peer import TxnPeer
from tests.raw_client import Closed, RawClient, batch, produce_request

PIPELINED = 3_000
VERSION = 9


def test_restarts_are_no_more_than_a_retry() -> None:
    report = campaign(seed=5, count=4)
    assert (report.done, report.losses) == (4, [])


def test_what_was_accepted_is_answered(tmp_path: Path) -> None:
    """A broker is stopped while a client sends without waiting: what is in the log was acknowledged, and no more."""
    with BrokerProcess(tmp_path) as broker:
        with TxnPeer(broker.port, is_kafka=False) as peer:
            peer.make_topics(t=1)
        with RawClient(broker.port) as client:
            sent = threading.Event()

            def send() -> None:
                try:
                    for number in range(PIPELINED):
                        client.send(produce_request("t", batch(b"%d" % number)), VERSION)
                        if number == PIPELINED // 10:
                            sent.set()
                except OSError:
                    pass  # it has stopped
                sent.set()

            sender = threading.Thread(target=send)
            sender.start()
            sent.wait()
            stopper = threading.Thread(target=broker.stop)
            stopper.start()
            answered = 0
            try:
                while answered < PIPELINED:
                    answer = client.receive(ProduceResponse, VERSION)
                    assert answer.responses[0].partition_responses[0].error_code == 0
                    answered += 1
            except (Closed, OSError):
                pass
            stopper.join()
            client.socket.close()
            sender.join()
        broker.start()
        with RawClient(broker.port) as client:
            found = read_from(client, "t", 0)
        assert len(found) == answered > 0
