// The test server on the TypeScript SDK: prints {"ready":true,"pubkey":...} and runs until standard input ends.
import { randomBytes } from 'node:crypto';
import { PrivateKeySigner } from '@contextvm/sdk/signer';
import { NostrServerTransport, withCommonToolSchemas } from '@contextvm/sdk/transport';
import { addLargeTools } from './large-tools.mjs';
import { readOptions } from './options.mjs';
import { endWithInput, pause, print } from './steps.mjs';
import { makeServer } from './tools.mjs';

const options = readOptions(['relay']);
const signer = new PrivateKeySigner(options.key ?? randomBytes(32).toString('hex'));
const announced = options.announce.length > 0;
const transport = new NostrServerTransport({
  signer,
  relayHandler: options.relay,
  ...options.wireOptions,
  allowedPublicKeys: options.allow.length > 0 ? options.allow : undefined,
  injectClientPubkey: true,
  isAnnouncedServer: announced,
  serverInfo: announced ? { name: 'Interop TS', about: 'Found by its name only' } : undefined,
  profileMetadata: announced ? { name: 'Interop TS', about: 'A profile' } : undefined,
  // Nothing leaves the relays under test.
  publishRelayList: announced,
  bootstrapRelayUrls: options.announce,
  // Enabled, this release never answers a call with a progress token that does not stream.
  openStream: options.streams ? { enabled: true, policy: options.streamPolicy } : undefined,
  logLevel: process.env.LOG_LEVEL ?? 'silent',
});
if (announced) withCommonToolSchemas(transport, { tools: [{ name: 'echo' }, { name: 'add' }], categories: ['interop'] });
const server = makeServer('interop-ts-server');
addLargeTools(server);
await server.connect(transport);
// The SDK does not say when its subscription is in force.
await pause(500);
print({ ready: true, pubkey: await signer.getPublicKey() });
endWithInput(() => server.close());
