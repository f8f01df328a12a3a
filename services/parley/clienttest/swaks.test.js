// Debian's swaks, the Swiss Army Knife for SMTP.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { makeCertificate } from './certificate.js';
import { eventually, startParley } from './parley.js';

let parley;
let certificate;
before(async () => {
  certificate = makeCertificate();
  parley = await startParley(
    '--smtp-tls-cert', certificate.cert, '--smtp-tls-key', certificate.key, '--smtp-require-tls', '--mail-authentication=false',
    '--mail-addresses', 'address=@parley.local,tenant=default', '--mail-addresses', 'address=support@shop.example,tenant=default,queue=support',
  );
});
after(async () => {
  await parley?.stop();
  certificate?.remove();
});

/** Runs swaks and gives its exit code and what it printed. */
const swaks = (...args) => new Promise((resolve) => {
  execFile('swaks', ['--server', parley.addresses.smtp, '--timeout', '30', ...args], (err, stdout, stderr) => {
    resolve({ code: err?.code ?? 0, output: stdout + stderr });
  });
});

test('over TLS to both addresses', async () => {
  const { code, output } = await swaks(
    '--tls', '--from', 'ada@example.org', '--to', 'info@parley.local,support@shop.example',
    '--header', 'Subject: Hello from swaks', '--body', 'One mail to two addresses.',
  );
  assert.equal(code, 0, output);
  for (const word of ['STARTTLS', 'SIZE', '8BITMIME', 'SMTPUTF8', 'PIPELINING']) assert.match(output, new RegExp(word));
  const found = await eventually('the mail', async () => {
    const list = await parley.timeline('--email', 'ada@example.org');
    return list.length > 0 && list;
  });
  assert.equal(found.length, 1, 'two recipients of one tenant get it once');
});

test('pipelined', async () => {
  const { code, output } = await swaks('--tls', '--pipeline', '--from', 'pipe@example.org', '--to', 'info@parley.local', '--body', 'Pipelined.');
  assert.equal(code, 0, output);
  await eventually('the mail', async () => (await parley.timeline('--email', 'pipe@example.org')).length === 1);
});

test('refusals', async () => {
  // swaks: 24 for a recipient that was refused, 23 for a sender.
  const unknown = await swaks('--tls', '--from', 'ada@example.org', '--to', 'nobody@elsewhere.example');
  assert.equal(unknown.code, 24, unknown.output);
  assert.match(unknown.output, /550 5\.1\.1/);
  const plain = await swaks('--from', 'ada@example.org', '--to', 'info@parley.local');
  assert.equal(plain.code, 23, plain.output);
  assert.match(plain.output, /530 5\.7\.0/);
});
