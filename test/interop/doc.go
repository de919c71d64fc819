// Package interop holds what others wrote, run through the data planes: h2spec on both sides, grpc-go's interop client and its
// negative client, clients in grpc-js, grpcio and grpc-java, and servers of three libraries behind a stream that is silent for a
// minute.
//
// The programs and packages of other languages come from tools/setup-tests.sh. Where they are missing a test is skipped, or fails if
// CI or REQUIRE_ALL_TESTS is set. Every test runs in parallel with the others, because the one on silence waits for a minute.
package interop
