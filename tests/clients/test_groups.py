"""Consumer groups with every client: rebalances, commits, restarts, static members, and two libraries in one group."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer

from tests.broker import BrokerProcess
from tests.clients.driver import ClientError, Driver, Feature
from tests.clients.driver import Member as Described
from tests.clients.every import case, every_assignor, every_client, every_member, every_pair
from tests.clients.member import WAIT_S, GroupMember, Read

PARTITIONS = 6
# Long enough for a loaded machine; a killed member is missed after this.
SESSION_TIMEOUT_MS = 3_000
# Longer than any restart of a member or of the broker takes.
LONG_SESSION_TIMEOUT_MS = 30_000
# Between two rounds of records that flow.
PACE_S = 0.02


@pytest.fixture(scope="module")
def group_broker(
    tmp_path_factory: pytest.TempPathFactory, broker_class: type[BrokerProcess]
) -> Iterator[BrokerProcess]:
    """A broker whose groups may have short sessions, and which the tests restart."""
    with broker_class(tmp_path_factory.mktemp("groups"), "group.min.session.timeout.ms=100") as running:
        yield running


class Written:
    """What is written: the value of each record says where it must be."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.count = 0
        """Records in each partition."""
        self._producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0, "linger.ms": 0})

    def write(self, rounds: int) -> None:
        """So many records to each partition."""
        for index in range(self.count, self.count + rounds):
            for partition in range(PARTITIONS):
                self._producer.produce(self.topic, f"{partition}:{index}", partition=partition)
        assert self._producer.flush(WAIT_S) == 0
        self.count += rounds

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Writes on and on, until the block ends."""
        ended = threading.Event()

        def flow() -> None:
            while not ended.wait(PACE_S):
                self.write(2)

        thread = threading.Thread(target=flow)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @property
    def ends(self) -> dict[int, int]:
        return dict.fromkeys(range(PARTITIONS), self.count)


class Group:
    """One group, its members, and what they have read."""

    def __init__(self, broker: BrokerProcess, topic: str, written: Written) -> None:
        self.broker = broker
        self.name = topic
        self.topic = topic
        self.written = written
        self.members: list[GroupMember] = []
        self._changed = threading.Condition()

    def join(
        self,
        driver: Driver,
        assignor: str | None = None,
        *,
        instance_id: str | None = None,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
    ) -> GroupMember:
        """Starts a member. One that cannot commit on command commits by itself."""
        orders = {
            "bootstrap": self.broker.bootstrap,
            "group": self.name,
            "topic": self.topic,
            "assignor": assignor or driver.assignors[0],
            "client_id": f"{driver.name}-{len(self.members)}",
            "session_timeout_ms": session_timeout_ms,
            "instance_id": instance_id,
            "auto_commit": Feature.COMMITS_ON_COMMAND not in driver.features,
        }
        self.members.append(GroupMember.start(driver.member_command(), orders, self._changed))
        return self.members[-1]

    def close(self) -> None:
        for member in self.members:
            member.close()

    # --- waiting ---------------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[GroupMember]:
        return [member for member in self.members if member.exit_code is None]

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        with self._changed:
            met = self._changed.wait_for(condition, WAIT_S)
        assert met, f"not {what}; {self.written.count} records a partition\n" + "\n".join(map(str, self.members))

    def wait_shared(self) -> None:
        """Waits until the members have the same number of partitions each, together all."""

        def shared() -> bool:
            owned = [member.owned for member in self.running]
            return set().union(*owned) == set(range(PARTITIONS)) and {len(one) for one in owned} == {
                PARTITIONS // len(owned)
            }

        self.wait("shared", shared)

    def wait_reading(self) -> None:
        """Waits until something has come, from now on, of each partition to who owns it."""
        before = {id(member): len(member.received) for member in self.running}

        def reading() -> bool:
            return all(
                {one.partition for one in member.received[before[id(member)] :]} >= member.owned
                for member in self.running
            )

        self.wait("reading", reading)

    def wait_read(self) -> None:
        """Waits until the owner of each partition has read it to its end."""

        def read() -> bool:
            last = {
                one.partition: one.offset + 1
                for member in self.running
                for one in member.received
                if one.partition in member.owned
            }
            return last == self.written.ends

        self.wait("read to the end", read)


@pytest.fixture
def group(group_broker: BrokerProcess, admin: Driver, topic: str) -> Iterator[Group]:
    admin.create_topic(group_broker.bootstrap, topic, PARTITIONS)
    made = Group(group_broker, topic, Written(group_broker.bootstrap, topic))
    yield made
    made.close()


def commits(driver: Driver) -> bool:
    return Feature.COMMITS_ON_COMMAND in driver.features


def assert_whole(reads: list[Read]) -> None:
    """Each record stands where it was written."""
    assert all(one.value == f"{one.partition}:{one.offset}" for one in reads)


def offsets_read(reads: list[Read], partition: int) -> list[int]:
    return [one.offset for one in reads if one.partition == partition]


# --- consuming -----------------------------------------------------------------------------------------------------


@case("group: rebalance in the middle")
@every_assignor()
def test_a_rebalance_in_the_middle(group: Group, driver: Driver, assignor: str) -> None:
    """A second member comes and leaves while records flow: all are read, and none again that was read and committed."""
    written = group.written
    written.write(10)
    first = group.join(driver, assignor)
    first.wait_assigned(PARTITIONS)
    group.wait_read()
    committed = dict.fromkeys(range(PARTITIONS), 0)
    if commits(driver):
        committed = first.commit()
        assert committed == written.ends

    with written.flowing():
        second = group.join(driver, assignor)
        group.wait_shared()
        group.wait_reading()
    group.wait_read()
    assert_whole(second.received)
    assert all(one.offset >= committed[one.partition] for one in second.received)
    if commits(driver):
        committed = first.commit() | second.commit()
        assert committed == written.ends

    taken, before = second.owned, len(first.received)
    if not commits(driver):
        # kcat throws away what it is handed after the signal to end, but commits it: not while records flow.
        second.leave()
    with written.flowing():
        if commits(driver):
            group.wait_reading()
            second.leave()
        first.wait_assigned(PARTITIONS)
        group.wait_reading()
    group.wait_read()
    assert_whole(first.received)
    for partition in range(PARTITIONS):
        everyone = offsets_read(first.received + second.received, partition)
        if not commits(driver):
            # Committed before each rebalance and at the end: each record once, over all three.
            assert sorted(everyone) == list(range(written.count)), partition
            continue
        assert set(everyone) == set(range(written.count)), partition
        again = offsets_read(first.received[before:], partition)
        assert min(again) >= committed[partition]
        if partition in taken:
            # What the other had read and not committed comes again, from exactly there, once.
            assert again == list(range(committed[partition], written.count))


@case("group: a member killed")
@every_member()
def test_a_member_is_killed(group: Group, driver: Driver) -> None:
    """Its partitions go to the other after the session, from the committed offsets on."""
    written = group.written
    first, second = group.join(driver), group.join(driver)
    group.wait_shared()
    written.write(10)
    group.wait_read()
    committed = dict.fromkeys(range(PARTITIONS), 0)
    if commits(driver):
        committed = first.commit() | second.commit()
        assert committed == written.ends

    taken, before = second.owned, len(first.received)
    with written.flowing():
        group.wait_reading()
        second.kill()
        first.wait_assigned(PARTITIONS)
        group.wait_reading()
    group.wait_read()
    assert_whole(first.received)
    for partition in range(PARTITIONS):
        everyone = offsets_read(first.received + second.received, partition)
        assert set(everyone) == set(range(written.count)), partition
        again = offsets_read(first.received[before:], partition)
        assert min(again) >= committed[partition]
        if partition in taken and commits(driver):
            assert again == list(range(committed[partition], written.count))


@case("group: resumes after a restart of the broker")
@pytest.mark.parametrize("way", ["stop", "kill"])
@every_member()
def test_resume_after_a_restart(group: Group, driver: Driver, way: str) -> None:
    """The broker ends and comes back: a member reads on; a new one begins exactly at what was committed."""
    written, broker = group.written, group.broker
    written.write(10)
    member = group.join(driver, session_timeout_ms=LONG_SESSION_TIMEOUT_MS)
    group.wait_read()
    committed = dict.fromkeys(range(PARTITIONS), 0)
    if commits(driver):
        committed = member.commit()
        assert committed == written.ends
    written.write(10)
    group.wait_read()

    outlives = Feature.OUTLIVES_BROKERS in driver.features
    if not outlives:
        member.leave()
    {"stop": broker.stop, "kill": broker.kill}[way]()
    broker.start()
    if outlives:
        before, rebalances = len(member.received), member.rebalances
        with written.flowing():
            group.wait_reading()
        group.wait_read()
        for partition in range(PARTITIONS):
            assert set(offsets_read(member.received, partition)) == set(range(written.count))
            # It goes on where it was; if the client has had a rebalance, perhaps where it had committed.
            again = offsets_read(member.received[before:], partition)
            firsts = [20] if member.rebalances == rebalances else [20, committed[partition]]
            assert again in [list(range(first, written.count)) for first in firsts]
        member.leave()
    if not commits(driver):
        committed = dict.fromkeys(range(PARTITIONS), 20)
    written.write(10)
    fresh = group.join(driver, session_timeout_ms=LONG_SESSION_TIMEOUT_MS)
    group.wait_read()
    assert_whole(fresh.received)
    for partition in range(PARTITIONS):
        assert offsets_read(fresh.received, partition) == list(range(committed[partition], written.count))


@case("group: static members")
@every_client(Feature.STATIC_MEMBERS)
@pytest.mark.parametrize("way", ["leave", "kill"])
def test_a_static_member_returns(group: Group, driver: Driver, way: str) -> None:
    """One with an instance id restarts within its session: it has its partitions again, the other no rebalance."""
    written = group.written
    first, second = (
        group.join(driver, instance_id=one, session_timeout_ms=LONG_SESSION_TIMEOUT_MS) for one in ("one", "two")
    )
    group.wait_shared()
    written.write(10)
    group.wait_read()
    assert (first.commit() | second.commit() if commits(driver) else written.ends) == written.ends
    owned, rebalances, before = first.owned, second.rebalances, len(second.received)

    {"leave": first.leave, "kill": first.kill}[way]()
    again = group.join(driver, instance_id="one", session_timeout_ms=LONG_SESSION_TIMEOUT_MS)
    assert again.wait_assigned(len(owned)) == owned
    written.write(10)
    group.wait_read()
    assert second.rebalances == rebalances
    assert len(second.received) == before + 10 * len(second.owned)
    if commits(driver):
        assert len(again.received) == 10 * len(owned)


@case("group: static members")
@every_client(Feature.STATIC_MEMBERS)
def test_an_instance_id_is_taken_over(group: Group, driver: Driver) -> None:
    """Two members with one instance id: the newer has the partitions, the older is told, and commits nothing."""
    written = group.written
    older = group.join(driver, instance_id="one", session_timeout_ms=LONG_SESSION_TIMEOUT_MS)
    older.wait_assigned(PARTITIONS)
    newer = group.join(driver, instance_id="one", session_timeout_ms=LONG_SESSION_TIMEOUT_MS)
    newer.wait_assigned(PARTITIONS)
    rebalances = newer.rebalances
    written.write(10)
    if Feature.FENCED_BY_HEARTBEATS not in driver.features:
        # It reads on, as nobody is refused a Fetch.
        older.wait_received(10 * PARTITIONS)
        older.tell("commit")
    group.wait("fenced", lambda: bool(older.errors) or older.exit_code is not None)
    older.close()
    newer.wait_received(10 * PARTITIONS)
    assert (newer.owned, newer.rebalances) == (set(range(PARTITIONS)), rebalances)
    assert len(newer.received) == 10 * PARTITIONS
    assert_whole(newer.received)


@case("group: mixed with another library")
@every_pair()
def test_two_libraries_in_one_group(
    group: Group, drivers: dict[str, Driver], pair: tuple[str, str], assignor: str
) -> None:
    """Both have partitions, each record is read once; when the one that assigned leaves, the other takes over."""
    written = group.written
    first = group.join(drivers[pair[0]], assignor)
    first.wait_assigned(PARTITIONS)
    second = group.join(drivers[pair[1]], assignor)
    group.wait_shared()
    written.write(10)
    group.wait_read()
    everyone = first.received + second.received
    assert_whole(everyone)
    assert sorted((one.partition, one.offset) for one in everyone) == [
        (partition, offset) for partition in range(PARTITIONS) for offset in range(10)
    ]
    for member, name in ((first, pair[0]), (second, pair[1])):
        if commits(drivers[name]):
            assert member.commit() == dict.fromkeys(member.owned, 10)
    kept, before = second.owned, len(second.received)

    first.leave()
    second.wait_assigned(PARTITIONS)
    written.write(10)
    group.wait_read()
    assert_whole(second.received)
    for partition in set(range(PARTITIONS)) - kept:
        assert offsets_read(second.received[before:], partition) == list(range(10, 20))


# --- administration ------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(group: Group, admin: Driver) -> GroupMember:
    """A member of one client for all administrators: it has read and committed ten records of each partition."""
    group.written.write(10)
    member = group.join(admin, "range")
    group.wait_read()
    assert member.commit() == group.written.ends
    return member


@case("groups listed, described")
@every_client(Feature.LIST_GROUPS, Feature.DESCRIBE_GROUPS)
def test_list_and_describe(group: Group, watched: GroupMember, driver: Driver) -> None:
    bootstrap = group.broker.bootstrap
    assert group.name in driver.list_groups(bootstrap)
    everything = frozenset((group.topic, partition) for partition in range(PARTITIONS))
    described = driver.describe_group(bootstrap, group.name)
    assert (described.state, described.assignor) == ("Stable", "range")
    assert described.members == (Described(watched.name, None, everything),)
    watched.leave()
    assert group.name in driver.list_groups(bootstrap)
    described = driver.describe_group(bootstrap, group.name)
    assert (described.state, described.members) == ("Empty", ())
    # As the version of the request has it: a dead group, or an error.
    try:
        assert driver.describe_group(bootstrap, "nobody").state == "Dead"
    except ClientError as error:
        assert error.name == "GROUP_ID_NOT_FOUND"


@case("group offsets read")
@every_client(Feature.GROUP_OFFSETS)
def test_group_offsets(group: Group, watched: GroupMember, driver: Driver) -> None:
    bootstrap, written = group.broker.bootstrap, group.written
    assert driver.group_offsets(bootstrap, group.name, group.topic) == written.ends
    written.write(5)
    group.wait_read()
    assert driver.group_offsets(bootstrap, group.name, group.topic) == dict.fromkeys(range(PARTITIONS), 10)
    watched.commit()
    assert driver.group_offsets(bootstrap, group.name, group.topic) == written.ends
    assert driver.group_offsets(bootstrap, "nobody", group.topic) == {}


@case("group offsets altered")
@every_client(Feature.ALTER_GROUP_OFFSETS)
def test_alter_group_offsets(group: Group, watched: GroupMember, admin: Driver, driver: Driver) -> None:
    bootstrap, wanted = group.broker.bootstrap, {0: 3, 5: 7}
    with pytest.raises(ClientError) as refused:
        driver.alter_group_offsets(bootstrap, group.name, group.topic, wanted)
    # KafkaJS looks at the members before it asks.
    assert refused.value.name == {"kafkajs": "KafkaJSNonRetriableError"}.get(driver.name, "UNKNOWN_MEMBER_ID")
    watched.leave()
    driver.alter_group_offsets(bootstrap, group.name, group.topic, wanted)
    assert admin.group_offsets(bootstrap, group.name, group.topic) == group.written.ends | wanted
    fresh = group.join(admin)
    fresh.wait_received(10)
    assert sorted((one.partition, one.offset) for one in fresh.received) == [
        *((0, offset) for offset in range(3, 10)),
        *((5, offset) for offset in range(7, 10)),
    ]
    # Offsets for a group that nobody has made yet.
    driver.alter_group_offsets(bootstrap, f"{group.name}.new", group.topic, wanted)
    assert admin.group_offsets(bootstrap, f"{group.name}.new", group.topic) == wanted


@case("group offsets deleted")
@every_client(Feature.DELETE_GROUP_OFFSETS)
def test_delete_group_offsets(group: Group, watched: GroupMember, admin: Driver, driver: Driver) -> None:
    bootstrap = group.broker.bootstrap
    with pytest.raises(ClientError) as refused:
        driver.delete_group_offsets(bootstrap, group.name, group.topic, [0, 5])
    assert refused.value.name == "GROUP_SUBSCRIBED_TO_TOPIC"
    watched.leave()
    driver.delete_group_offsets(bootstrap, group.name, group.topic, [0, 5])
    assert admin.group_offsets(bootstrap, group.name, group.topic) == dict.fromkeys(range(1, 5), 10)


@case("groups deleted")
@every_client(Feature.DELETE_GROUPS)
def test_delete_a_group(group: Group, watched: GroupMember, admin: Driver, driver: Driver) -> None:
    bootstrap = group.broker.bootstrap
    with pytest.raises(ClientError) as refused:
        driver.delete_group(bootstrap, group.name)
    assert refused.value.name == "NON_EMPTY_GROUP"
    watched.leave()
    driver.delete_group(bootstrap, group.name)
    assert group.name not in admin.list_groups(bootstrap)
    assert admin.group_offsets(bootstrap, group.name, group.topic) == {}
    with pytest.raises(ClientError) as refused:
        driver.delete_group(bootstrap, group.name)
    assert refused.value.name == "GROUP_ID_NOT_FOUND"
    # A group of that name begins anew.
    fresh = group.join(admin)
    fresh.wait_received(10 * PARTITIONS)
