// The real @rudderstack/rudder-sdk-node: gzip labelled as a form,
// originalTimestamp, and its own retries.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import RudderAnalytics from '@rudderstack/rudder-sdk-node';
import { eventually, forgetfulProxy, startParley, types } from './parley.js';

let parley;
before(async () => { parley = await startParley(); });
after(async () => { await parley?.stop(); });

const at = (minute) => new Date(Date.UTC(2026, 2, 3, 9, minute));

async function send(url, options, calls) {
  const client = new RudderAnalytics('dev', { dataPlaneUrl: url, flushAt: 10, flushInterval: 100, logLevel: 'error', ...options });
  for (const [method, message] of calls) client[method](message);
  await new Promise((resolve, reject) => {
    client.flush((err) => (err ? reject(err) : resolve()));
  });
  return client;
}

for (const gzip of [true, false]) {
  test(`a person on two devices is one customer (gzip ${gzip})`, async () => {
    const id = `u-rudder-${gzip}`;
    await send(parley.url, { gzip }, [
      ['page', { anonymousId: `${id}-phone`, name: 'Home', timestamp: at(0), properties: { url: 'https://shop.example/?utm_source=news&utm_medium=email&utm_campaign=spring' } }],
      ['identify', { userId: id, anonymousId: `${id}-phone`, timestamp: at(1), traits: { email: `${id}@example.org` } }],
      ['track', { userId: id, event: 'Order Completed', timestamp: at(2), properties: { order_id: `${id}-o1`, total: 12.5, currency: 'EUR' } }],
      ['identify', { userId: id, anonymousId: `${id}-laptop`, timestamp: at(3) }],
      ['track', { userId: id, anonymousId: `${id}-laptop`, event: 'Signed In', timestamp: at(4) }],
    ]);
    const customer = await eventually('the order and the second device', async () => {
      const found = await parley.customer('--email', `${id}@example.org`);
      return Number(found?.orders?.count) === 1 && found.identifiers.some((i) => i.value === `${id}-laptop`) && Number(found.interactionCount) >= 5 && found;
    });
    assert.deepEqual(
      new Set(customer.identifiers.map((i) => i.value)),
      new Set([id, `${id}-phone`, `${id}-laptop`, `${id}@example.org`]),
    );
    const seen = types(await parley.timeline('--user-id', id)).filter((type) => type !== 'touchpoint.recorded');
    assert.deepEqual(seen, ['page.viewed', 'traits.updated', 'order.completed', 'traits.updated', 'tracked']);
  });
}

test('nothing is doubled when the answer is lost and the client sends again', async () => {
  const proxy = await forgetfulProxy(parley.url);
  const calls = Array.from({ length: 10 }, (_, i) => ['track', { userId: 'u-rudder-retry', event: `Step ${i}`, timestamp: at(i) }]);
  await send(proxy.url, {}, calls);
  assert.ok(proxy.hidden() >= 1, 'the proxy hid at least one answer');
  await proxy.stop();
  const customer = await eventually('ten interactions', async () => {
    const found = await parley.customer('--user-id', 'u-rudder-retry');
    return Number(found?.interactionCount) >= 10 && found;
  });
  assert.equal(Number(customer.interactionCount), 10);
});
