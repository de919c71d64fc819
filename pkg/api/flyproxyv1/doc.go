// Package flyproxyv1 is the generated code of proto/flyproxy/v1: the sidecar's own gRPC service, for clients and for the
// sidecar. `go run ./tools/genproto` writes it; only this file is written by hand.
package flyproxyv1
