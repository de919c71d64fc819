package conformance_test

import (
	"net"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/grpcengine"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// headerLimit is the bound on a header list that every engine is started with, in bytes.
const headerLimit = 64 << 10

// engine is one way from a client to its peers, and one column of the table.
type engine struct {
	Name string
	// Start runs the engine with a router that knows no peer yet, until the test's end, and gives the address that clients dial. Nil
	// means that there is no proxy: clients dial the peer.
	Start func(t *testing.T, r *routing.Router) (address string)
	// LimitsDoc is the page that lists what the engine cannot pass, and Limits says which row of it explains a case that does not
	// hold: the name of the test there that pins it.
	LimitsDoc string
	Limits    map[string]string
}

// direct validates the cases themselves.
const direct = "direct"

var engines = []engine{
	{Name: direct},
	{Name: "relay", Start: startRelay},
	{Name: "grpc", Start: startGRPC, LimitsDoc: "engine-grpc-limits.md", Limits: grpcLimits},
}

func startGRPC(t *testing.T, r *routing.Router) string {
	e, err := grpcengine.New(grpcengine.Config{Router: r, ConnectTimeout: time.Second, MaxHeaderBytes: headerLimit})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, e)
}

func startRelay(t *testing.T, r *routing.Router) string {
	e, err := relay.New(relay.Config{Router: r, ConnectTimeout: time.Second, Limits: relay.Limits{HeaderBytes: headerLimit}})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, e)
}

// server is what engines have in common.
type server interface {
	Serve(...net.Listener) error
	Close() error
}

// serve runs an engine on a port of its own until the test's end.
func serve(t *testing.T, e server) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(l) }()
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

// grpcLimits are explained by docs/engine-grpc-limits.md.
var grpcLimits = map[string]string{
	"content-type-parameters":      "TestLimitContentTypeParameters",
	"gzip-bytes":                   "TestLimitMixedCompressedFlags",
	"mixed-flags":                  "TestLimitMixedCompressedFlags",
	"unknown-encoding-request":     "TestLimitUnknownEncodingOfRequest",
	"unknown-encoding-response":    "TestLimitUnknownEncodingOfResponse",
	"accept-encoding":              "TestLimitAcceptEncodingIsOurs",
	"metadata-order":               "TestLimitOrderAcrossKeys",
	"metadata-bin-joined":          "TestLimitCommaJoinedBin",
	"metadata-bin-joined-response": "TestLimitCommaJoinedBinInResponse",
	"response-subtype":             "TestLimitContentTypeOfResponseIsTheRequests",
	"status-message-malformed":     "TestLimitMalformedStatus",
	"metadata-utf8":                "TestLimitUTF8Metadata",
	"never-indexed-request":        "TestLimitNeverIndexedLiterals",
	"never-indexed-response":       "TestLimitNeverIndexedLiterals",
	"too-much-metadata":            "TestLimitHeadersOverTheBound",
	"scheme":                       "TestLimitUserAgentSchemeAndTe",
	"user-agent":                   "TestLimitUserAgentSchemeAndTe",
	"status-details-other":         "TestLimitStatusDetailsOfAnotherCode",
	"partial-request":              "TestLimitPartialMessageWaits",
	"partial-response":             "TestLimitPartialMessageWaits",
	"reset-codes":                  "TestLimitResetCodes",
	"refused-twice":                "TestLimitSecondRefusalIsSeen",

	"hop-headers-request-malformed":  unlisted,
	"hop-headers-response-malformed": unlisted,
	"peer-data-first":                unlisted,
	"goaway-id":                      unlisted,
	"unread-responses":               unlisted,
	"idle-data":                      unlisted,
	"window-overflow-stream":         unlisted,
	"window-overflow-connection":     unlisted,
	"window-overflow-settings":       unlisted,
}
