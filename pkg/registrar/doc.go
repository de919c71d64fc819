// Package registrar acts on behalf of an app that knows nothing of discovery: it watches the app's health, registers it once it
// is healthy and reachable at the address it advertises, keeps the registration alive, and takes it back when the app goes away.
//
// Three parts meet in a [Registrar], of which there is one per app:
//
//   - a [Watcher] knows the app's health, by grpc.health.v1 where the app has it and by TCP where it has not;
//   - an inbound listener splices bytes to an app that is bound to IPv4 or to localhost only, where peers cannot reach it;
//   - the [Beater], one per Machine and shared by its apps, writes to the registry: one command every interval for all of them.
//
// In each of them one goroutine owns the state. Others send it commands, which never block, and read immutable snapshots.
package registrar
