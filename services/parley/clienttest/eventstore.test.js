// The real @eventstore/db-client against the embedded event store.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import {
  AccessDeniedError, BACKWARDS, END, EventStoreDBClient, FORWARDS, MaxAppendSizeExceededError, START, StreamDeletedError, StreamNotFoundError,
  UnavailableError, UnsupportedError, WrongExpectedVersionError, binaryEvent, eventTypeFilter, excludeSystemEvents, jsonEvent,
  persistentSubscriptionToAllSettingsFromDefaults, persistentSubscriptionToStreamSettingsFromDefaults, streamNameFilter,
} from '@eventstore/db-client';
import { eventually, startParley } from './parley.js';

const any = '127.0.0.1:0';
let parley;
let client;
before(async () => {
  parley = await startParley('--eventstore-listen', any);
  client = EventStoreDBClient.connectionString(`esdb://${parley.addresses.eventstore}?tls=false`);
});
after(async () => {
  await client?.dispose();
  await parley?.stop();
});

/** A stream of a test's own, which is none of Parley's. */
const newStream = (kind = 'order') => `${kind}-${randomUUID()}`;
const numbered = (count, type = 'counted') => Array.from({ length: count }, (_, n) => jsonEvent({ type, data: { n } }));
const numbers = (events) => events.map(({ event }) => event.data.n);

async function all(read) {
  const events = [];
  for await (const event of read) events.push(event);
  return events;
}

/** Takes count events from a subscription, at most 60 seconds long, and leaves it open. */
function take(subscription, count) {
  return new Promise((resolve, reject) => {
    const events = [];
    const timer = setTimeout(() => done(new Error(`${events.length} of ${count} events came`)), 60_000);
    const done = (err) => {
      clearTimeout(timer);
      subscription.pause();
      subscription.off('data', onData).off('error', done);
      if (err) reject(err);
      else resolve(events);
    };
    const onData = (event) => {
      events.push(event);
      if (events.length === count) done();
    };
    subscription.on('data', onData).on('error', done).resume();
  });
}

const happens = (subscription, name) => new Promise((resolve, reject) => {
  subscription.once(name, resolve).once('error', reject);
});

// With credentials of its own a call goes out as Append, else as BatchAppend.
const ways = { batch: {}, single: { credentials: { username: 'nobody', password: 'asked' } } };

for (const [way, options] of Object.entries(ways)) {
  const append = (name, events, expectedRevision) => client.appendToStream(name, events, { expectedRevision, ...options });

  test(`expected revisions (${way})`, async () => {
    const name = newStream();
    const refused = async (stream, expectedRevision, actual) => {
      await assert.rejects(append(stream, numbered(1), expectedRevision), (err) => {
        assert.ok(err instanceof WrongExpectedVersionError, err.stack);
        assert.equal(err.streamName, stream);
        assert.equal(err.expectedVersion, expectedRevision);
        assert.equal(err.actualVersion, actual);
        return true;
      });
    };
    await refused(name, 'stream_exists', 'no_stream');
    await refused(name, 0n, 'no_stream');
    const first = await append(name, numbered(2), 'no_stream');
    assert.deepEqual([first.success, first.nextExpectedRevision], [true, 1n]);
    await refused(name, 'no_stream', 1n);
    await refused(name, 0n, 1n);
    await refused(name, 7n, 1n);
    let last = first;
    for (const [expected, revision] of [[1n, 2n], ['any', 3n], ['stream_exists', 4n]]) {
      const next = await append(name, numbered(1), expected);
      assert.equal(next.nextExpectedRevision, revision);
      assert.ok(next.position.commit > last.position.commit, 'positions grow');
      last = next;
    }
    assert.equal((await append(newStream(), numbered(1), 'any')).nextExpectedRevision, 0n);
    assert.equal((await all(client.readStream(name))).length, 5);
  });

  test(`what is sent again stands there once (${way})`, async () => {
    const name = newStream();
    const [one, two] = [numbered(3), numbered(2)];
    const first = await append(name, one, 'no_stream');
    const second = await append(name, two, 2n);
    for (const [events, expected, was] of [[one, 'no_stream', first], [two, 2n, second], [two, 'any', second], [two, 'stream_exists', second]]) {
      const again = await append(name, events, expected);
      assert.equal(again.nextExpectedRevision, was.nextExpectedRevision, `at ${expected}`);
    }
    assert.deepEqual((await all(client.readStream(name))).map(({ event }) => event.id), [...one, ...two].map(({ id }) => id));
  });

  test(`more than is taken at once (${way})`, async () => {
    const name = newStream();
    const tooLarge = (bytes) => assert.rejects(append(name, binaryEvent({ type: 'blob', data: Buffer.alloc(bytes, 7) }), 'any'), (err) => {
      assert.ok(err instanceof MaxAppendSizeExceededError, err.stack);
      assert.equal(err.maxAppendSize, 1 << 20);
      return true;
    });
    await tooLarge((1 << 20) + 1);
    await tooLarge(5 << 20);
    await assert.rejects(append(name, Array.from({ length: 5 }, () => binaryEvent({ type: 'blob', data: Buffer.alloc(300_000) })), 'any'), MaxAppendSizeExceededError);
    await assert.rejects(all(client.readStream(name)), StreamNotFoundError);
    assert.equal((await append(name, binaryEvent({ type: 'blob', data: Buffer.alloc(900_000) }), 'no_stream')).nextExpectedRevision, 0n);
  });

  test(`Parley's own streams are its own (${way})`, async () => {
    for (const name of ['default.web-visitor', 'default.identity', 'operations.projections', '$$default.identity']) {
      await assert.rejects(append(name, numbered(1), 'any'), AccessDeniedError, name);
    }
  });
}

