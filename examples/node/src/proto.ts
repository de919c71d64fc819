// The .proto files, which the build copies beside the compiled code: they are found wherever the app is started from.
import { fileURLToPath } from 'node:url';
import { loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { ProtoGrpcType as Battle } from './generated/battle.js';
import type { ProtoGrpcType as Discovery } from './generated/discovery.js';

// region: load
export const definition = loadSync(['battle/v1/battle.proto', 'flyproxy/v1/discovery.proto'], {
  includeDirs: [fileURLToPath(new URL('proto', import.meta.url))],
  keepCase: true,
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
});
const loaded = loadPackageDefinition(definition) as unknown as Battle & Discovery;
export const { BattleService } = loaded.battle.v1;
export const { Discovery: DiscoveryService } = loaded.flyproxy.v1;
// endregion
