// Package enginetest is the contract of pkg/engine as tests: what every data plane must do the same, seen from outside. Only
// tests import it.
//
// [Run] is the suite. Each engine's own tests hand it a [Subject]: how to make the engine, and where it rightly differs.
// Everything is real: clients and peers are grpc-go's over loopback connections, or scripted ones ([RawConn], [RawPeer]) where
// what matters is which frames are sent. What the suite's tests are made of is exported, so that an engine's own tests need no
// second set of it.
//
// After every test the engine is closed, and then no goroutine may be left and every call that the observer was told of must
// have been told to have ended, once.
package enginetest