test('many appends at once', async () => {
  const names = Array.from({ length: 50 }, () => newStream('many'));
  const answers = await Promise.all(names.flatMap((name) => [0, 1, 2, 3].map(() => client.appendToStream(name, numbered(5)))));
  assert.ok(answers.every(({ success }) => success));
  for (const name of names) {
    assert.deepEqual((await all(client.readStream(name))).map(({ event }) => event.revision), Array.from({ length: 20 }, (_, n) => BigInt(n)));
  }
});

test('an answer instead of an error, where that is wanted', async () => {
  const lenient = EventStoreDBClient.connectionString(`esdb://${parley.addresses.eventstore}?tls=false&throwOnAppendFailure=false`);
  const name = newStream();
  await lenient.appendToStream(name, numbered(3));
  const answer = await lenient.appendToStream(name, numbered(1), { expectedRevision: 'no_stream', ...ways.single });
  assert.deepEqual(answer, { success: false, nextExpectedRevision: 2n, position: undefined });
  await lenient.dispose();
});

test('events come back as they were', async () => {
  const name = newStream();
  const before = Date.now();
  const sent = [
    jsonEvent({ type: 'ordered', data: { item: 'Grüße 🌍', count: 3, nested: [{ deep: null }] }, metadata: { $correlationId: 'c-1', by: 'Ada' } }),
    binaryEvent({ type: 'photographed', data: Buffer.from([0, 255, 1, 254]), metadata: Uint8Array.from([9, 8, 7]) }),
    jsonEvent({ type: 'plain', data: {} }),
  ];
  const { position } = await client.appendToStream(name, sent, { expectedRevision: 'no_stream' });
  const got = (await all(client.readStream(name))).map(({ event }) => event);
  assert.deepEqual(got.map(({ id, type, streamId, revision, isJson }) => ({ id, type, streamId, revision, isJson })), [
    { id: sent[0].id, type: 'ordered', streamId: name, revision: 0n, isJson: true },
    { id: sent[1].id, type: 'photographed', streamId: name, revision: 1n, isJson: false },
    { id: sent[2].id, type: 'plain', streamId: name, revision: 2n, isJson: true },
  ]);
  assert.deepEqual(got[0].data, sent[0].data);
  assert.deepEqual(got[0].metadata, sent[0].metadata);
  assert.deepEqual([...got[1].data], [0, 255, 1, 254]);
  assert.deepEqual([...got[1].metadata], [9, 8, 7]);
  assert.equal(got[2].metadata, undefined);
  assert.equal(got[2].position.commit, position.commit, 'the position of the last one is that of the append');
  for (const { created } of got) {
    assert.ok(created.getTime() >= before - 1 && created.getTime() <= Date.now() + 1, `created ${created.toISOString()}`);
  }
});

