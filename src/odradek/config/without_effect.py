"""Kafka's settings that do nothing here. They are accepted, stored and described, so that property files and tools work
unchanged.

Each line, with its indented continuation lines, is

    NAME TYPE DEFAULT [BOUNDS] [WHEN IT MAY CHANGE] [=BROKER SETTING] : what it does in Kafka

with `-` for no default, `""` for an empty one, and bounds as `1..`, `1..9` or `one|another`. A broker setting may
change while the broker runs if the line says `per-broker` or `cluster-wide`. A topic's line names after `=` the
broker setting that gives its default, which has no line of its own. Names, types, defaults and bounds are those of
Apache Kafka 4.4, except that this broker has no controller and one data directory. A setting that gets an effect moves
from here to `topic.py` or `broker.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from odradek.config.setting import Kind, Setting, Update, parse_value, table

# Settings of controllers, replicas and the traffic between brokers, which this broker does not have by design.
_FOR_CONTROLLERS_AND_REPLICAS = """
# What this broker is and listens on
authorizer.class.name STRING "" : Class that holds ACLs.
broker.id INT - : The older name of node.id.
broker.rack STRING - : The rack this broker stands in.
controller.listener.names LIST - : Listeners of controllers; none is opened.
early.start.listeners LIST - : Listeners opened before the authorizer is ready.
inter.broker.listener.name STRING - : Listener that brokers use among themselves.
listener.security.protocol.map STRING SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
    per-broker : Protocol of each listener's name.
log.dir LIST - : The older name of log.dirs.
process.roles LIST broker broker|controller : Broker, controller or both.
security.inter.broker.protocol STRING PLAINTEXT PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL :
    Protocol that brokers use among themselves.

# Controllers and their quorum
auto.leader.rebalance.enable BOOLEAN true : Move leaders back to preferred replicas.
background.threads INT 10 1.. cluster-wide : Threads for work done now and then.
broker.heartbeat.interval.ms INT 2000 : How often a broker tells the controller that it lives.
broker.session.timeout.ms INT 9000 : Silence after which the controller fences a broker.
controlled.shutdown.enable BOOLEAN true : Move leaders away before a stop.
controller.quorum.append.linger.ms INT 25 0.. : How long the leader collects records before it writes them.
controller.quorum.auto.join.enable BOOLEAN false : A controller joins the voters by itself.
controller.quorum.bootstrap.servers LIST "" : Where to look for the quorum.
controller.quorum.election.backoff.max.ms INT 1000 0.. : Longest pause between two elections.
controller.quorum.election.timeout.ms INT 1000 0.. : Time without a leader before an election.
controller.quorum.fetch.max.bytes INT 1048576 1.. : Bytes fetched of the metadata log at once.
controller.quorum.fetch.snapshot.max.bytes INT 1048576 1.. : Bytes fetched of a snapshot at once.
controller.quorum.fetch.timeout.ms INT 2000 0.. : Time without a successful fetch before a voter becomes a candidate.
controller.quorum.request.timeout.ms INT 2000 0.. : How long a request inside the quorum may take.
controller.quorum.retry.backoff.ms INT 20 0.. : Pause before a request inside the quorum is tried again.
controller.quorum.voters LIST "" : The voters, as id@host:port.
controller.quota.window.num INT 11 1.. : Samples kept for the quota of changes.
controller.quota.window.size.seconds INT 1 1.. : Length of a sample of the quota of changes.
controller.socket.timeout.ms INT 30000 : Timeout of connections to the controller.
initial.broker.registration.timeout.ms INT 60000 : How long registering may take at the start.
leader.imbalance.check.interval.seconds LONG 300 1.. : How often the controller looks for leaders to move.
metadata.log.dir STRING - : Directory of the metadata log.
metadata.log.segment.bytes INT 1073741824 8388608.. : Bytes of a segment of the metadata log.
metadata.log.segment.ms LONG 604800000 : Age at which a segment of the metadata log is rolled.
metadata.max.idle.interval.ms INT 500 0.. : How often an idle controller writes a record of no meaning.
metadata.max.retention.bytes LONG 104857600 : Bytes of metadata log and snapshots kept.
metadata.max.retention.ms LONG 604800000 : Age at which metadata log and snapshots are deleted.

