// The gRPC side of the battles.
import { status } from '@grpc/grpc-js';
import { type Battles, RpcError } from './battles.js';
import type { BattleServiceHandlers } from './generated/battle/v1/BattleService.js';

// A watch that does not read is ended once it is this many events behind.
const maxBehind = 64;

/** The handlers. Watches, which may last for hours, end when stopping is aborted. */
export function handlers(battles: Battles, stopping: AbortSignal): BattleServiceHandlers {
  return {
    JoinBattle(call, answer) {
      try {
        answer(null, battles.join(call.request.battle_id, call.request.player));
      } catch (err) {
        answer(err as RpcError);
      }
    },

    WatchBattle(call) {
      const fail = (code: status, details: string) => call.emit('error', new RpcError(code, details));
      const stop = () => fail(status.UNAVAILABLE, 'this instance stops: join again');
      try {
        const { now, leave } = battles.watch(call.request.battle_id, {
          move: (event) => {
            if (call.writableLength >= maxBehind) fail(status.RESOURCE_EXHAUSTED, 'the watch fell too far behind: begin anew');
            else call.write(event);
          },
          over: () => call.end(),
        });
        stopping.addEventListener('abort', stop);
        const end = () => {
          leave();
          stopping.removeEventListener('abort', stop);
        };
        for (const how of ['cancelled', 'error', 'finish']) call.on(how, end);
        call.write(now);
        if (stopping.aborted) stop();
      } catch (err) {
        call.emit('error', err);
      }
    },

    Play(call) {
      let failed = false;
      call.on('data', (move) => {
        if (failed) return;
        try {
          if (call.write(battles.move(move.battle_id, move.player, move.action))) return;
          call.pause();
          call.once('drain', () => call.resume());
        } catch (err) {
          failed = true;
          call.emit('error', err);
        }
      });
      call.on('end', () => {
        if (!failed) call.end();
      });
    },
  };
}