test('reads, both ways and bounded', async () => {
  const name = newStream();
  const up = Array.from({ length: 10 }, (_, n) => n);
  await client.appendToStream(name, numbered(10));
  for (const [options, want] of [
    [{}, up],
    [{ direction: FORWARDS, fromRevision: START, maxCount: 3 }, [0, 1, 2]],
    [{ direction: FORWARDS, fromRevision: 4n }, [4, 5, 6, 7, 8, 9]],
    [{ direction: FORWARDS, fromRevision: 8n, maxCount: 50 }, [8, 9]],
    [{ direction: FORWARDS, fromRevision: 10n }, []],
    [{ direction: BACKWARDS, fromRevision: END }, up.toReversed()],
    [{ direction: BACKWARDS, fromRevision: END, maxCount: 2 }, [9, 8]],
    [{ direction: BACKWARDS, fromRevision: 3n }, [3, 2, 1, 0]],
    [{ direction: BACKWARDS, fromRevision: 3n, maxCount: 1 }, [3]],
  ]) {
    assert.deepEqual(numbers(await all(client.readStream(name, options))), want, JSON.stringify(options, (_, v) => (typeof v === 'bigint' ? `${v}` : v)));
  }
  await assert.rejects(all(client.readStream(newStream())), (err) => {
    assert.ok(err instanceof StreamNotFoundError, err.stack);
    return true;
  });

  // A read of everything begins with the position it is given.
  const mine = (await all(client.readAll())).filter(({ event }) => event.streamId === name);
  assert.deepEqual(numbers(mine), up);
  const from = mine[6].event.position;
  const onward = await all(client.readAll({ fromPosition: from, maxCount: 2 }));
  assert.deepEqual(onward.map(({ event }) => event.id), [mine[6].event.id, mine[7].event.id]);
  const newest = await all(client.readAll({ direction: BACKWARDS, fromPosition: END, maxCount: 3 }));
  assert.deepEqual(numbers(newest), [9, 8, 7]);
  const down = await all(client.readAll({ direction: BACKWARDS, fromPosition: mine[1].event.position, maxCount: 1 }));
  assert.equal(down.length, 1);
  assert.ok(down[0].event.position.commit <= mine[1].event.position.commit);
});

test('a filtered subscription to everything', async () => {
  const kind = `kept${Date.now()}`;
  const { position } = await client.appendToStream(newStream(kind), numbered(1, 'before'));
  const name = newStream(kind);
  await client.appendToStream(name, [...numbered(2, 'order-opened'), ...numbered(2, 'order-closed'), ...numbered(1, 'other')]);
  await client.appendToStream(newStream('elsewhere'), numbered(3, 'order-opened'));
  await client.setStreamMetadata(name, { maxCount: 1000 });

  for (const [what, filter, want] of [
    ['by stream', streamNameFilter({ prefixes: [`${kind}-`, 'nothing-like-this'] }), ['order-opened', 'order-opened', 'order-closed', 'order-closed', 'other']],
    ['by a pattern of streams', streamNameFilter({ regex: `^${name}$` }), ['order-opened', 'order-opened', 'order-closed', 'order-closed', 'other']],
    ['by type', eventTypeFilter({ prefixes: ['order-c', 'oth'] }), ['order-closed', 'order-closed', 'other']],
    ['by a pattern of types', eventTypeFilter({ regex: '^order-(closed|lost)$' }), ['order-closed', 'order-closed']],
    ['without system events', excludeSystemEvents(), ['order-opened', 'order-opened', 'order-closed', 'order-closed', 'other', 'order-opened', 'order-opened', 'order-opened']],
  ]) {
    const subscription = client.subscribeToAll({ fromPosition: position, filter });
    const caughtUp = happens(subscription, 'caughtUp');
    const events = take(subscription, want.length);
    assert.deepEqual((await events).map(({ event }) => event.type), want, what);
    subscription.resume();
    await caughtUp;
    await subscription.unsubscribe();
  }
  const broken = client.subscribeToAll({ filter: eventTypeFilter({ regex: '(' }) });
  await assert.rejects(happens(broken, 'caughtUp'), /INVALID_ARGUMENT/);
});

for (const [what, subscribe] of [
  ['one stream', (name) => client.subscribeToStream(name, { fromRevision: 99n })],
  ['everything', (name, { position }) => client.subscribeToAll({ fromPosition: position, filter: streamNameFilter({ prefixes: [name] }) })],
]) {
  test(`a subscription to ${what} catches up, says so, and goes on live`, async () => {
    const name = newStream();
    await client.appendToStream(name, numbered(500));
    const [{ event: behind }] = await all(client.readStream(name, { fromRevision: 99n, maxCount: 1 }));
    const subscription = subscribe(name, behind);
    const confirmed = happens(subscription, 'confirmation');
    const caughtUp = happens(subscription, 'caughtUp');
    const past = await take(subscription, 400);
    await confirmed;
    assert.ok(subscription.id, 'it has an id');
    assert.deepEqual(past.map(({ event }) => event.revision), Array.from({ length: 400 }, (_, n) => BigInt(100 + n)), 'it begins behind what it is given');
    subscription.resume();
    await caughtUp;
    for (const round of [1n, 2n]) {
      const live = take(subscription, 3);
      const { nextExpectedRevision } = await client.appendToStream(name, numbered(3, 'live'));
      assert.deepEqual((await live).map(({ event }) => [event.type, event.revision]), [2n, 1n, 0n].map((less) => ['live', nextExpectedRevision - less]), `round ${round}`);
    }
    await subscription.unsubscribe();
  });
}