# Replicas
alter.log.dirs.replication.quota.window.num INT 11 1.. : Samples kept for the quota of moves between directories.
alter.log.dirs.replication.quota.window.size.seconds INT 1 1.. : Length of a sample of the quota of moves.
cordoned.log.dirs LIST "" per-broker : Directories that take no new partitions.
follower.fetch.last.tiered.offset.enable BOOLEAN false cluster-wide :
    A new follower begins after the last offset in tiered storage.
log.dir.failure.timeout.ms LONG 30000 1.. : How long a failed directory may go unreported.
num.replica.alter.log.dirs.threads INT - : Threads that move replicas between directories.
num.replica.fetchers INT 1 1.. cluster-wide : Threads that fetch from each other broker.
replica.fetch.backoff.ms INT 1000 0.. : Pause after a fetch that failed.
replica.fetch.max.bytes INT 1048576 0.. : Bytes a follower fetches of one partition.
replica.fetch.min.bytes INT 1 : Bytes that a follower's fetch waits for.
replica.fetch.response.max.bytes INT 10485760 0.. : Bytes a follower fetches at once.
replica.fetch.wait.max.ms INT 500 : How long a follower's fetch waits for replica.fetch.min.bytes.
replica.high.watermark.checkpoint.interval.ms LONG 5000 : How often high watermarks are written to disk.
replica.lag.time.max.ms LONG 30000 : When a follower that lags leaves the in-sync replicas.
replica.selector.class STRING - : Class that chooses the replica a consumer reads from.
replica.socket.receive.buffer.bytes INT 65536 : Receive buffer of a follower's connection.
replica.socket.timeout.ms INT 30000 : Timeout of a follower's connection.
replication.quota.window.num INT 11 1.. : Samples kept for the quota of replication.
replication.quota.window.size.seconds INT 1 1.. : Length of a sample of the quota of replication.
sasl.mechanism.controller.protocol STRING GSSAPI : SASL mechanism towards controllers.
sasl.mechanism.inter.broker.protocol STRING GSSAPI per-broker : SASL mechanism between brokers.
"""

# Settings of parts of Kafka that this broker lacks, or implements in a way that needs no such setting.
_OF_OTHER_PARTS = """
# Network and threads
connection.failed.authentication.delay.ms INT 100 0.. : How long a refused connection stays open.
connections.max.reauth.ms LONG 0 : Age of a SASL session that must authenticate again.
max.connection.creation.rate INT 2147483647 0.. cluster-wide : New connections a second.
max.connections.per.ip.overrides STRING "" cluster-wide : Connections from single addresses, as host:count.
num.io.threads INT 8 1.. cluster-wide : Threads that handle requests; one event loop does.
num.network.threads INT 3 1.. cluster-wide : Threads that read and write sockets; one event loop does.
queued.max.requests INT 500 1.. : Requests waiting for a thread.
request.timeout.ms INT 30000 : How long the broker waits for its own requests.
socket.connection.setup.timeout.max.ms LONG 30000 : Longest wait for a connection to be made.
socket.connection.setup.timeout.ms LONG 10000 : First wait for a connection to be made.
socket.listen.backlog.size INT 50 1.. : Connections that wait to be accepted.
socket.receive.buffer.bytes INT 102400 : Receive buffer of a socket.
socket.send.buffer.bytes INT 102400 : Send buffer of a socket.
delete.records.purgatory.purge.interval.requests INT 1 : How often parked DeleteRecords are swept.
fetch.purgatory.purge.interval.requests INT 1000 : How often parked fetches are swept.
producer.purgatory.purge.interval.requests INT 1000 : How often parked produces are swept.
share.fetch.purgatory.purge.interval.requests INT 1000 : How often parked share fetches are swept.

