// The real @segment/analytics-node.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Analytics } from '@segment/analytics-node';
import { eventually, forgetfulProxy, startParley, types } from './parley.js';

let parley;
before(async () => { parley = await startParley(); });
after(async () => { await parley?.stop(); });

const connect = (host) => new Analytics({ writeKey: 'dev', host, maxRetries: 5, flushAt: 20, flushInterval: 100 });
const at = (minute) => new Date(Date.UTC(2026, 2, 2, 9, minute));

test('a person who browses, identifies, orders and comes back on another device is one customer', async () => {
  const analytics = connect(parley.url);
  const phone = 'anon-phone-1';
  const laptop = 'anon-laptop-1';
  analytics.page({ anonymousId: phone, name: 'Home', timestamp: at(0), properties: { url: 'https://shop.example/', path: '/' } });
  analytics.track({ anonymousId: phone, event: 'Product Viewed', timestamp: at(1), properties: { product_id: 'p1' } });
  analytics.identify({ anonymousId: phone, userId: 'u-ada', timestamp: at(2), traits: { email: 'Ada@Example.org', firstName: 'Ada', phone: '+43 1 58858' } });
  analytics.track({
    userId: 'u-ada', anonymousId: phone, event: 'Order Completed', timestamp: at(3),
    properties: { order_id: 'o-1001', total: 39.9, currency: 'EUR', products: [{ product_id: 'p1', quantity: 2, price: 19.95 }] },
  });
  analytics.page({ anonymousId: laptop, name: 'Home', timestamp: at(10), properties: { url: 'https://shop.example/', path: '/' } });
  analytics.identify({ anonymousId: laptop, userId: 'u-ada', timestamp: at(11) });
  analytics.track({ userId: 'u-ada', event: 'Order Completed', timestamp: at(12), properties: { order_id: 'o-1002', total: '10.10', currency: 'EUR' } });
  await analytics.closeAndFlush({ timeout: 20_000 });

  const customer = await eventually('all seven interactions', async () => {
    const found = await parley.customer('--user-id', 'u-ada');
    return Number(found?.interactionCount) >= 7 && found;
  });
  assert.equal(Number(customer.interactionCount), 7);
  assert.equal(customer.displayName, 'Ada');
  assert.equal(Number(customer.orders.count), 2);
  assert.deepEqual(customer.orders.totals, [{ currencyCode: 'EUR', units: '50' }]);
  assert.deepEqual(
    new Set(customer.identifiers.map((i) => `${i.kind}=${i.value}`)),
    new Set([`anonymous_id=${phone}`, `anonymous_id=${laptop}`, 'user_id=u-ada', 'email=ada@example.org', 'phone=+43158858']),
  );

  for (const [flag, value] of [['--anonymous-id', phone], ['--anonymous-id', laptop], ['--email', 'ada@example.org'], ['--phone', '+43158858'], ['--id', customer.profileIds.at(-1)]]) {
    const same = await parley.customer(flag, value);
    assert.equal(same?.customerId, customer.customerId, `${flag} ${value}`);
  }
  assert.deepEqual(types(await parley.timeline('--user-id', 'u-ada')), [
    'page.viewed', 'tracked', 'traits.updated', 'order.completed', 'page.viewed', 'traits.updated', 'order.completed',
  ]);
});

test('nothing is doubled when the answer is lost and the client sends again', async () => {
  const proxy = await forgetfulProxy(parley.url);
  const analytics = connect(proxy.url);
  for (let i = 0; i < 40; i += 1) {
    analytics.track({ userId: 'u-retry', event: `Step ${i}`, timestamp: at(i) });
  }
  await analytics.closeAndFlush({ timeout: 30_000 });
  assert.ok(proxy.hidden() >= 1, 'the proxy hid at least one answer');
  await proxy.stop();
  const customer = await eventually('forty interactions', async () => {
    const found = await parley.customer('--user-id', 'u-retry');
    return Number(found?.interactionCount) >= 40 && found;
  });
  assert.equal(Number(customer.interactionCount), 40);
});

test('group and alias carry affiliation and identity', async () => {
  const analytics = connect(parley.url);
  analytics.identify({ userId: 'u-grace', timestamp: at(0), traits: { name: 'Grace' } });
  analytics.group({ userId: 'u-grace', groupId: 'acme', timestamp: at(1), traits: { name: 'Acme Ltd' } });
  analytics.alias({ userId: 'u-grace', previousId: 'anon-grace', timestamp: at(2) });
  await analytics.closeAndFlush({ timeout: 20_000 });
  const customer = await eventually('the affiliation and the alias', async () => {
    const found = await parley.customer('--anonymous-id', 'anon-grace');
    return found?.affiliations?.length > 0 && found;
  });
  assert.equal(customer.displayName, 'Grace');
  assert.equal(customer.affiliations[0].organisationId, 'acme');
});

test('a bad batch keeps its good events and names the bad ones', async () => {
  const batch = [
    { type: 'track', event: 'Good one', userId: 'u-mixed', messageId: 'm-1' },
    { type: 'track', event: 'Nobody', messageId: 'm-2' },
    { type: 'dance', userId: 'u-mixed', messageId: 'm-3' },
    { type: 'track', event: 'Good two', userId: 'u-mixed', messageId: 'm-4' },
    { type: 'track', event: 'Long id', userId: 'u-mixed', messageId: 'x'.repeat(101) },
  ];
  const answer = await fetch(`${parley.url}/v1/batch`, {
    method: 'POST',
    headers: { Authorization: `Basic ${Buffer.from('dev:').toString('base64')}` },
    body: JSON.stringify({ batch }),
  });
  assert.equal(answer.status, 200);
  const body = JSON.stringify(await answer.json());
  for (const messageId of ['m-1', 'm-4']) assert.ok(!body.includes(`"${messageId}"`), body);
  const customer = await eventually('the two good ones', async () => {
    const found = await parley.customer('--user-id', 'u-mixed');
    return Number(found?.interactionCount) >= 2 && found;
  });
  assert.equal(Number(customer.interactionCount), 2);
});

test('an unknown write key is refused', async () => {
  const analytics = new Analytics({ writeKey: 'nobody', host: parley.url, maxRetries: 0 });
  const failures = [];
  analytics.on('error', (err) => failures.push(err));
  analytics.track({ userId: 'u-refused', event: 'Lost' });
  await analytics.closeAndFlush({ timeout: 10_000 });
  assert.equal(failures.length, 1);
  assert.equal(await parley.customer('--user-id', 'u-refused'), undefined);
});
