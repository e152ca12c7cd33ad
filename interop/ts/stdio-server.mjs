// The test server over standard input and output: the child of a gateway under test. It speaks CEP-41 by itself.
import { OpenStreamWriter } from '@contextvm/sdk/transport';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { addLargeTools } from './large-tools.mjs';
import { makeServer } from './tools.mjs';

const server = makeServer('interop-stdio-server');
const streams = new Map();
addLargeTools(server, ({ _meta, sendNotification }) => {
  const progressToken = _meta?.progressToken;
  if (progressToken === undefined) return undefined;
  const publishFrame = (params) => sendNotification({ method: 'notifications/progress', params });
  const ended = () => streams.delete(progressToken);
  const stream = new OpenStreamWriter({ progressToken, publishFrame, onClose: ended, onAbort: ended });
  streams.set(progressToken, stream);
  return stream;
});
process.stdin.on('end', () => process.exit(0));
const transport = new StdioServerTransport();
await server.connect(transport);
// The library would lose what the reader says.
const { onmessage } = transport;
transport.onmessage = (message, ...more) => {
  const { progressToken, cvm } = message.params ?? {};
  const stream = streams.get(progressToken);
  if (stream === undefined || cvm?.type !== 'open-stream') return onmessage(message, ...more);
  if (cvm.frameType === 'ping') stream.pong(cvm.nonce);
  if (cvm.frameType === 'abort') stream.abort(cvm.reason);
};
