// An event store in a process of its own, over EventStoreDB's protocol, that is
// killed at random moments and started again.
import { spawn } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

const leastBetweenKills = 500;
const mostBetweenKills = 2500;

/** Whether the tests' event store is to be elsewhere. */
export const elsewhere = process.env.PARLEY_TEST_EVENT_STORE === 'esdb';

/**
 * Starts it in a folder and returns its URL, and how to end it, which says how
 * often it was killed.
 */
export async function startEventStore(bin, dir) {
  const address = `127.0.0.1:${await freePort()}`;
  const ready = join(dir, 'log-ready.json');
  const start = async () => {
    rmSync(ready, { force: true });
    const child = spawn(
      bin,
      ['serve', 'log', '--data-dir', join(dir, 'log'), '--ready-file', ready, '--eventstore-listen', address, '--admin-listen', '127.0.0.1:0'],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let said = '';
    child.stderr.on('data', (chunk) => { said += chunk; });
    const exited = new Promise((resolve) => { child.on('exit', resolve); });
    while (!existsSync(ready)) {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`parley serve log ended with ${child.exitCode ?? child.signalCode}:\n${said}`);
      await wait(10);
    }
    return async () => {
      child.kill('SIGKILL');
      await exited;
    };
  };

  let kill = await start();
  let kills = 0;
  let ending = false;
  let wake = () => {};
  const killing = (async () => {
    for (;;) {
      await Promise.race([
        wait(leastBetweenKills + Math.random() * (mostBetweenKills - leastBetweenKills)),
        new Promise((resolve) => { wake = resolve; }),
      ]);
      if (ending) return;
      await kill();
      kills += 1;
      kill = await start();
    }
  })();
  // Whatever it fails with is told by end.
  killing.catch(() => {});
  return {
    url: `esdb://${address}?tls=false`,
    async end() {
      ending = true;
      wake();
      await killing;
      await kill();
      return kills;
    },
  };
}

const wait = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

/**
 * A port that is free, and that the system gives to nobody who asks for any or
 * connects from one: a client that dials a dead one of those may be given that
 * very port.
 */
async function freePort() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_768);
    const server = createServer();
    const free = await new Promise((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (free) {
      await new Promise((resolve) => { server.close(resolve); });
      return port;
    }
  }
}
