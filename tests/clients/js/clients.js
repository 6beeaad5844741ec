// KafkaJS, told what to do by lines of JSON on stdin, as tests/java/Clients.java is: {"op": ..., "bootstrap": ..., ...}.
// Answers a line each: {"result": ...} or {"error": name, "message": text}; before it, {"progress": count} where asked.
// `node clients.js member '<json>'` is a member of a group, as tests/clients/member.py says.
"use strict";

const readline = require("node:readline");
const kafkajs = require("kafkajs");
const LZ4 = require("kafkajs-lz4");
const Snappy = require("kafkajs-snappy");
const zstd = require("zstd-napi");

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs;
CompressionCodecs[CompressionTypes.LZ4] = new LZ4().codec;
CompressionCodecs[CompressionTypes.Snappy] = Snappy;
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => zstd.compress(encoder.buffer),
  decompress: async (buffer) => zstd.decompress(buffer),
});
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};
const STEP = 20;
const TOPIC_RESOURCE = 2;
const DELIVERY_TIMEOUT_MS = 60_000;

const say = (told) => process.stdout.write(JSON.stringify(told) + "\n");
const bytes = (text) => (text === null || text === undefined ? null : Buffer.from(text, "base64"));
const text = (data) => (data === null || data === undefined ? null : Buffer.from(data).toString("base64"));

function client(bootstrap, clientId = "kafkajs") {
  return new Kafka({
    clientId,
    brokers: [bootstrap],
    logLevel: logLevel.NOTHING,
    // A broker that is being restarted is asked again for as long as the others' clients do.
    retry: { initialRetryTime: 100, maxRetryTime: 500, retries: 150 },
  });
}

async function using(thing, work) {
  await thing.connect();
  try {
    return await work(thing);
  } finally {
    await thing.disconnect();
  }
}

// --- records ---------------------------------------------------------------------------------------------------------

async function produce(asked) {
  const settings = asked.idempotent ? { idempotent: true, maxInFlightRequests: 1 } : {};
  const producer = client(asked.bootstrap).producer({ allowAutoTopicCreation: true, ...settings });
  return using(producer, async () => {
    const told = [];
    const step = asked.watched ? STEP : asked.records.length;
    for (let at = 0; at < asked.records.length; at += step) {
      const messages = asked.records.slice(at, at + step).map((record) => ({
        partition: asked.partition,
        key: bytes(record.key),
        value: bytes(record.value),
        headers: Object.fromEntries(record.headers.map(([name, value]) => [name, bytes(value)])),
        ...(record.timestamp === null ? {} : { timestamp: String(record.timestamp) }),
      }));
      const [answer] = await producer.send({
        topic: asked.topic,
        messages,
        acks: -1,
        compression: CODECS[asked.codec],
      });
      messages.forEach((_, index) => told.push([answer.partition, Number(answer.baseOffset) + index, null]));
      if (asked.watched) say({ progress: told.length });
    }
    return told;
  });
}

// KafkaJS reads by group only: a group of this read's own, with all but one partition paused.
async function read(asked) {
  const group = `read-${process.pid}-${Date.now()}-${Math.random()}`;
  const kafka = client(asked.bootstrap);
  const consumer = kafka.consumer({ groupId: group, maxWaitTimeInMs: 100 });
  const found = [];
  let deadline;
  try {
    await consumer.connect();
    await consumer.subscribe({ topic: asked.topic, fromBeginning: true });
    await new Promise((resolve, reject) => {
      deadline = setTimeout(() => reject(new Error(`${found.length} of ${asked.count}`)), DELIVERY_TIMEOUT_MS);
      consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
        const others = payload.memberAssignment[asked.topic].filter((index) => index !== asked.partition);
        if (others.length) consumer.pause([{ topic: asked.topic, partitions: others }]);
        const next = found.length ? found[found.length - 1].offset + 1 : asked.start;
        if (next !== null) consumer.seek({ topic: asked.topic, partition: asked.partition, offset: String(next) });
      });
      consumer
        .run({
          autoCommit: false,
          eachBatch: async ({ batch }) => {
            if (batch.partition !== asked.partition) return;
            for (const message of batch.messages) {
              const known = found.length ? found[found.length - 1].offset : -1;
              if (found.length === asked.count || Number(message.offset) <= known) continue;
              found.push({
                offset: Number(message.offset),
                key: text(message.key),
                value: text(message.value),
                // Values of one name are kept together, in their order.
                headers: Object.entries(message.headers).flatMap(([name, value]) =>
                  Array.isArray(value) ? value.map((one) => [name, text(one)]) : [[name, text(value)]],
                ),
                timestamp: Number(message.timestamp),
              });
              if (asked.watched && found.length % STEP === 0) say({ progress: found.length });
            }
            if (found.length >= asked.count) resolve();
          },
        })
        .catch(reject);
    });
  } finally {
    clearTimeout(deadline);
    await consumer.disconnect();
  }
  await using(kafka.admin(), (admin) => admin.deleteGroups([group]));
  return found;
}

