// Package conformance holds what a transparent gRPC proxy owes both of its sides, as cases that scripted HTTP/2 clients and servers
// (package h2script) run without a proxy and through each engine. docs/transparency.md is the table of their results; the tests fail
// when it is not what they find. -update writes it anew.
package conformance
