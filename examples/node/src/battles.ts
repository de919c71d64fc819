// The battles of this instance. They live in its memory, and nowhere else.
import { status } from '@grpc/grpc-js';
import type { Battle } from './generated/battle/v1/Battle.js';
import type { BattleEvent } from './generated/battle/v1/BattleEvent.js';

// What one instance holds at most.
const maxBattles = 1000;
const maxPlayers = 100;

/** An error that grpc-js passes on to the client as it is. */
export class RpcError extends Error {
  constructor(readonly code: status, readonly details: string) {
    super(details);
  }
}

/** Is told each move, and the end of the battle. */
export interface Watcher {
  move(event: BattleEvent): void;
  over(): void;
}

interface State {
  players: string[];
  moves: number;
  watchers: Set<Watcher>;
}

export class Battles {
  private readonly byId = new Map<string, State>();

  constructor(readonly instance: string, readonly region: string) {}

  /** Enters a player, beginning the battle if it is not there. */
  join(id: string, player: string): Battle {
    id ||= 'arena';
    if (!player) throw new RpcError(status.INVALID_ARGUMENT, 'player is empty');
    let at = this.byId.get(id);
    if (!at) {
      if (this.byId.size === maxBattles) {
        throw new RpcError(status.RESOURCE_EXHAUSTED, `${this.instance} has ${maxBattles} battles: finish one`);
      }
      at = { players: [], moves: 0, watchers: new Set() };
      this.byId.set(id, at);
    }
    if (!at.players.includes(player)) {
      if (at.players.length === maxPlayers) {
        throw new RpcError(status.RESOURCE_EXHAUSTED, `battle "${id}" has ${maxPlayers} players`);
      }
      at.players.push(player);
    }
    return { battle_id: id, players: at.players, moves: at.moves, instance_id: this.instance, region: this.region };
  }

  /** Makes a move and tells the watchers. "finish" ends the battle, which is forgotten then. */
  move(id: string, player: string, action: string): BattleEvent {
    const at = this.find(id);
    at.moves++;
    const event = this.event(id, at.moves, player, action);
    for (const w of at.watchers) w.move(event);
    if (action === 'finish') {
      this.byId.delete(id);
      for (const w of at.watchers) w.over();
    }
    return event;
  }

  /** Gives the state of a battle. The watcher is told of the moves from then on, until leave is called. */
  watch(id: string, watcher: Watcher): { now: BattleEvent; leave: () => void } {
    const at = this.find(id);
    at.watchers.add(watcher);
    return { now: this.event(id, 0, '', 'watching'), leave: () => at.watchers.delete(watcher) };
  }

  private find(id: string): State {
    const at = this.byId.get(id);
    if (at) return at;
    throw new RpcError(status.NOT_FOUND,
      `battle "${id}" is not on ${this.instance}: call the instance that answered JoinBattle`);
  }

  private event(id: string, number: number, player: string, action: string): BattleEvent {
    return { battle_id: id, number, player, action, instance_id: this.instance, region: this.region };
  }
}
