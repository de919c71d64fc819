// The battles over HTTP, so that they can be tried with curl.
import { createServer, type Server } from 'node:http';
import { type ServiceError, status } from '@grpc/grpc-js';
import type { BattleRpcClient } from './client.js';
import { join, playWhole } from './play.js';

const usage = `GET /battle                   the best instance answers
GET /battle/{instance}        that instance answers
GET /battle/{instance}/play   a whole battle there: join, watch, play
GET /battles                  all instances answer
`;

const httpStatus: Partial<Record<status, number>> = {
  [status.UNAVAILABLE]: 503,
  [status.DEADLINE_EXCEEDED]: 504,
  [status.NOT_FOUND]: 404,
};

export function pages(rpc: BattleRpcClient): Server {
  return createServer((req, res) => {
    const say = (code: number, type: string, body: string) => res.writeHead(code, { 'content-type': type }).end(body);
    const path = (req.url ?? '/').split('?')[0] ?? '/';
    if (req.method !== 'GET') return say(405, 'text/plain', 'GET only\n');
    if (path === '/') return say(200, 'text/plain', usage);
    const answer = ask(rpc, path);
    if (!answer) return say(404, 'text/plain', usage);
    return answer.then(
      (body) => say(200, 'application/json', JSON.stringify(body, null, 2) + '\n'),
      (err: ServiceError) => say(httpStatus[err.code] ?? 502, 'application/json', JSON.stringify(failure(err), null, 2) + '\n'),
    );
  });
}

/** What a path asks of the cluster; undefined where there is no such page. */
function ask(rpc: BattleRpcClient, path: string): Promise<unknown> | undefined {
  const [first, second, third, ...more] = path.slice(1).split('/').map((part) => part && safeDecode(part));
  if (more.length > 0) return undefined;
  if (first === 'battle' && second === undefined) return optimal(rpc);
  if (first === 'battle' && second && third === undefined) return byId(rpc, second);
  if (first === 'battle' && second && third === 'play') return play(rpc, second);
  if (first === 'battles' && second === undefined) return all(rpc);
  return undefined;
}

// region: calls
async function optimal(rpc: BattleRpcClient) {
  const client = await rpc.getOptimalClient();
  return join(client);
}

async function byId(rpc: BattleRpcClient, id: string) {
  const client = await rpc.getClientByInstanceId(id);
  return join(client);
}

async function all(rpc: BattleRpcClient) {
  const clients = await rpc.getAllAvailableClients();
  const answers = await Promise.all([...clients].map(async ([id, client]) => [id, await join(client).catch(failure)] as const));
  return Object.fromEntries(answers);
}
// endregion

async function play(rpc: BattleRpcClient, id: string) {
  return playWhole(await rpc.getClientByInstanceId(id));
}

function failure(err: ServiceError) {
  return { error: err.details ?? err.message };
}

function safeDecode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
