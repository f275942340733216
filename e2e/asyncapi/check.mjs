// Parses AsyncAPI documents and prints the diagnostics, channels and messages of
// each as JSON. The parser stands in the first argument, a cached folder.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [modules, ...documents] = process.argv.slice(2);
const { Parser, fromFile } = createRequire(join(modules, 'x.js'))('@asyncapi/parser');

const verdicts = [];
for (const file of documents) {
  const { document, diagnostics } = await fromFile(new Parser(), file).parse();
  verdicts.push({
    diagnostics: diagnostics.map(({ code, message, path, severity }) => ({ code, message, path: path.join('.'), severity })),
    channels: document ? document.channels().all().map((c) => c.address()) : [],
    messages: document ? document.messages().all().map((m) => m.name()) : [],
  });
}
console.log(JSON.stringify(verdicts));