test('a subscription to everything from now on', async () => {
  const name = newStream();
  await client.appendToStream(name, numbered(2, 'past'));
  const subscription = client.subscribeToAll({ fromPosition: END, filter: streamNameFilter({ prefixes: [name] }) });
  const caughtUp = happens(subscription, 'caughtUp');
  const events = take(subscription, 1);
  await caughtUp;
  await client.appendToStream(name, numbered(1, 'now'));
  assert.equal((await events)[0].event.type, 'now');
  await subscription.unsubscribe();
});

test('checkpoints tell how far a filter has looked', async () => {
  const { position: start } = await client.appendToStream(newStream(), numbered(1));
  const { position: end } = await client.appendToStream(newStream(), numbered(400));
  const checkpoints = [];
  const subscription = client.subscribeToAll({
    fromPosition: start,
    filter: streamNameFilter({ prefixes: ['nothing-like-this'], maxSearchWindow: 10, checkpointInterval: 2, checkpointReached: (_, position) => { checkpoints.push(position); } }),
  });
  subscription.on('data', ({ event }) => assert.fail(`${event.type} of ${event.streamId} passed the filter`));
  await happens(subscription, 'caughtUp');
  await eventually('a checkpoint at what is there', () => checkpoints.at(-1)?.commit >= end.commit);
  // Also of what comes later, one every 20 events at least.
  const { position: later } = await client.appendToStream(newStream(), numbered(100));
  await eventually('a checkpoint at what came', () => checkpoints.at(-1).commit > end.commit && checkpoints.at(-1).commit + 20n > later.commit);
  await subscription.unsubscribe();
  assert.deepEqual(checkpoints, checkpoints.toSorted((a, b) => Number(a.commit - b.commit)), 'they grow');

  // Whoever begins anew at one has missed nothing.
  const marker = newStream();
  await client.appendToStream(marker, numbered(1));
  const anew = client.subscribeToAll({ fromPosition: checkpoints.at(-1), filter: streamNameFilter({ prefixes: [marker] }) });
  assert.equal((await take(anew, 1))[0].event.streamId, marker);
  await anew.unsubscribe();
});

test('deleted, and used again', async () => {
  const name = newStream();
  await client.appendToStream(name, numbered(3));
  await assert.rejects(client.deleteStream(name, { expectedRevision: 1n }), (err) => {
    assert.ok(err instanceof WrongExpectedVersionError, err.stack);
    assert.equal(err.actualVersion, 2n);
    return true;
  });
  const { position } = await client.deleteStream(name, { expectedRevision: 2n });
  assert.ok(position.commit > 0n);
  await assert.rejects(all(client.readStream(name)), StreamNotFoundError);
  const next = await client.appendToStream(name, numbered(2, 'again'), { expectedRevision: 'any' });
  assert.equal(next.nextExpectedRevision, 4n, 'revisions go on');
  assert.deepEqual((await all(client.readStream(name))).map(({ event }) => [event.type, event.revision]), [['again', 3n], ['again', 4n]]);
});

test('tombstoned for good', async () => {
  const name = newStream();
  await client.appendToStream(name, numbered(3));
  await client.tombstoneStream(name, { expectedRevision: 'stream_exists' });
  const gone = (err) => {
    assert.ok(err instanceof StreamDeletedError, err.stack);
    assert.equal(err.streamName, name);
    return true;
  };
  await assert.rejects(all(client.readStream(name)), gone);
  await assert.rejects(client.deleteStream(name), gone);
  await assert.rejects(client.tombstoneStream(name), gone);
  for (const options of Object.values(ways)) {
    await assert.rejects(client.appendToStream(name, numbered(1), options), gone);
  }
});

test('metadata of a stream', async () => {
  const name = newStream();
  assert.deepEqual(await client.getStreamMetadata(name), { streamName: name });
  await client.setStreamMetadata(name, { maxCount: 2, owner: 'Ada' }, { expectedRevision: 'no_stream' });
  await client.appendToStream(name, numbered(5));
  const { metadata } = await client.getStreamMetadata(name);
  assert.deepEqual(metadata, { maxCount: 2, owner: 'Ada' });
  assert.deepEqual(numbers(await all(client.readStream(name))), [3, 4]);
  assert.deepEqual(numbers(await all(client.readStream(name, { direction: BACKWARDS, fromRevision: END }))), [4, 3]);
  await client.setStreamMetadata(name, { truncateBefore: 4 });
  assert.deepEqual(numbers(await all(client.readStream(name))), [4]);
  await client.setStreamMetadata(name, {});
  assert.deepEqual(numbers(await all(client.readStream(name))).at(-1), 4);
});

