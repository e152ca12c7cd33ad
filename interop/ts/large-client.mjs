// Large and endless messages on the TypeScript SDK: runs the steps against one server and prints one JSON line for each.
import { randomBytes } from 'node:crypto';
import { PrivateKeySigner } from '@contextvm/sdk/signer';
import { NostrClientTransport, callToolStream } from '@contextvm/sdk/transport';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { freeze } from './large-tools.mjs';
import { readOptions } from './options.mjs';
import { digest, line, makeText } from './payload.mjs';
import { Steps, check, pause, print, until } from './steps.mjs';

const SIZES = { '100KB': 100_000, '1MiB': 1 << 20, '8MiB': 8 << 20 };

const options = readOptions(['server']);
const signer = new PrivateKeySigner(options.key ?? randomBytes(32).toString('hex'));
const transport = new NostrClientTransport({
  signer,
  serverPubkey: options.server,
  relayHandler: options.relay,
  isStateless: options.stateless,
  ...options.wireOptions,
  openStream: options.streams ? { enabled: true, policy: options.streamPolicy } : undefined,
  logLevel: process.env.LOG_LEVEL ?? 'silent',
});
const client = new Client({ name: 'interop-ts-large-client', version: '1.0.0' }, { capabilities: {} });
const steps = new Steps(options);
const textOf = (result) => result.content?.[0]?.text;
// The SDK sends in pieces only what carries a progress token, which the library adds for callers that listen.
const call = (name, args, listens = !options.streams) =>
  client.callTool({ name, arguments: args }, undefined, {
    timeout: options.timeout,
    resetTimeoutOnProgress: true,
    onprogress: listens ? () => {} : undefined,
  });
const seen = async () => JSON.parse(textOf(await call('streams-seen', {})));

await steps.run('connect', () => client.connect(transport, { timeout: options.timeout }), { needed: true });

const transfers = {
  request: async (bytes) => {
    const text = makeText(bytes);
    const heard = textOf(await call('sha', { text }));
    check(heard === digest(text), `the server has ${heard}, not ${digest(text)}`);
  },
  answer: async (bytes, listens) => {
    const [heard, wanted] = [digest(textOf(await call('blow', { bytes }, listens))), digest(makeText(bytes))];
    check(heard === wanted, `the client has ${heard}, not ${wanted}`);
  },
};
for (const [direction, move] of Object.entries(transfers)) {
  await steps.runUntilFailure(Object.entries(SIZES).map(([size, bytes]) => [`${direction}-${size}`, () => move(bytes)]));
}

const open = (args) => callToolStream({ client, transport, name: 'stream', arguments: args });
// Reads up to `limit` chunks, each of which must be the one that is due.
async function read(stream, limit, delay = 0) {
  const chunks = stream[Symbol.asyncIterator]();
  for (let index = 0; index < limit; index += 1) {
    const { done, value } = await chunks.next();
    if (done) return index;
    check(value.value === line(index), `chunk ${index} is ${JSON.stringify(value.value)}`);
    if (delay > 0) await pause(delay);
  }
  return limit;
}
async function endOf(stream) {
  return stream.closed.then(
    () => 'closed',
    (error) => String(error?.message ?? error),
  );
}
if (options.streams) {
  await steps.run('answer-beside-streams', () => transfers.answer(SIZES['1MiB'], true));
  await steps.run('stream', async () => {
    // Written as fast as it goes, it can run over a reader that shares its machine with others.
    const { stream, result } = await open({ chunks: 1000, delay_ms: 2 });
    const read_ = await read(stream, 1001);
    check(read_ === 1000, `${read_} chunks`);
    check(textOf(await result) === '1000 chunks', 'another answer');
  });
  await steps.run('stream-slow-reader', async () => {
    // 64 unread chunks are all that the readers of both SDKs hold.
    const { stream, result } = await open({ chunks: 60 });
    await pause(500);
    const read_ = await read(stream, 61, 5);
    check(read_ === 60, `${read_} chunks`);
    check(textOf(await result) === '60 chunks', 'another answer');
  });
  await steps.run('stream-overrun', async () => {
    const { stream, result } = await open({ chunks: 300 });
    result.catch(() => {});
    const end = endOf(stream);
    await pause(1000);
    const read_ = await read(stream, 301);
    check(read_ === 300, `${read_} chunks, ${await end}`);
    check(textOf(await result) === '300 chunks', 'another answer');
  });
  await steps.run('stream-server-abort', async () => {
    const { stream, result } = await open({ chunks: 10, end: 'abort' });
    result.catch(() => {});
    const end = endOf(stream);
    await read(stream, 10);
    check((await end).includes('on purpose'), `ended: ${await end}`);
    const answer = await result.then(textOf, (error) => error.message);
    return answer;
  });
  await steps.run('stream-client-abort', async () => {
    const before = (await seen()).aborted;
    const { stream, result, abort } = await open({ chunks: 10, end: 'wait' });
    result.catch(() => {});
    stream.closed.catch(() => {});
    await read(stream, 10);
    await abort('no longer wanted');
    const answer = await result.then(textOf, (error) => error.message);
    const after = (await seen()).aborted;
    check(after === before + 1, `aborted ${before} before and ${after} after`);
    return answer;
  });
  await steps.run('stream-silent-client', async () => {
    const before = (await seen()).aborted;
    const { stream, result } = await open({ chunks: 10, end: 'wait' });
    result.catch(() => {});
    const end = endOf(stream);
    await read(stream, 10);
    freeze(4);
    await pause(500);
    let ended;
    end.then((how) => (ended = how));
    await until(() => ended !== undefined, 3000, 'the server gives the stream up');
    check(ended.includes('timeout') || ended.includes('timed out'), `ended: ${ended}`);
    const after = (await seen()).aborted;
    check(after === before + 1, `aborted ${before} before and ${after} after`);
    return ended;
  });
  await steps.run('stream-silent-server', async () => {
    const { stream, result } = await open({ chunks: 10, end: 'freeze' });
    result.catch(() => {});
    const end = endOf(stream);
    await read(stream, 10);
    const started = Date.now();
    const how = await end;
    check(Date.now() - started < 5800, `only after ${Date.now() - started} ms`);
    check(how.includes('Probe timeout'), `ended: ${how}`);
    await pause(Math.max(0, 6500 - (Date.now() - started)));
    return how;
  });
}
await client.close().catch(() => {});
steps.finish();
