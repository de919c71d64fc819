// Calls to the cluster, through the sidecar. Neither Redis nor a list of addresses is needed, and one connection does for everything.
import { credentials, InterceptingCall, type Interceptor } from '@grpc/grpc-js';
import type { BattleServiceClient } from './generated/battle/v1/BattleService.js';
import type { ListInstancesResponse__Output } from './generated/flyproxy/v1/ListInstancesResponse.js';
import { BattleService, DiscoveryService } from './proto.js';

// region: client
export class BattleRpcClient {
  private readonly optimal: BattleServiceClient;

  constructor(private readonly sidecar = process.env['FLYPROXY_ADDR'] || 'localhost:50052') {
    this.optimal = new BattleService(sidecar, credentials.createInsecure());
  }

  /** Its calls go to the best instance, each anew. */
  async getOptimalClient(): Promise<BattleServiceClient> {
    return this.optimal;
  }

  /** Its calls go to that instance and to no other. It shares the connection, so it costs next to nothing and need not be closed. */
  async getClientByInstanceId(id: string): Promise<BattleServiceClient> {
    return new BattleService(this.sidecar, credentials.createInsecure(), {
      channelOverride: this.optimal.getChannel(),
      interceptors: [pin(id)],
    });
  }

  /** A client for each instance that serves now, by its id. The sidecar answers from memory. */
  async getAllAvailableClients(): Promise<Map<string, BattleServiceClient>> {
    const discovery = new DiscoveryService(this.sidecar, credentials.createInsecure(), {
      channelOverride: this.optimal.getChannel(),
    });
    const list = await new Promise<ListInstancesResponse__Output>((resolve, reject) => {
      discovery.listInstances({}, { deadline: Date.now() + 5_000 }, (err, answer) => (answer ? resolve(answer) : reject(err)));
    });
    const clients = new Map<string, BattleServiceClient>();
    for (const { id, state } of list.instances) {
      if (state === 'INSTANCE_STATE_SERVING') clients.set(id, await this.getClientByInstanceId(id));
    }
    return clients;
  }

  close(): void {
    this.optimal.close();
  }
}

const pin = (id: string): Interceptor => (options, nextCall) =>
  new InterceptingCall(nextCall(options), {
    start(metadata, listener, next) {
      metadata.set('fly-force-instance-id', id);
      next(metadata, listener);
    },
  });
// endregion
