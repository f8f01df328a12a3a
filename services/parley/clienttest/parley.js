// Starts a Parley of its own for a test file and asks it through its command
// line, as a user would.
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, existsSync, rmSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { elsewhere, startEventStore } from './elsewhere.js';

const run = promisify(execFile);
const bin = process.env.PARLEY_BIN;
if (!bin) throw new Error('PARLEY_BIN must name the parley binary; `make test-clients` sets it');

/** Waits until probe answers something truthy, at most 30 seconds. */
export async function eventually(what, probe) {
  const deadline = Date.now() + 30_000;
  let last;
  while (Date.now() < deadline) {
    try {
      const answer = await probe();
      if (answer) return answer;
    } catch (err) {
      last = err;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited in vain for ${what}${last ? `: ${last.stack}` : ''}`);
}

/** Starts a Parley with more flags behind; `{dir}` in them is a folder of its own. */
export async function startParley(...flags) {
  const dir = mkdtempSync(join(tmpdir(), 'parley-clients-'));
  const ready = join(dir, 'ready.json');
  const any = '127.0.0.1:0';
  const store = elsewhere ? await startEventStore(bin, dir) : undefined;
  const child = spawn(
    bin,
    ['serve', '--data-dir', join(dir, 'data'), '--ready-file', ready,
      '--grpc-listen', any, '--http-listen', any, '--smtp-listen', any, '--admin-listen', any, '--nats-listen', any,
      ...(store ? ['--event-store', store.url] : []), ...flags],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let log = '';
  child.stderr.on('data', (chunk) => { log += chunk; });
  const exited = new Promise((resolve) => child.on('exit', resolve));
  try {
    await eventually('parley serve to be ready', () => {
      if (child.exitCode !== null) throw new Error(`parley serve ended with ${child.exitCode}:\n${log}`);
      return existsSync(ready);
    });
  } catch (err) {
    child.kill('SIGKILL');
    await store?.end();
    throw err;
  }
  const addresses = JSON.parse(readFileSync(ready, 'utf8'));

  const parley = {
    addresses,
    url: `http://${addresses.http}`,
    smtp: { host: addresses.smtp?.replace(/:\d+$/, ''), port: Number(addresses.smtp?.match(/\d+$/)) },
    log: () => log,
    /** Runs a client command and returns its JSON answer. */
    async ask(...args) {
      const { stdout } = await run(bin, [...args, '--addr', addresses.grpc, '-o', 'json'], { maxBuffer: 64 << 20 });
      return JSON.parse(stdout);
    },
    /** Runs a client command and returns what it prints. */
    async run(...args) {
      const { stdout } = await run(bin, [...args, '--addr', addresses.grpc], { maxBuffer: 64 << 20 });
      return stdout;
    },
    /** The customer behind an identifier, or nothing. */
    async customer(flag, value) {
      try {
        const answer = await parley.ask('customer', 'get', flag, value);
        return answer.customer ?? answer.matches?.[0]?.customer;
      } catch (err) {
        if (err.code === 1) return undefined; // not found
        throw err;
      }
    },
    async timeline(flag, value) {
      const answer = await parley.ask('customer', 'timeline', flag, value);
      return answer.interactions ?? [];
    },
    async stop() {
      child.kill('SIGTERM');
      const code = await exited;
      const kills = await store?.end();
      rmSync(dir, { recursive: true, force: true });
      if (store) console.log(`the event store was killed ${kills} times`);
      if (code !== 0) throw new Error(`parley serve ended with ${code}:\n${log}`);
    },
  };
  return parley;
}

/**
 * A proxy before the gateway that forwards every request, and then hides the
 * answer of the first one to each path behind a 503: what a sender sees when
 * the connection breaks after the work was done.
 */
export async function forgetfulProxy(target) {
  const { hostname, port } = new URL(target);
  const seen = new Set();
  let hidden = 0;
  const server = createServer((incoming, outgoing) => {
    const forward = request(
      { hostname, port, path: incoming.url, method: incoming.method, headers: incoming.headers },
      (answer) => {
        const key = `${incoming.method} ${incoming.url}`;
        if (!seen.has(key)) {
          seen.add(key);
          hidden += 1;
          answer.resume();
          answer.on('end', () => {
            outgoing.writeHead(503, { 'Retry-After': '0' });
            outgoing.end();
          });
          return;
        }
        outgoing.writeHead(answer.statusCode, answer.headers);
        answer.pipe(outgoing);
      },
    );
    forward.on('error', () => outgoing.destroy());
    incoming.pipe(forward);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    hidden: () => hidden,
    stop: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }),
  };
}

/** The timeline's types in order of time, the oldest first. */
export const types = (timeline) => timeline.map((i) => i.type.replace(/^parley\./, '')).reverse();
