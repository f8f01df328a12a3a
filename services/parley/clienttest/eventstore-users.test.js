// The real @eventstore/db-client with users, over TLS.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { AccessDeniedError, EventStoreDBClient, jsonEvent, streamNameFilter } from '@eventstore/db-client';
import { makeCertificate } from './certificate.js';
import { startParley } from './parley.js';

let parley;
let certificate;
let dir;
const passwords = {};
const clients = [];

before(async () => {
  certificate = makeCertificate();
  dir = mkdtempSync(join(tmpdir(), 'parley-users-'));
  const users = [['analyst', {}], ['integrator', { write: true }], ['acme', { tenant: 'acme' }]].map(([name, more]) => {
    const made = execFileSync(process.env.PARLEY_BIN, ['key', 'new', '--name', name], { encoding: 'utf8' });
    [passwords[name]] = made.split('\n');
    return { name, hash: made.match(/hash: (\S+)/)[1], ...more };
  });
  const config = join(dir, 'parley.yaml');
  // JSON is YAML.
  writeFileSync(config, JSON.stringify({ 'eventstore-users': users, 'write-keys': [{ key: 'dev', tenant: 'default', source: 'site' }, { key: 'dev-acme', tenant: 'acme', source: 'site' }] }));
  parley = await startParley('--config', config, '--eventstore-listen', '127.0.0.1:0', '--eventstore-tls-cert', certificate.cert, '--eventstore-tls-key', certificate.key);
  for (const [writeKey, userId] of [['dev', 'u-default'], ['dev-acme', 'u-acme']]) {
    const answer = await fetch(`${parley.url}/v1/track`, {
      method: 'POST', headers: { authorization: `Basic ${Buffer.from(`${writeKey}:`).toString('base64')}` }, body: JSON.stringify({ userId, event: 'Seen' }),
    });
    assert.equal(answer.status, 200);
  }
});
after(async () => {
  await Promise.all(clients.map((client) => client.dispose()));
  await parley?.stop();
  certificate?.remove();
  if (dir) rmSync(dir, { recursive: true, force: true });
});

function connect(user, password = passwords[user]) {
  const who = user ? `${user}:${encodeURIComponent(password)}@` : '';
  const client = EventStoreDBClient.connectionString(`esdb://${who}${parley.addresses.eventstore}?tls=true&tlsCAFile=${encodeURIComponent(certificate.cert)}`);
  clients.push(client);
  return client;
}

const note = () => jsonEvent({ type: 'noted', data: {} });

async function names(read) {
  const streams = new Set();
  for await (const { event } of read) streams.add(event.streamId);
  return [...streams];
}

/** The first events of a tenant, as a user sees them. */
async function first(client, prefix) {
  const subscription = client.subscribeToAll({ filter: streamNameFilter({ prefixes: [prefix] }) });
  for await (const { event } of subscription) {
    await subscription.unsubscribe();
    return event;
  }
  throw new Error(`no event of ${prefix}`);
}

test('nobody comes in without his password', async () => {
  for (const [who, client] of [['a wrong password', connect('analyst', 'wrong')], ['nobody', connect()], ['an unknown user', connect('stranger', 'x')]]) {
    await assert.rejects(names(client.readAll()), AccessDeniedError, who);
    await assert.rejects(client.appendToStream('note-1', note()), AccessDeniedError, who);
    await assert.rejects(client.deleteStream('note-1'), AccessDeniedError, who);
    await assert.rejects(first(client, 'default.'), AccessDeniedError, who);
  }
});

test('credentials of a call win over those of the connection', async () => {
  const client = connect('analyst', 'wrong');
  await first(connect('analyst'), 'default.');
  assert.ok((await names(client.readAll({ credentials: { username: 'analyst', password: passwords.analyst } }))).length > 0);
});

test('who may only read, reads', async () => {
  const client = connect('analyst');
  for (const tenant of ['default', 'acme']) assert.ok((await first(client, `${tenant}.`)).streamId.startsWith(`${tenant}.`));
  await assert.rejects(client.appendToStream('note-1', note()), AccessDeniedError);
  await assert.rejects(client.appendToStream('note-1', note(), { credentials: { username: 'analyst', password: passwords.analyst } }), AccessDeniedError);
  await assert.rejects(client.tombstoneStream('note-1'), AccessDeniedError);
});

test('who may write, writes what is not Parley\'s', async () => {
  const client = connect('integrator');
  assert.equal((await client.appendToStream('note-2', note(), { expectedRevision: 'no_stream' })).nextExpectedRevision, 0n);
  assert.deepEqual(await names(client.readStream('note-2')), ['note-2']);
  await assert.rejects(client.appendToStream('default.identity', note()), AccessDeniedError);
});

test('a user of one tenant sees nothing of another', async () => {
  const client = connect('acme');
  const { streamId } = await first(client, 'acme.');
  const foreign = (await first(connect('analyst'), 'default.')).streamId;
  const seen = await names(client.readAll());
  assert.ok(seen.includes(streamId));
  assert.deepEqual(seen.filter((name) => !name.startsWith('acme.')), []);
  await assert.rejects(names(client.readStream(foreign)), (err) => {
    assert.ok(err instanceof AccessDeniedError || err.type === 'stream-not-found', err.stack);
    return true;
  });
});
