// Package battlev1 is the generated code of battle.v1, the gRPC service of the examples.
package battlev1
