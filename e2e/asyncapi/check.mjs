// Parses an AsyncAPI document and prints its diagnostics, the channels and the
// messages as JSON. The parser stands in NODE_MODULES, a cached folder.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [modules, document] = process.argv.slice(2);
const require = createRequire(join(modules, 'x.js'));
const { Parser, fromFile } = require('@asyncapi/parser');

const parser = new Parser();
const { document: doc, diagnostics } = await fromFile(parser, document).parse();
console.log(JSON.stringify({
  diagnostics: diagnostics.map(({ code, message, path, severity, source }) => ({ code, message, path: path.join('.'), severity, source })),
  channels: doc ? doc.channels().all().map((c) => c.address()) : [],
  messages: doc ? doc.messages().all().map((m) => m.name()) : [],
}));
