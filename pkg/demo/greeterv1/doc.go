// Package greeterv1 is the generated code of proto/flyproxy/demo/v1: the app of the demo and of the end-to-end tests.
// `go run ./tools/genproto` writes it; only this file is written by hand.
package greeterv1
