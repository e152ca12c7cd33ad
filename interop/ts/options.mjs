// Command line of the peer programs, and what `--wire` means to the SDK.
import { parseArgs } from 'node:util';
import { EncryptionMode, GiftWrapMode } from '@contextvm/sdk/core';

const WIRES = {
  plain: { encryptionMode: EncryptionMode.DISABLED, giftWrapMode: GiftWrapMode.OPTIONAL },
  persistent: { encryptionMode: EncryptionMode.REQUIRED, giftWrapMode: GiftWrapMode.PERSISTENT },
  ephemeral: { encryptionMode: EncryptionMode.REQUIRED, giftWrapMode: GiftWrapMode.EPHEMERAL },
};

export function readOptions(required) {
  const { values } = parseArgs({
    options: {
      relay: { type: 'string', multiple: true },
      server: { type: 'string' },
      wire: { type: 'string', default: 'plain' },
      key: { type: 'string' },
      stateless: { type: 'boolean', default: false },
      allow: { type: 'string', multiple: true },
      announce: { type: 'string', multiple: true },
      discovery: { type: 'string', multiple: true },
      only: { type: 'string', multiple: true },
      skip: { type: 'string', multiple: true },
      streams: { type: 'boolean', default: false },
      idle: { type: 'string' },
      timeout: { type: 'string', default: '15000' },
    },
  });
  const missing = required.filter((name) => values[name] === undefined);
  if (missing.length > 0 || WIRES[values.wire] === undefined) {
    console.error(`usage: --${required.join(' ... --')} ... [--wire ${Object.keys(WIRES).join('|')}]`);
    process.exit(2);
  }
  const split = (list) => (list ?? []).flatMap((text) => text.split(',')).filter((text) => text !== '');
  return {
    ...values,
    relay: split(values.relay),
    allow: split(values.allow),
    announce: split(values.announce),
    discovery: split(values.discovery),
    only: split(values.only),
    skip: split(values.skip),
    timeout: Number(values.timeout),
    // How long a quiet stream is left alone, and then how long an answer to a ping may take.
    streamPolicy: values.idle === undefined ? {} : { idleTimeoutMs: Number(values.idle), probeTimeoutMs: Number(values.idle) },
    wireOptions: WIRES[values.wire],
  };
}
