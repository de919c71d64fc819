// Package e2e holds the end-to-end tests: real flyproxy processes, a real Redis, real gRPC apps and clients.
package e2e
