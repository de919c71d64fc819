// Calls of the battle service as promises, and a whole battle.
import { randomUUID } from 'node:crypto';
import type { Battle__Output } from './generated/battle/v1/Battle.js';
import type { BattleEvent__Output } from './generated/battle/v1/BattleEvent.js';
import type { BattleServiceClient } from './generated/battle/v1/BattleService.js';

const deadline = () => Date.now() + 5_000;

export function join(client: BattleServiceClient, battle = ''): Promise<Battle__Output> {
  return new Promise((resolve, reject) => {
    client.joinBattle({ battle_id: battle, player: 'curl' }, { deadline: deadline() }, (err, answer) =>
      answer ? resolve(answer) : reject(err));
  });
}

/**
 * Joins a new battle, watches it by one stream and plays it by another. The client must be bound to one instance: the battle is
 * there and nowhere else.
 */
export async function playWhole(client: BattleServiceClient) {
  const { battle_id } = await join(client, `curl-${randomUUID()}`);
  const watch = client.watchBattle({ battle_id }, { deadline: deadline() });
  const watching = events(watch);
  const watched: BattleEvent__Output[] = [];
  const first = await watching.next(); // only then is it watched for certain
  if (!first.done) watched.push(first.value);

  const play = client.play({ deadline: deadline() });
  const answers = events(play);
  const played: BattleEvent__Output[] = [];
  for (const action of ['attack', 'defend', 'finish']) {
    play.write({ battle_id, player: 'curl', action });
    const answer = await answers.next(); // the next move goes once this one is answered
    if (!answer.done) played.push(answer.value);
  }
  play.end();
  for await (const event of answers) played.push(event);
  for await (const event of watching) watched.push(event);
  return { played, watched };
}

function events(stream: AsyncIterable<BattleEvent__Output>): AsyncIterableIterator<BattleEvent__Output> {
  const iterator = stream[Symbol.asyncIterator]();
  return { next: () => iterator.next(), [Symbol.asyncIterator]() { return this; } };
}
