// The test server on the TypeScript SDK: prints {"ready":true,"pubkey":...} and runs until standard input ends.
import { randomBytes } from 'node:crypto';
import { PrivateKeySigner } from '@contextvm/sdk/signer';
import { NostrServerTransport } from '@contextvm/sdk/transport';
import { readOptions } from './options.mjs';
import { endWithInput, pause, print } from './steps.mjs';
import { makeServer } from './tools.mjs';

const options = readOptions(['relay']);
const signer = new PrivateKeySigner(options.key ?? randomBytes(32).toString('hex'));
const transport = new NostrServerTransport({
  signer,
  relayHandler: options.relay,
  ...options.wireOptions,
  allowedPublicKeys: options.allow.length > 0 ? options.allow : undefined,
  injectClientPubkey: true,
  isAnnouncedServer: false,
  // Nothing leaves the relay under test.
  publishRelayList: false,
  bootstrapRelayUrls: [],
  logLevel: process.env.LOG_LEVEL ?? 'silent',
});
const server = makeServer('interop-ts-server');
await server.connect(transport);
// The SDK does not say when its subscription is in force.
await pause(500);
print({ ready: true, pubkey: await signer.getPublicKey() });
endWithInput(() => server.close());