# Logs
log.cleaner.backoff.ms LONG 15000 0.. cluster-wide : Pause when there is nothing to compact.
log.cleaner.dedupe.buffer.size LONG 134217728 cluster-wide : Bytes of the map of keys, over all threads.
log.cleaner.enable BOOLEAN true : Whether logs are compacted.
log.cleaner.io.buffer.load.factor DOUBLE 0.9 cluster-wide : How full the map of keys may be.
log.cleaner.io.buffer.size INT 524288 0.. cluster-wide : Bytes of buffers, over all threads.
log.cleaner.io.max.bytes.per.second DOUBLE 1.7976931348623157E308 cluster-wide : Bytes read and written a second.
log.cleaner.threads INT 1 0.. cluster-wide : Threads that compact.
log.flush.start.offset.checkpoint.interval.ms INT 60000 0.. : How often start offsets are written to disk.

# Groups and their offsets
group.coordinator.append.linger.ms INT -1 -1.. : How long writes of groups are collected; -1 decides by load.
group.coordinator.background.threads INT 2 1.. : Threads for work beside the groups' own.
group.coordinator.cached.buffer.max.bytes INT 1048588 524288.. cluster-wide : Bytes of buffers kept for later use.
group.coordinator.rebalance.protocols LIST classic,consumer,streams consumer|classic|share|streams :
    Kinds of groups that are served.
group.coordinator.threads INT 4 1.. : Threads of groups.
group.consumer.assignment.interval.ms INT 1000 0.. cluster-wide :
    Least time between two assignments of a consumer group.
group.consumer.assignors LIST uniform,range : Assignors of consumer groups, the default first.
group.consumer.heartbeat.interval.ms INT 5000 1.. : Heartbeat interval of consumer groups.
group.consumer.max.assignment.interval.ms INT 15000 0.. : Largest assignment interval a group may be set to.
group.consumer.max.heartbeat.interval.ms INT 15000 1.. : Largest heartbeat interval a group may be set to.
group.consumer.max.session.timeout.ms INT 60000 1.. : Longest session a group may be set to.
group.consumer.max.size INT 2147483647 1.. : Members of a consumer group.
group.consumer.migration.policy STRING bidirectional :
    Which groups may change between the classic and the consumer protocol.
group.consumer.min.assignment.interval.ms INT 0 0.. : Smallest assignment interval a group may be set to.
group.consumer.min.heartbeat.interval.ms INT 5000 1.. : Smallest heartbeat interval a group may be set to.
group.consumer.min.session.timeout.ms INT 45000 1.. : Shortest session a group may be set to.
group.consumer.session.timeout.ms INT 45000 1.. : Session timeout of consumer groups.
offsets.commit.timeout.ms INT 5000 1.. : How long a commit waits for its replicas.
offsets.topic.compression.codec INT 0 : Compression of the offsets topic, as a number.
offsets.topic.replication.factor SHORT 3 1.. : Replicas of the offsets topic.