async function transact(asked) {
  const producer = client(asked.bootstrap).producer({
    transactionalId: asked.transactional_id,
    idempotent: true,
    maxInFlightRequests: 1,
  });
  return using(producer, async () => {
    const send = (transaction, value) =>
      transaction.send({ topic: asked.topic, messages: [{ partition: 0, value }] });
    for (let round = 0; round < asked.total; round++) {
      const doomed = await producer.transaction();
      await send(doomed, "aborted");
      await doomed.abort();
      const kept = await producer.transaction();
      await send(kept, "committed");
      await kept.commit();
    }
    return null;
  });
}

// --- administration --------------------------------------------------------------------------------------------------

async function administer(admin, asked) {
  const { topic } = asked;
  switch (asked.op) {
    case "create_topic": {
      const configEntries = Object.entries(asked.configs).map(([name, value]) => ({ name, value }));
      const made = await admin.createTopics({
        topics: [{ topic, numPartitions: asked.partitions, replicationFactor: 1, configEntries }],
      });
      // It tells of a topic that exists by false, and of nothing else.
      if (!made) throw Object.assign(new Error("the topic exists"), { type: "TOPIC_ALREADY_EXISTS" });
      return null;
    }
    case "delete_topic":
      return (await admin.deleteTopics({ topics: [topic] })) ?? null;
    case "topics":
      return admin.listTopics();
    case "describe_topic": {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
      return Object.fromEntries(
        topics[0].partitions.map((one) => [
          one.partitionId,
          { leader: one.leader, replicas: one.replicas, isr: one.isr },
        ]),
      );
    }
    case "create_partitions":
      await admin.createPartitions({ topicPartitions: [{ topic, count: asked.total }] });
      return null;
    case "describe_configs": {
      const { resources } = await admin.describeConfigs({
        resources: [{ type: TOPIC_RESOURCE, name: topic }],
        includeSynonyms: false,
      });
      return Object.fromEntries(resources[0].configEntries.map((one) => [one.configName, one.configValue]));
    }
    case "alter_config":
      await admin.alterConfigs({
        validateOnly: false,
        resources: [
          { type: TOPIC_RESOURCE, name: topic, configEntries: [{ name: asked.name, value: asked.value }] },
        ],
      });
      return null;
    case "describe_cluster": {
      const { brokers, controller, clusterId } = await admin.describeCluster();
      const nodes = Object.fromEntries(brokers.map((one) => [one.nodeId, `${one.host}:${one.port}`]));
      return { cluster_id: clusterId, controller, nodes };
    }
    case "delete_records": {
      const { partition } = asked;
      // It knows no leaders before it has looked at the topic.
      await admin.fetchTopicOffsets(topic);
      await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(asked.before) }] });
      const offsets = await admin.fetchTopicOffsets(topic);
      return Number(offsets.find((one) => one.partition === partition).low);
    }
    case "watermarks": {
      const offsets = await admin.fetchTopicOffsets(topic);
      const one = offsets.find((found) => found.partition === asked.partition);
      return [Number(one.low), Number(one.high)];
    }
    case "offset_for_time": {
      const offsets = await admin.fetchTopicOffsetsByTimestamp(topic, asked.timestamp);
      // Where there is no such record it tells the end.
      const found = Number(offsets.find((one) => one.partition === asked.partition).offset);
      const ends = await admin.fetchTopicOffsets(topic);
      return found === Number(ends.find((one) => one.partition === asked.partition).high) ? null : found;
    }
    case "list_groups":
      return (await admin.listGroups()).groups.map((one) => one.groupId);
    case "describe_group": {
      const [group] = (await admin.describeGroups([asked.group])).groups;
      const members = group.members.map((one) => {
        const { assignment } = kafkajs.AssignerProtocol.MemberAssignment.decode(one.memberAssignment) ?? {};
        const partitions = Object.entries(assignment ?? {}).flatMap(([name, of]) => of.map((at) => [name, at]));
        return { client_id: one.clientId, instance_id: null, partitions };
      });
      return { state: group.state, assignor: group.protocol, members };
    }
    case "group_offsets": {
      const found = await admin.fetchOffsets({ groupId: asked.group, topics: [topic] });
      const known = found[0].partitions.filter((one) => Number(one.offset) >= 0);
      return Object.fromEntries(known.map((one) => [one.partition, Number(one.offset)]));
    }
    case "alter_group_offsets": {
      const partitions = Object.entries(asked.offsets).map(([at, offset]) => ({
        partition: Number(at),
        offset: String(offset),
      }));
      await admin.setOffsets({ groupId: asked.group, topic, partitions });
      return null;
    }
    case "delete_group":
      await admin.deleteGroups([asked.group]);
      return null;
    default:
      throw new Error(JSON.stringify(asked));
  }
}

