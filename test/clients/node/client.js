// An app's client as it is without flyproxy: plain grpc-js, plain localhost. It prints one JSON line for each thing it did.
'use strict';
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [target, rounds] = [process.argv[2], Number(process.argv[3] || 20)];
const proto = path.join(__dirname, '../../../proto/flyproxy/demo/v1/greeter.proto');
const pkg = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true })).flyproxy.demo.v1;
const client = new pkg.Greeter(target, grpc.credentials.createInsecure());

const say = (what, value) => console.log(JSON.stringify({ what, ...value }));

const unary = (n, metadata = new grpc.Metadata()) => new Promise((resolve, reject) => {
  const deadline = new Date(Date.now() + 10_000);
  client.Hello({ name: `node ${n}` }, metadata, { deadline }, (err, reply) => (err ? reject(err) : resolve(reply)));
});

const count = (times) => new Promise((resolve, reject) => {
  const numbers = [];
  const call = client.Count({ name: 'node', times, pause_ms: 5 }, { deadline: new Date(Date.now() + 10_000) });
  call.on('data', (r) => numbers.push(r.number));
  call.on('error', reject);
  call.on('end', () => resolve(numbers));
});

const chat = (words) => new Promise((resolve, reject) => {
  const heard = [];
  const call = client.Chat({ deadline: new Date(Date.now() + 10_000) });
  call.on('data', (r) => {
    heard.push(r.greeting);
    // Ping-pong: the next word goes only after the last was answered.
    if (heard.length < words.length) call.write({ name: words[heard.length] });
    else call.end();
  });
  call.on('error', reject);
  call.on('end', () => resolve(heard));
  call.write({ name: words[0] });
});

async function main() {
  const instances = {};
  for (let n = 0; n < rounds; n++) {
    const r = await unary(n);
    if (r.greeting !== `Hello, node ${n}!`) throw new Error(`wrong answer: ${JSON.stringify(r)}`);
    instances[r.instance] = (instances[r.instance] || 0) + 1;
  }
  say('unary', { instances });
  const pinned = Object.keys(instances)[0];
  const metadata = new grpc.Metadata();
  metadata.set('fly-force-instance-id', pinned);
  say('pinned', { wanted: pinned, got: (await unary(0, metadata)).instance });
  say('count', { numbers: await count(5) });
  say('chat', { heard: await chat(['a', 'b', 'c']) });
  client.close();
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
