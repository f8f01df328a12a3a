// The real nodemailer.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { connect as connectSocket } from 'node:net';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { Analytics } from '@segment/analytics-node';
import nodemailer from 'nodemailer';
import { makeCertificate } from './certificate.js';
import { eventually, startParley } from './parley.js';

let parley;
let certificate;
before(async () => {
  certificate = makeCertificate();
  parley = await startParley(
    '--smtp-tls-cert', certificate.cert, '--smtp-tls-key', certificate.key,
    '--mail-authentication=false', '--mail-trusted-servers', 'id=mx.shop.example,fields=1',
  );
});
after(async () => {
  await parley?.stop();
  certificate?.remove();
});

const transport = (options = {}) => nodemailer.createTransport({
  ...parley.smtp, secure: false, tls: { ca: certificate.ca, servername: '' }, ...options,
});
const mails = async (address) => (await parley.timeline('--email', address)).filter((i) => i.type === 'parley.email.received');
const oneMail = (address) => eventually(`a mail of ${address}`, async () => {
  const found = await mails(address);
  return found.length > 0 && found;
});

test('a person who browses, identifies, orders and then writes a mail is one customer', async () => {
  const analytics = new Analytics({ writeKey: 'dev', host: parley.url, flushAt: 20, flushInterval: 100 });
  analytics.page({ anonymousId: 'anon-mail-1', name: 'Home', properties: { url: 'https://shop.example/', path: '/' } });
  analytics.identify({ anonymousId: 'anon-mail-1', userId: 'u-mail', traits: { email: 'Grace@Example.org', firstName: 'Grace' } });
  analytics.track({ userId: 'u-mail', event: 'Order Completed', properties: { order_id: 'm-1', total: 12, currency: 'EUR' } });
  await analytics.closeAndFlush({ timeout: 20_000 });
  await transport().sendMail({
    from: '"Grace H." <grace@example.org>', to: 'help@parley.local', subject: 'Where is my order?', text: 'It was to come today.',
  });
  const customer = await eventually('all four interactions', async () => {
    const found = await parley.customer('--user-id', 'u-mail');
    return Number(found?.interactionCount) >= 4 && found;
  });
  assert.deepEqual(customer.channels.map((c) => c.channel), ['email', 'web']);
  assert.equal((await parley.customer('--email', 'grace@example.org')).customerId, customer.customerId);
});

test('a mail whose check failed is a claim beside the customer, never his', async () => {
  const analytics = new Analytics({ writeKey: 'dev', host: parley.url, flushAt: 20, flushInterval: 100 });
  analytics.identify({ userId: 'u-claimed', traits: { email: 'victim@example.org', firstName: 'Vic' } });
  await analytics.closeAndFlush({ timeout: 20_000 });
  // Our own server in front says what it found.
  const checked = (result, text) => transport().sendMail({
    from: 'victim@example.org', to: 'help@parley.local', subject: text, text,
    headers: { 'Authentication-Results': `mx.shop.example; dmarc=${result} header.from=example.org` },
  });
  await checked('pass', 'This is me');
  await checked('fail', 'Send the money elsewhere');
  const customer = await eventually('the customer with his own mail', async () => {
    const found = await parley.customer('--user-id', 'u-claimed');
    return Number(found?.interactionCount) === 2 && found;
  });
  const answer = await eventually('the claim', async () => {
    const found = await parley.ask('customer', 'get', '--id', customer.customerId);
    return found.claims?.length > 0 && found;
  });
  assert.equal(answer.claims[0].value, 'victim@example.org');
  assert.notEqual(answer.claims[0].customerId, customer.customerId);
  const subjects = (list) => list.map((i) => i.summary).join(' ');
  assert.match(subjects(await parley.timeline('--user-id', 'u-claimed')), /This is me/);
  assert.doesNotMatch(subjects(await parley.timeline('--user-id', 'u-claimed')), /money/);
  assert.match(subjects(await parley.timeline('--id', answer.claims[0].customerId)), /money/);
});