# Share groups
errors.deadletterqueue.auto.create.topics.enable BOOLEAN false cluster-wide : Make a dead letter topic on its first use.
errors.deadletterqueue.topic.name.prefix STRING dlq. cluster-wide : How names of dead letter topics begin.
group.share.assignment.interval.ms INT 1000 0.. cluster-wide : Least time between two assignments of a share group.
group.share.assignors LIST simple : Assignors of share groups.
group.share.delivery.count.limit INT 5 2..10 : How often a record is tried.
group.share.heartbeat.interval.ms INT 5000 1.. : Heartbeat interval of share groups.
group.share.max.assignment.interval.ms INT 15000 0.. : Largest assignment interval a group may be set to.
group.share.max.delivery.count.limit INT 10 5..25 : Most tries a group may be set to.
group.share.max.heartbeat.interval.ms INT 15000 1.. : Largest heartbeat interval a group may be set to.
group.share.max.partition.max.record.locks INT 4000 2000..10000 : Most locked records a group may be set to.
group.share.max.record.lock.duration.ms INT 60000 30000..3600000 : Longest lock a group may be set to.
group.share.max.session.timeout.ms INT 60000 1.. : Longest session a group may be set to.
group.share.max.share.sessions INT 2000 1.. : Share sessions of a broker.
group.share.max.size INT 200 1..1000 : Members of a share group.
group.share.min.assignment.interval.ms INT 0 0.. : Smallest assignment interval a group may be set to.
group.share.min.delivery.count.limit INT 2 2..5 : Fewest tries a group may be set to.
group.share.min.heartbeat.interval.ms INT 5000 1.. : Smallest heartbeat interval a group may be set to.
group.share.min.partition.max.record.locks INT 100 100..2000 : Fewest locked records a group may be set to.
group.share.min.record.lock.duration.ms INT 15000 1000..30000 : Shortest lock a group may be set to.
group.share.min.session.timeout.ms INT 45000 1.. : Shortest session a group may be set to.
group.share.partition.max.record.locks INT 2000 100..10000 : Records of a partition locked at one time.
group.share.record.lock.duration.ms INT 30000 1000..3600000 : How long a record is locked for its consumer.
group.share.session.timeout.ms INT 45000 1.. : Session timeout of share groups.
share.coordinator.append.linger.ms INT -1 -1.. : How long writes of share state are collected; -1 decides by load.
share.coordinator.cached.buffer.max.bytes INT 1048588 524288.. cluster-wide : Bytes of buffers kept for later use.
share.coordinator.load.buffer.size INT 5242880 1.. : Bytes read at once when share state is loaded.
share.coordinator.snapshot.update.records.per.snapshot INT 500 0..500 : Updates between two snapshots of share state.
share.coordinator.state.topic.compression.codec INT 0 : Compression of the share state topic, as a number.
share.coordinator.state.topic.min.isr SHORT 2 1.. : In-sync replicas of the share state topic.
share.coordinator.state.topic.num.partitions INT 50 1.. : Partitions of the share state topic.
share.coordinator.state.topic.replication.factor SHORT 3 1.. : Replicas of the share state topic.
share.coordinator.state.topic.segment.bytes INT 104857600 1.. : Bytes of a segment of the share state topic.
share.coordinator.threads INT 1 1.. : Threads of share state.
share.coordinator.write.timeout.ms INT 5000 1.. : How long a write of share state waits for its replicas.

# Groups of Kafka Streams
group.streams.assignment.interval.ms INT 1000 0.. cluster-wide : Least time between two assignments of a streams group.
group.streams.assignors LIST sticky : Assignors of streams groups.
group.streams.heartbeat.interval.ms INT 5000 1.. : Heartbeat interval of streams groups.
group.streams.initial.rebalance.delay.ms INT 3000 0.. : How long a new streams group waits for more members.
group.streams.max.assignment.interval.ms INT 15000 0.. : Largest assignment interval a group may be set to.
group.streams.max.heartbeat.interval.ms INT 15000 1.. : Largest heartbeat interval a group may be set to.
group.streams.max.session.timeout.ms INT 60000 1.. : Longest session a group may be set to.
group.streams.max.size INT 2147483647 1.. : Members of a streams group.
group.streams.max.standby.replicas INT 2 0.. : Most standby replicas a group may be set to.
group.streams.min.assignment.interval.ms INT 0 0.. : Smallest assignment interval a group may be set to.
group.streams.min.heartbeat.interval.ms INT 5000 1.. : Smallest heartbeat interval a group may be set to.
group.streams.min.session.timeout.ms INT 45000 1.. : Shortest session a group may be set to.
group.streams.num.standby.replicas INT 0 0.. : Standby replicas of each task.
group.streams.rack.aware.assignment.tags LIST "" : Client tags over which standby replicas are spread.
group.streams.session.timeout.ms INT 45000 1.. : Session timeout of streams groups.
group.streams.topology.description.plugin.class CLASS - : Class that keeps descriptions of topologies.

