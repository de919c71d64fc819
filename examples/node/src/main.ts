// An example of an app behind flyproxy: a small battle server, as anybody would write it on grpc-js. All that it knows of flyproxy is
// an address on localhost (client.ts); registration, health and routing are the sidecar's.
//
// It reads GRPC_BIND_ADDRESS (0.0.0.0), GRPC_PORT (50051), PORT (8080), FLYPROXY_ADDR (localhost:50052), and who it is from
// FLY_MACHINE_ID and FLY_REGION, which Fly sets.
import { once } from 'node:events';
import { hostname } from 'node:os';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation } from 'grpc-health-check';
import { Battles } from './battles.js';
import { BattleRpcClient } from './client.js';
import { pages } from './http.js';
import { BattleService, definition } from './proto.js';
import { handlers } from './service.js';

// Open calls may hold up the end this long: less than flyproxy's run.stop_timeout (2.5 s).
const stopWithinMs = 2_000;

const env = (name: string, otherwise: string) => process.env[name] || otherwise;

async function main() {
  const instance = env('FLY_MACHINE_ID', env('FLYPROXY_INSTANCE_ID', hostname()));
  const region = env('FLY_REGION', env('FLYPROXY_REGION', 'local'));
  const stopping = new AbortController();
  const server = new Server();
  const health = new HealthImplementation({ '': 'SERVING' });
  server.addService(BattleService.service, handlers(new Battles(instance, region), stopping.signal));
  health.addToServer(server);
  new ReflectionService(definition, { services: ['battle.v1.BattleService'] }).addToServer(server);

  const host = env('GRPC_BIND_ADDRESS', '0.0.0.0');
  const address = `${host.includes(':') ? `[${host}]` : host}:${env('GRPC_PORT', '50051')}`;
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (err) => (err ? reject(err) : resolve()));
  });
  const rpc = new BattleRpcClient();
  const web = pages(rpc).listen(Number(env('PORT', '8080')));
  await once(web, 'listening');
  console.log(`serving: grpc ${address}, http port ${env('PORT', '8080')}, instance ${instance}, region ${region}`);

  await new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve);
  });
  console.log(`stopping: open calls have ${stopWithinMs} ms to end`);
  // region: stop
  health.setStatus('', 'NOT_SERVING'); // the sidecar sends nothing more here
  stopping.abort();
  const closed = new Promise((resolve) => web.close(resolve));
  web.closeIdleConnections();
  const cut = setTimeout(() => {
    console.log('some calls were still open and were cut');
    web.closeAllConnections();
    server.forceShutdown();
  }, stopWithinMs);
  await Promise.all([closed, new Promise((resolve) => server.tryShutdown(resolve))]);
  clearTimeout(cut);
  // endregion
  rpc.close();
  console.log('ended');
}

main().catch((err: Error) => {
  console.error(`the app failed: ${err.message}`);
  process.exit(1);
});