test('what Parley recorded, read as events', async () => {
  const userId = `u-${randomUUID()}`;
  const email = `${userId}@example.org`;
  const answer = await fetch(`${parley.url}/v1/identify`, {
    method: 'POST', headers: { authorization: `Basic ${Buffer.from('dev:').toString('base64')}` },
    body: JSON.stringify({ userId, messageId: randomUUID(), traits: { email } }),
  });
  assert.equal(answer.status, 200);
  const [{ eventId }] = await eventually('it in the timeline', async () => {
    const list = await parley.timeline('--user-id', userId);
    return list.length > 0 && list;
  });

  const told = (await all(client.readAll())).map(({ event }) => event).find(({ id }) => id === eventId);
  assert.match(told.streamId, /^default\.web-/);
  assert.equal(told.type, 'parley.traits.updated');
  assert.equal(told.isJson, false, 'the data is protobuf');
  assert.ok(Buffer.from(told.data).includes(email));
  const stream = await all(client.readStream(told.streamId));
  assert.ok(stream.some(({ event }) => event.id === eventId && event.revision === told.revision));

  // What follows from it names it in its metadata.
  const subscription = client.subscribeToAll({ filter: eventTypeFilter({ regex: '^parley\\.link\\.' }) });
  let link;
  do [{ event: link }] = await take(subscription, 1); while (link.metadata.$causationId !== eventId);
  await subscription.unsubscribe();
  assert.equal(link.streamId, 'default.identity');
  assert.equal(link.metadata.$correlationId, eventId);

  for (const refused of [
    () => client.deleteStream(told.streamId), () => client.tombstoneStream(told.streamId), () => client.setStreamMetadata(told.streamId, { maxCount: 1 }),
  ]) {
    await assert.rejects(refused(), AccessDeniedError);
  }
  assert.deepEqual((await all(client.readStream(told.streamId))).length, stream.length);
});

test('persistent subscriptions are not offered', async () => {
  await assert.rejects(client.createPersistentSubscriptionToAll('readers', persistentSubscriptionToAllSettingsFromDefaults()), UnsupportedError);
  await assert.rejects(client.createPersistentSubscriptionToStream(newStream(), 'readers', persistentSubscriptionToStreamSettingsFromDefaults()), (err) => {
    assert.equal(err.code, 12, err.stack); // UNIMPLEMENTED
    assert.match(err.message, /subscri/i);
    return true;
  });
});

test('a subscriber that does not read for a while misses nothing', async () => {
  const name = newStream('flood');
  const [total, batch] = [20_000, 500];
  const subscription = client.subscribeToAll({ fromPosition: END, filter: streamNameFilter({ prefixes: [name] }) });
  const caughtUp = happens(subscription, 'caughtUp');
  subscription.resume();
  await caughtUp;
  subscription.pause();
  // Far more than the buffers between the two hold.
  const text = 'x'.repeat(1000);
  for (let n = 0; n < total; n += batch) {
    await client.appendToStream(name, Array.from({ length: batch }, (_, i) => jsonEvent({ type: 'flooded', data: { n: n + i, text } })));
  }
  const events = await take(subscription, total);
  events.forEach(({ event }, n) => {
    if (event.data.n !== n || event.revision !== BigInt(n)) assert.fail(`event ${n} is number ${event.data.n} at revision ${event.revision}`);
  });
  await subscription.unsubscribe();
});

test('a cluster of one is found by gossip', async () => {
  const found = EventStoreDBClient.connectionString(`esdb+discover://${parley.addresses.eventstore}?tls=false`);
  const name = newStream();
  await found.appendToStream(name, numbered(1));
  assert.deepEqual(numbers(await all(found.readStream(name))), [0]);
  await found.dispose();
});

test('the end of the process ends subscriptions so that clients connect anew', async () => {
  const own = await startParley('--eventstore-listen', any);
  const theirs = EventStoreDBClient.connectionString(`esdb://${own.addresses.eventstore}?tls=false`);
  const subscription = theirs.subscribeToAll();
  const caughtUp = happens(subscription, 'caughtUp');
  subscription.resume();
  await caughtUp;
  const ended = new Promise((resolve) => { subscription.once('error', resolve); });
  await own.stop();
  const err = await ended;
  assert.ok(err instanceof UnavailableError, err.stack);
  await theirs.dispose();
});
