// The test server over standard input and output: the child of a gateway under test.
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { makeServer } from './tools.mjs';

const server = makeServer('interop-stdio-server');
process.stdin.on('end', () => process.exit(0));
await server.connect(new StdioServerTransport());