# Transactions
add.partitions.to.txn.retry.backoff.max.ms INT 100 0.. : Longest pause before a partition is added again.
add.partitions.to.txn.retry.backoff.ms INT 20 1.. : First pause before a partition is added again.
transaction.state.log.min.isr INT 2 1.. : In-sync replicas of the transaction topic.
transaction.state.log.replication.factor SHORT 3 1.. : Replicas of the transaction topic.
transaction.two.phase.commit.enable BOOLEAN false : Serve transactions that another system decides.

# Quotas, metrics, plug-ins
alter.config.policy.class.name CLASS - : Class that judges changes of settings.
client.quota.callback.class CLASS - : Class that computes quotas.
config.providers LIST "" cluster-wide : Where settings may take values from.
create.topic.policy.class.name CLASS - : Class that judges new topics.
kafka.metrics.polling.interval.secs INT 10 1.. : How often kafka.metrics.reporters report.
kafka.metrics.reporters LIST "" : Classes that report Yammer metrics.
metric.reporters LIST org.apache.kafka.common.metrics.JmxReporter cluster-wide : Classes that report metrics.
metrics.num.samples INT 2 1.. : Samples kept for a metric.
metrics.recording.level STRING INFO : Which metrics are recorded.
metrics.sample.window.ms LONG 30000 1.. : Length of a sample.
quota.window.num INT 11 1.. : Samples kept for quotas of clients.
quota.window.size.seconds INT 1 1.. : Length of a sample of the quotas of clients.
telemetry.max.bytes INT 1048576 1.. : Bytes of metrics a client may push at once.

# Tiered storage
remote.fetch.max.wait.ms INT 500 1.. cluster-wide : How long a fetch waits for tiered storage.
remote.list.offsets.request.timeout.ms LONG 30000 1.. cluster-wide : How long ListOffsets waits for tiered storage.
remote.log.index.file.cache.total.size.bytes LONG 1073741824 1.. cluster-wide : Bytes of indexes kept locally.
remote.log.manager.copier.thread.pool.size INT 10 1.. cluster-wide : Threads that copy segments.
remote.log.manager.copy.max.bytes.per.second LONG 9223372036854775807 1.. cluster-wide : Bytes copied a second.
remote.log.manager.copy.quota.window.num INT 11 1.. : Samples kept for the quota of copies.
remote.log.manager.copy.quota.window.size.seconds INT 1 1.. : Length of a sample of the quota of copies.
remote.log.manager.expiration.thread.pool.size INT 10 1.. cluster-wide : Threads that delete segments.
remote.log.manager.fetch.max.bytes.per.second LONG 9223372036854775807 1.. cluster-wide : Bytes fetched a second.
remote.log.manager.fetch.quota.window.num INT 11 1.. : Samples kept for the quota of fetches.
remote.log.manager.fetch.quota.window.size.seconds INT 1 1.. : Length of a sample of the quota of fetches.
remote.log.manager.follower.thread.pool.size INT 2 1.. cluster-wide : Threads of followers.
remote.log.manager.task.interval.ms LONG 30000 1.. : How often segments to copy are looked for.
remote.log.manager.thread.pool.size INT 2 1.. : Threads that schedule.
remote.log.metadata.custom.metadata.max.bytes INT 128 0.. : Bytes a plug-in may keep about a segment.
remote.log.metadata.manager.class.name STRING
    org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager :
    Class that keeps the metadata of segments in tiered storage.
remote.log.metadata.manager.class.path STRING - : Where the metadata manager is loaded from.
remote.log.metadata.manager.impl.prefix STRING rlmm.config. : Prefix of the names of the metadata manager's settings.
remote.log.metadata.manager.listener.name STRING - : Listener through which the metadata manager connects.
remote.log.reader.max.pending.tasks INT 100 1.. : Reads that wait for a thread.
remote.log.reader.threads INT 10 1.. cluster-wide : Threads that read.
remote.log.storage.manager.class.name STRING - : Class that stores segments.
remote.log.storage.manager.class.path STRING - : Where the storage manager is loaded from.
remote.log.storage.manager.impl.prefix STRING rsm.config. : Prefix of the names of the storage manager's settings.
remote.log.storage.system.enable BOOLEAN false : Whether there is tiered storage.