test('TLS, alternatives, attachments, UTF-8 addresses, answers in their thread', async () => {
  const mailer = transport({ requireTLS: true });
  const from = 'jörg@bücher.example';
  const first = await mailer.sendMail({
    from, to: 'hilfe@parley.local', subject: 'Grüße 👋', text: 'Schöne Grüße aus Köln', html: '<p>Schöne <b>Grüße</b> aus Köln</p>',
    attachments: [{ filename: 'Rechnung März.pdf', content: Buffer.from('%PDF-1.7 not really') }],
  });
  assert.deepEqual(first.accepted, ['hilfe@parley.local']);
  await mailer.sendMail({
    from, to: 'hilfe@parley.local', subject: 'Re: Grüße 👋', text: 'Noch etwas.', inReplyTo: first.messageId, references: [first.messageId],
  });
  const found = await eventually('both mails', async () => {
    const list = await mails('jörg@bücher.example');
    return list.length === 2 && list;
  });
  assert.equal(new Set(found.map((m) => m.conversation)).size, 1, 'one conversation');
  // A Date header counts in seconds, so the two may stand in either order.
  const letter = found.find((m) => m.summary.includes('Grüße 👋') && !m.summary.includes('Re:'));
  assert.ok(letter, JSON.stringify(found));

  // As it came, and what was attached.
  const { eventId } = letter;
  assert.match(await parley.run('mail', 'raw', eventId), /^Subject: =\?UTF-8\?/m);
  const { attachments } = await parley.ask('mail', 'attachments', eventId);
  assert.equal(attachments.length, 1);
  assert.equal(attachments[0].fileName, 'Rechnung März.pdf');
});

test('a mail of 20 MB arrives once, also when it is sent twice', async () => {
  const mail = {
    from: 'big@example.org', to: 'help@parley.local', subject: 'Photos', text: 'See the photos.', messageId: '<big-1@example.org>', date: new Date(),
    attachments: [{ filename: 'photos.zip', content: randomBytes(15 * 1024 * 1024) }], // 20 MB in base64
  };
  await transport().sendMail(mail);
  await transport().sendMail(mail);
  await oneMail('big@example.org');
  await transport().sendMail({ from: 'big@example.org', to: 'help@parley.local', text: 'And one behind it.' });
  const found = await eventually('the mail behind', async () => {
    const list = await mails('big@example.org');
    return list.length >= 2 && list;
  });
  assert.equal(found.length, 2);
});

test('what is not taken is refused at once', async () => {
  await assert.rejects(
    transport().sendMail({ from: 'a@example.org', to: 'somebody@elsewhere.example', text: 'relay?' }),
    (err) => err.responseCode === 550,
  );
  await assert.rejects(
    transport().sendMail({ from: 'a@example.org', to: 'help@parley.local', attachments: [{ filename: 'x', content: Buffer.alloc(40 * 1024 * 1024) }] }),
    (err) => err.responseCode === 552,
  );
});

test('a pool of connections loses nothing', async () => {
  const pool = transport({ pool: true, maxConnections: 5, maxMessages: 20 });
  const count = 100;
  await Promise.all(Array.from({ length: count }, (_, i) => pool.sendMail({
    from: 'pool@example.org', to: 'help@parley.local', subject: `Mail ${i}`, text: `Number ${i}`,
  })));
  pool.close();
  await eventually('all of them', async () => Number((await parley.customer('--email', 'pool@example.org'))?.interactionCount) === count);
});

/** Speaks SMTP up to the body and gives the socket. */
async function beginMail(from) {
  const socket = connectSocket(parley.smtp.port, parley.smtp.host);
  socket.setEncoding('utf8');
  const expect = async (code) => {
    let answer = '';
    while (!new RegExp(`^${code} .*\\r\\n`, 'm').test(answer)) {
      const [chunk] = await once(socket, 'data');
      answer += chunk;
    }
  };
  await expect(220);
  for (const [line, code] of [['EHLO client.example', 250], [`MAIL FROM:<${from}>`, 250], ['RCPT TO:<help@parley.local>', 250], ['DATA', 354]]) {
    socket.write(`${line}\r\n`);
    await expect(code);
  }
  return { socket, expect };
}

test('a client that hangs up in the middle leaves nothing, and one that does not wait for the answer is not doubled', async () => {
  const head = 'From: hangup@example.org\r\nTo: help@parley.local\r\nMessage-ID: <hangup@example.org>\r\nDate: Mon, 2 Mar 2026 09:00:00 +0000\r\nSubject: Half\r\n\r\n';
  const half = await beginMail('hangup@example.org');
  half.socket.write(`${head}This is the first half`);
  half.socket.destroy();

  const hasty = await beginMail('hangup@example.org');
  hasty.socket.write(`${head}Whole.\r\n.\r\n`);
  hasty.socket.end();
  hasty.socket.on('error', () => {});
  await once(hasty.socket, 'close');

  const again = await beginMail('hangup@example.org');
  again.socket.write(`${head}Whole.\r\n.\r\n`);
  await again.expect(250);
  again.socket.end('QUIT\r\n');

  await oneMail('hangup@example.org');
  await transport().sendMail({ from: 'hangup@example.org', to: 'help@parley.local', text: 'And one behind it.' });
  const found = await eventually('the mail behind', async () => {
    const list = await mails('hangup@example.org');
    return list.length >= 2 && list;
  });
  assert.equal(found.length, 2);
});
