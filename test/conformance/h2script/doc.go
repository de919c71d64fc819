// Package h2script is an HTTP/2 client and server that do exactly what a script tells them, also what no library would do: headers in
// a given order and HPACK form, blocks cut into CONTINUATION frames, DATA cut and padded anywhere, no credit, no ACK, wrong frames.
//
// Each connection has one reader goroutine that records every frame in order. A script is one goroutine that writes frames to both
// ends of a call and then awaits what should be recorded, so it reads from top to bottom like the exchange itself:
//
//	c := client.Open(h2script.Request("/pkg.Service/Method"))
//	p := requests.Take(...)
//	p.SendHeaders(false, h2script.Response()...)
//	c.Headers()
//
// What is awaited and does not come within [Patience] fails the script through its [T]. Beside what the script says, a connection
// acknowledges SETTINGS, answers PINGs and keeps account of flow control; [Options] turns that off or makes it give credit. A
// connection checks what it receives: frames over the announced size, header blocks that do not decode and DATA beyond its windows
// end it with an error that the script sees as the connection's loss.
package h2script

import "time"

// T is what a script fails through. Fatalf must not return. It is called by the script's goroutine only.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Patience is how long a script waits for what should come.
const Patience = 5 * time.Second