function nameOf(error) {
  // What the broker said stands at the bottom of what KafkaJS makes of it.
  for (let at = error; at; at = at.cause ?? at.originalError ?? at.errors?.[0]) {
    if (at.type && at.type !== "UNKNOWN") return at.type;
    if (at.groups?.[0]?.error?.type) return at.groups[0].error.type;
    if (at.partitions?.[0]?.error?.type) return at.partitions[0].error.type;
  }
  return error.name;
}

async function run(asked) {
  switch (asked.op) {
    case "produce":
      return produce(asked);
    case "read":
      return read(asked);
    case "transact":
      return transact(asked);
    default:
      return using(client(asked.bootstrap).admin(), (admin) => administer(admin, asked));
  }
}

async function serve() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      say({ result: (await run(JSON.parse(line))) ?? null });
    } catch (error) {
      say({ error: nameOf(error), message: String(error.message) });
    }
  }
  process.exit(0);
}

// --- a member of a group ---------------------------------------------------------------------------------------------

async function member(orders) {
  const { topic } = orders;
  const consumer = client(orders.bootstrap, orders.client_id).consumer({
    groupId: orders.group,
    sessionTimeout: orders.session_timeout_ms,
    heartbeatInterval: Math.max(Math.floor(orders.session_timeout_ms / 10), 50),
    maxWaitTimeInMs: 100,
    retry: { initialRetryTime: 100, maxRetryTime: 500, retries: 150, restartOnFailure: async () => true },
  });
  let owned = new Set();
  const positions = new Map();
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    owned = new Set(payload.memberAssignment[topic] ?? []);
    for (const partition of [...positions.keys()]) if (!owned.has(partition)) positions.delete(partition);
    say({ event: "assigned", partitions: [...owned].sort((a, b) => a - b) });
  });
  const revoke = () => {
    if (owned.size) say({ event: "revoked", partitions: [...owned].sort((a, b) => a - b) });
    owned = new Set();
    positions.clear();
  };
  consumer.on(consumer.events.REBALANCING, revoke);
  consumer.on(consumer.events.CRASH, ({ payload }) => say({ event: "error", message: String(payload.error) }));
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    autoCommit: Boolean(orders.auto_commit),
    autoCommitInterval: 200,
    eachBatch: async ({ batch, isStale, isRunning }) => {
      if (isStale() || !isRunning() || !owned.has(batch.partition)) return;
      const records = batch.messages.map((one) => [
        batch.partition,
        Number(one.offset),
        (one.value ?? Buffer.alloc(0)).toString(),
      ]);
      if (!records.length) return;
      positions.set(batch.partition, records[records.length - 1][1] + 1);
      say({ event: "records", records });
    },
  });
  let committing = false;
  const commit = async () => {
    while (true) {
      const offsets = Object.fromEntries(positions);
      const wanted = [...positions].map(([partition, offset]) => ({ topic, partition, offset: String(offset) }));
      try {
        if (wanted.length) await consumer.commitOffsets(wanted);
        return say({ event: "committed", offsets });
      } catch (error) {
        // Once more when the rebalance has ended.
        say({ event: "error", message: String(error) });
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line.trim() === "leave") break;
    if (line.trim() === "commit" && !committing) {
      committing = true;
      await commit();
      committing = false;
    }
  }
  await consumer.disconnect();
  process.stdout.write(JSON.stringify({ event: "left" }) + "\n", () => process.exit(0));
}

if (process.argv[2] === "member") {
  member(JSON.parse(process.argv[3])).catch((error) => {
    process.stdout.write(JSON.stringify({ event: "error", message: String(error) }) + "\n", () => process.exit(1));
  });
} else {
  serve();
}