# TLS
ssl.allow.dn.changes BOOLEAN false : A new certificate may have another name.
ssl.allow.san.changes BOOLEAN false : A new certificate may have other alternative names.
ssl.cipher.suites LIST "" per-broker : Cipher suites; empty for all.
ssl.client.auth STRING none required|requested|none per-broker : Whether clients show a certificate.
ssl.enabled.protocols LIST TLSv1.2,TLSv1.3 per-broker : Versions of TLS.
ssl.endpoint.identification.algorithm STRING https per-broker : How a server's name is checked.
ssl.engine.factory.class CLASS - per-broker : Class that makes TLS engines.
ssl.key.password PASSWORD - per-broker : Password of the key.
ssl.keymanager.algorithm STRING SunX509 per-broker : Algorithm of the key manager.
ssl.keystore.certificate.chain PASSWORD - per-broker : Certificates, as PEM.
ssl.keystore.key PASSWORD - per-broker : Key, as PEM.
ssl.keystore.location STRING - per-broker : File of key and certificates.
ssl.keystore.password PASSWORD - per-broker : Password of the key store.
ssl.keystore.type STRING JKS per-broker : Format of the key store.
ssl.principal.mapping.rules STRING DEFAULT : How a certificate's name becomes a principal.
ssl.protocol STRING TLSv1.3 per-broker : Version of TLS that is tried first.
ssl.provider STRING - per-broker : Java security provider.
ssl.secure.random.implementation STRING - per-broker : Source of random numbers.
ssl.trustmanager.algorithm STRING PKIX per-broker : Algorithm of the trust manager.
ssl.truststore.certificates PASSWORD - per-broker : Certificates that are trusted, as PEM.
ssl.truststore.location STRING - per-broker : File of certificates that are trusted.
ssl.truststore.password PASSWORD - per-broker : Password of the trust store.
ssl.truststore.type STRING JKS per-broker : Format of the trust store.

# SASL, principals, delegation tokens
delegation.token.expiry.check.interval.ms LONG 3600000 1.. : How often expired tokens are looked for.
delegation.token.expiry.time.ms LONG 86400000 1.. : How long a token lives before it must be renewed.
delegation.token.max.lifetime.ms LONG 604800000 1.. : How long a token lives at the most.
delegation.token.secret.key PASSWORD - : Key that signs tokens.
principal.builder.class CLASS org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder per-broker :
    Class that makes principals.
