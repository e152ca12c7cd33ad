// The test client on the TypeScript SDK: runs the steps against one server and prints one JSON line for each.
import { randomBytes } from 'node:crypto';
import { PrivateKeySigner } from '@contextvm/sdk/signer';
import { NostrClientTransport } from '@contextvm/sdk/transport';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { z } from 'zod';
import { readOptions } from './options.mjs';
import { Steps, check, pause } from './steps.mjs';

const options = readOptions(['server']);
const signer = new PrivateKeySigner(options.key ?? randomBytes(32).toString('hex'));
const me = await signer.getPublicKey();
const transport = new NostrClientTransport({
  signer,
  serverPubkey: options.server,
  relayHandler: options.relay.length > 0 ? options.relay : undefined,
  // Without a relay the server's own list says where it is (CEP-17).
  discoveryRelayUrls: options.discovery,
  isStateless: options.stateless,
  ...options.wireOptions,
  logLevel: process.env.LOG_LEVEL ?? 'silent',
});
const client = new Client(
  { name: 'interop-ts-client', version: '1.0.0' },
  { capabilities: { roots: { listChanged: true } } },
);
const steps = new Steps(options);
// Progress is heard below the library, which loses what is right ahead of the answer.
const open = new Map();
const send = transport.send.bind(transport);
transport.send = (message, ...more) => {
  if (message.params?._meta?.progressToken !== undefined) open.set(message.id, { token: message.params._meta.progressToken, heard: [] });
  return send(message, ...more);
};
transport.onmessage = ({ id, method, params }) => {
  if (method === undefined) open.delete(id);
  if (method !== 'notifications/progress') return;
  const request = [...open.values()].find(({ token }) => token === params.progressToken);
  request?.heard.push(`${params.progress}/${params.total}`);
};
const textOf = (result) => result.content?.[0]?.text;
const call = (name, args = {}, settings = {}) =>
  client.callTool({ name, arguments: args }, undefined, { timeout: options.timeout, ...settings });

await steps.run(
  'connect',
  async () => {
    await client.connect(transport, { timeout: options.timeout });
    return client.getServerVersion()?.name;
  },
  { needed: true },
);
await steps.run('list', async () => {
  const names = (await client.listTools()).tools.map((tool) => tool.name);
  const missing = ['echo', 'add', 'slow-with-progress', 'whoami', 'fail'].filter((name) => !names.includes(name));
  check(missing.length === 0, `tools missing: ${missing}`);
  return names;
});
await steps.run('call', async () => {
  const message = 'zażółć "gęślą" \\ jaźń \u{1F980}\nsecond line';
  check(textOf(await call('echo', { message })) === message, 'echo differs');
  const sum = textOf(await call('add', { a: 19, b: 23 }));
  check(sum === '42', `19 + 23 = ${sum}`);
});
if (options.only.includes('hold')) await steps.hold();
await steps.run('large', async () => {
  const message = 'x'.repeat(20_000);
  check(textOf(await call('echo', { message })) === message, 'echo differs');
});
await steps.run('parallel', async () => {
  const sums = await Promise.all(Array.from({ length: 16 }, (_, a) => call('add', { a, b: 1000 })));
  sums.forEach((sum, a) => check(textOf(sum) === String(a + 1000), `call ${a} got ${textOf(sum)}`));
});
await steps.run('progress', async () => {
  const answer = call('slow-with-progress', { steps: 3, delay_ms: 100 }, { onprogress: () => {} });
  const { heard } = [...open.values()].at(-1);
  const result = await answer;
  check(textOf(result) === '3 steps', textOf(result));
  check(heard.join() === '1/3,2/3,3/3', `progress heard: ${heard}`);
  return heard;
});
await steps.run('unknown-method', async () => {
  const code = await client.request({ method: 'no/such/method' }, z.any()).then(
    () => 'answered',
    (error) => error.code,
  );
  check(code === -32601, `expected -32601, got ${code}`);
});
await steps.run('unknown-tool', async () => {
  const outcome = await call('no-such-tool').then(
    (result) => (result.isError ? 'isError' : 'answered'),
    (error) => error.code,
  );
  check(outcome === 'isError' || outcome === -32602 || outcome === -32601, `got ${outcome}`);
  return outcome;
});
await steps.run('tool-failure', async () => {
  const result = await call('fail');
  check(result.isError === true && textOf(result) === 'failed on purpose', result);
});
await steps.run('whoami', async () => {
  const name = textOf(await call('whoami'));
  check(name === me, `server sees ${name}, client is ${me}`);
});
await steps.run('ping', async () => {
  await client.ping({ timeout: options.timeout });
});
await steps.run('notification', async () => {
  const count = async () => JSON.parse(textOf(await call('notifications-seen'))).roots_changed;
  const before = await count();
  await client.sendRootsListChanged();
  await pause(200);
  const after = await count();
  check(after === before + 1, `server counted ${before} before and ${after} after`);
});
await steps.run('cancel', async () => {
  const count = async () => JSON.parse(textOf(await call('notifications-seen'))).cancelled;
  const before = await count();
  const stop = new AbortController();
  const slow = call('slow-with-progress', { steps: 50, delay_ms: 50 }, { signal: stop.signal });
  await pause(300);
  stop.abort('no longer wanted');
  const outcome = await slow.then(() => 'answered', () => 'cancelled');
  check(outcome === 'cancelled', outcome);
  await pause(300);
  const after = await count();
  check(after === before + 1, `server counted ${before} before and ${after} after`);
});
await client.close().catch(() => {});
steps.finish();
