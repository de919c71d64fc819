// The cases of ../README.md with grpc-js.
'use strict';
const grpc = require('@grpc/grpc-js');

const raw = (path, requestStream, responseStream) => ({
  path: `/flyproxy.interop.Echo/${path}`, requestStream, responseStream,
  requestSerialize: (b) => b, requestDeserialize: (b) => b, responseSerialize: (b) => b, responseDeserialize: (b) => b,
});
const Echo = grpc.makeGenericClientConstructor({
  Unary: raw('Unary', false, false), Down: raw('Down', false, true), Up: raw('Up', true, false), Both: raw('Both', true, true),
}, 'Echo');
const patience = 30_000;
const large = 8 << 20;
const room = { 'grpc.max_receive_message_length': 2 * large, 'grpc.max_send_message_length': 2 * large };

const metadata = (pairs) => {
  const md = new grpc.Metadata();
  for (const [key, value] of pairs) md.add(key, value);
  return md;
};
const within = (ms = patience) => ({ deadline: new Date(Date.now() + ms) });

// unary gives what came: { error } or { reply }, with headers and trailers.
const unary = (client, message, pairs = [], options = within()) => new Promise((resolve) => {
  const got = {};
  const call = client.Unary(Buffer.from(message), metadata(pairs), options, (error, reply) => {
    got.error = error;
    got.reply = reply;
  });
  call.on('metadata', (md) => { got.headers = md; });
  call.on('status', (status) => {
    got.trailers = status.metadata;
    setImmediate(() => resolve(got));
  });
});
const answer = ({ error, reply }) => {
  if (error) throw error;
  return reply;
};

const echoed = (md) => ({
  'x-echo-text': md.get('x-echo-text').flatMap((v) => v.split(/, ?/)),
  'x-echo-bin': md.get('x-echo-bin').map((v) => v.toString('base64')),
});

const cases = {
  unary: async (client) => ({ reply: answer(await unary(client, 'hello')).toString() }),

  server_stream: (client) => new Promise((resolve, reject) => {
    const messages = [];
    const call = client.Down(Buffer.from('200'), within());
    call.on('data', (m) => messages.push(m.toString()));
    call.on('error', reject);
    call.on('end', () => resolve({ messages }));
  }),

  client_stream: (client) => new Promise((resolve, reject) => {
    const call = client.Up(within(), (error, reply) => (error ? reject(error) : resolve({ reply: reply.toString() })));
    for (let n = 0; n < 200; n++) call.write(Buffer.alloc(1000, n));
    call.end();
  }),

  ping_pong: (client) => new Promise((resolve, reject) => {
    const messages = [];
    const call = client.Both(within());
    call.on('data', (m) => {
      messages.push(m.toString());
      if (messages.length < 50) call.write(Buffer.from(String(messages.length)));
      else call.end();
    });
    call.on('error', reject);
    call.on('end', () => resolve({ messages }));
    call.write(Buffer.from('0'));
  }),

  metadata: async (client) => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    const got = await unary(client, 'm', [['x-echo-text', 'a'], ['x-echo-text', 'b'], ['x-echo-bin', bytes]]);
    answer(got);
    return { headers: echoed(got.headers), trailers: echoed(got.trailers) };
  },

  deadline: async (client) => {
    const got = await unary(client, 'late', [['x-wait-ms', '60000'], ['x-note', 'deadline']], within(300));
    return { code: got.error.code };
  },

  cancel: (client) => new Promise((resolve) => {
    const call = client.Both(metadata([['x-stay', '1'], ['x-note', 'cancel']]), within());
    call.on('data', () => call.cancel());
    call.on('error', (error) => resolve({ code: error.code }));
    call.write(Buffer.from('first'));
  }),

  error: async (client) => {
    const { error } = await unary(client, 'e', [['x-fail', '1']]);
    return {
      code: error.code, message: error.details, details: error.metadata.get('grpc-status-details-bin')[0].toString('base64'),
    };
  },

  large: async (client) => {
    const message = Buffer.alloc(large, 'flyproxy');
    const reply = answer(await unary(client, message));
    return { bytes: reply.length, same: reply.equals(message) };
  },

  concurrent: async (client) => {
    const calls = Array.from({ length: 100 }, (_, n) => unary(client, String(n).padStart(2, '0'), [['x-gather', '100']]));
    return { messages: (await Promise.all(calls)).map((got) => answer(got).toString()).sort() };
  },

  gzip: async (_, target) => {
    const client = new Echo(target, grpc.credentials.createInsecure(),
      { 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip });
    const message = Buffer.alloc(100_000, 'flyproxy');
    const reply = answer(await unary(client, message, [['x-gzip', '1'], ['x-note', 'gzip']]));
    client.close();
    return { bytes: reply.length, same: reply.equals(message) };
  },
};

async function main(target) {
  const client = new Echo(target, grpc.credentials.createInsecure(), room);
  for (const [name, run] of Object.entries(cases)) {
    let result;
    try {
      result = await run(client, target);
    } catch (error) {
      result = { failure: String(error) };
    }
    console.log(JSON.stringify({ case: name, ...result }));
  }
  client.close();
}

main(process.argv[2]);