sasl.client.callback.handler.class CLASS - : Callbacks of the broker as a client.
sasl.enabled.mechanisms LIST GSSAPI per-broker : Mechanisms that clients may use.
sasl.jaas.config PASSWORD - per-broker : Login of a mechanism, in JAAS form.
sasl.kerberos.kinit.cmd STRING /usr/bin/kinit per-broker : Path of kinit.
sasl.kerberos.min.time.before.relogin LONG 60000 per-broker : Least time between two logins.
sasl.kerberos.principal.to.local.rules LIST DEFAULT per-broker : How a Kerberos name becomes a principal.
sasl.kerberos.service.name STRING - per-broker : Kerberos name of the service.
sasl.kerberos.ticket.renew.jitter DOUBLE 0.05 per-broker : Random part of the renewal time.
sasl.kerberos.ticket.renew.window.factor DOUBLE 0.8 per-broker : Part of a ticket's life after which it is renewed.
sasl.login.callback.handler.class CLASS - : Callbacks of a login.
sasl.login.class CLASS - : Class that logs in.
sasl.login.connect.timeout.ms INT - : How long connecting to the provider may take.
sasl.login.read.timeout.ms INT - : How long reading from the provider may take.
sasl.login.refresh.buffer.seconds SHORT 300 per-broker : Time left before a token's end when it is refreshed.
sasl.login.refresh.min.period.seconds SHORT 60 per-broker : Least time between two refreshes.
sasl.login.refresh.window.factor DOUBLE 0.8 per-broker : Part of a token's life after which it is refreshed.
sasl.login.refresh.window.jitter DOUBLE 0.05 per-broker : Random part of that.
sasl.login.retry.backoff.max.ms LONG 10000 : Longest pause between two logins.
sasl.login.retry.backoff.ms LONG 100 : First pause between two logins.
sasl.oauthbearer.allow.unverified.audience BOOLEAN false : Take tokens without checking their audience.
sasl.oauthbearer.allow.unverified.issuer BOOLEAN false : Take tokens without checking their issuer.
sasl.oauthbearer.assertion.algorithm STRING RS256 : How an assertion is signed.
sasl.oauthbearer.assertion.claim.aud STRING - : Audience of an assertion.
sasl.oauthbearer.assertion.claim.exp.seconds INT 300 0..86400 : How long an assertion is valid.
sasl.oauthbearer.assertion.claim.iss STRING - : Issuer of an assertion.
sasl.oauthbearer.assertion.claim.jti.include BOOLEAN false : Whether an assertion has an id.
sasl.oauthbearer.assertion.claim.nbf.seconds INT 60 0..3600 : How far back an assertion's validity begins.
sasl.oauthbearer.assertion.claim.sub STRING - : Subject of an assertion.
sasl.oauthbearer.assertion.file STRING - : File of a finished assertion.
sasl.oauthbearer.assertion.private.key.file STRING - : File of the key that signs.
sasl.oauthbearer.assertion.private.key.passphrase PASSWORD - : Password of that key.
sasl.oauthbearer.assertion.template.file STRING - : File of further claims.
sasl.oauthbearer.client.credentials.client.id STRING - : Client id at the provider.
sasl.oauthbearer.client.credentials.client.secret PASSWORD - : Client secret at the provider.
sasl.oauthbearer.clock.skew.seconds INT 30 : How far clocks may differ.
sasl.oauthbearer.expected.audience LIST "" : Audiences that are taken.
sasl.oauthbearer.expected.issuer STRING - : The issuer that is taken.
sasl.oauthbearer.jwks.endpoint.refresh.ms LONG 3600000 : How often the provider's keys are fetched.
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms LONG 10000 : Longest pause before the keys are fetched again.
sasl.oauthbearer.jwks.endpoint.retry.backoff.ms LONG 100 : First pause before the keys are fetched again.
sasl.oauthbearer.jwks.endpoint.url STRING - : Where the provider's keys are.
sasl.oauthbearer.jwt.retriever.class CLASS org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever :
    Class that fetches tokens.
sasl.oauthbearer.jwt.validator.class CLASS org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator :
    Class that checks tokens.
sasl.oauthbearer.scope STRING - : Scope that is asked for.
sasl.oauthbearer.scope.claim.name STRING scope : Name of the claim of the scope.
sasl.oauthbearer.sub.claim.name STRING sub : Name of the claim of the subject.
sasl.oauthbearer.token.endpoint.url STRING - : Where tokens are fetched.
sasl.server.callback.handler.class CLASS - : Callbacks of the broker as a server.
sasl.server.max.receive.size INT 524288 : Bytes of a message before authentication.
security.providers STRING - : Java security providers.
"""

# The settings of topics of the same two kinds.
_OF_TOPICS_REPLICAS = """
follower.replication.throttled.replicas LIST "" :
    Replicas whose followers are slowed, as partition:broker, or *.
leader.replication.throttled.replicas LIST "" :
    Replicas whose leaders are slowed, as partition:broker, or *.
min.insync.replicas INT 1 1.. =min.insync.replicas : Replicas that must have a record before acks=all is answered.
unclean.leader.election.enable BOOLEAN false =unclean.leader.election.enable : Let a replica lead that may lack records.
"""

_OF_TOPICS = """
delete.retention.ms LONG 86400000 0.. =log.cleaner.delete.retention.ms : How long a tombstone is kept.
errors.deadletterqueue.group.enable BOOLEAN false : Whether this is a dead letter topic of share groups.
local.retention.bytes LONG -2 -2.. =log.local.retention.bytes :
    Bytes kept locally beside tiered storage; -2 as retention.bytes.
local.retention.ms LONG -2 -2.. =log.local.retention.ms : Time kept locally beside tiered storage; -2 as retention.ms.
max.compaction.lag.ms LONG 9223372036854775807 1.. =log.cleaner.max.compaction.lag.ms :
    Age at which a record is certain to be compacted.
max.decompressed.message.bytes INT 2147483639 1..2147483639 =max.decompressed.message.bytes :
    Bytes a batch may hold when decompressed; see odradek.batch.decompressed.max.bytes.
min.cleanable.dirty.ratio DOUBLE 0.5 0..1 =log.cleaner.min.cleanable.ratio :
    Part of the log that must be dirty before it is compacted.
min.compaction.lag.ms LONG 0 0.. =log.cleaner.min.compaction.lag.ms : Age before which a record is not compacted.
preallocate BOOLEAN false =log.preallocate : Reserve a segment's space when it is made.
remote.copy.lag.bytes LONG -1 -1.. =log.remote.copy.lag.bytes :
    Bytes kept locally before they are copied to tiered storage.
remote.copy.lag.ms LONG 0 -1.. =log.remote.copy.lag.ms : Time kept locally before it is copied to tiered storage.
remote.log.copy.disable BOOLEAN false : Stop copying to tiered storage.
remote.log.delete.on.disable BOOLEAN false : Delete what is in tiered storage when it is turned off.
remote.storage.enable BOOLEAN false : Use tiered storage; there is none here.
"""

_UPDATES = {"per-broker": Update.PER_BROKER, "cluster-wide": Update.CLUSTER_WIDE}


def _read(text: str) -> Iterator[Setting]:
    """Parses the lines of one of the texts above."""
    for line in text.replace("\n    ", " ").splitlines():
        if not line or line.startswith("#"):
            continue
        head, _, doc = line.partition(" : ")
        name, kind, default, *rest = head.split()
        minimum = maximum = choices = None
        update = Update.READ_ONLY
        synonyms: tuple[tuple[str, int], ...] = ()
        for word in rest:
            if word in _UPDATES:
                update = _UPDATES[word]
            elif word.startswith("="):
                synonyms = ((word[1:], 1),)
            elif ".." in word:
                low, _, high = word.partition("..")
                minimum, maximum = int(low), int(high) if high else None
            else:
                choices = tuple(word.split("|"))
        setting = Setting(name, Kind[kind], None, doc, minimum, maximum, choices, update, False, synonyms)
        value = None if default == "-" else parse_value(setting, default.removeprefix('""'))
        yield Setting(name, setting.kind, value, doc, minimum, maximum, choices, update, False, synonyms)


def _at_the_broker(topics: Mapping[str, Setting]) -> Iterator[Setting]:
    """The broker settings that give the defaults of these topic settings."""
    return (setting.at_the_broker(name) for setting in topics.values() for name, _ in setting.synonyms)


_of_topics_replicas, _of_topics = table(_read(_OF_TOPICS_REPLICAS)), table(_read(_OF_TOPICS))
OF_TOPICS = _of_topics_replicas | _of_topics
CONTROLLER_AND_REPLICA_SETTINGS = table([*_read(_FOR_CONTROLLERS_AND_REPLICAS), *_at_the_broker(_of_topics_replicas)])
"""Broker settings without effect because there are no controllers and no replicas here."""
OTHERS_OF_THE_BROKER = table([*_read(_OF_OTHER_PARTS), *_at_the_broker(_of_topics)])
