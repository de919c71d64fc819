package interop_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/client"
	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/grpcengine"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/routing"
	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

// h2specPlanes differ from the usual ones in the stream limit: h2spec opens one stream more than it.
var h2specPlanes = []plane{
	{"relay", func(r *routing.Router) (engine.Engine, error) {
		return relay.New(relay.Config{Router: r, Limits: relay.Limits{StreamsPerConnection: 100}})
	}},
	{"grpc", func(r *routing.Router) (engine.Engine, error) {
		return grpcengine.New(grpcengine.Config{Router: r, MaxConcurrentStreams: 100})
	}},
}

// h2case is one case of h2spec.
type h2case struct {
	// ID is key/section/number, such as http2/6.9.1/2.
	ID, Group, Title, Requirement string
	// run runs it: on a connection to a data plane, or on one from it.
	run func(*config.Config, *spec.Conn) error
}

// h2side is one half of h2spec.
type h2side struct {
	Title string
	Cases []h2case
	// connect gives the connection on which h2spec plays its part, and the configuration that goes with it.
	connect func(*testing.T, plane, *config.Config) *spec.Conn
}

var h2sides = []h2side{
	{"Towards clients", serverCases(generic.Spec(), http2.Spec(), hpack.Spec()), h2asClient},
	{"Towards peers", clientCases(client.Spec()), h2asPeer},
}

func serverCases(groups ...*spec.TestGroup) (all []h2case) {
	for _, g := range groups {
		tests := append(g.Tests[:len(g.Tests):len(g.Tests)], g.StrictTests...)
		for i, tc := range tests {
			all = append(all, h2case{fmt.Sprintf("%s/%d", g.ID(), i+1), g.Title(), tc.Desc, tc.Requirement, tc.Run})
		}
		all = append(all, serverCases(g.Groups...)...)
	}
	return all
}

func clientCases(groups ...*spec.ClientTestGroup) (all []h2case) {
	for _, g := range groups {
		for i, tc := range g.Tests {
			all = append(all, h2case{fmt.Sprintf("%s/%d", g.ID(), i+1), g.Title(), tc.Desc, tc.Requirement, tc.Run})
		}
		all = append(all, clientCases(g.Groups...)...)
	}
	return all
}

// TestH2spec runs every case of h2spec, its strict ones too, on each data plane. A case that does not pass must be explained in
// docs/h2spec.md, and one that is explained must not pass.
func TestH2spec(t *testing.T) {
	t.Parallel()
	page := newH2page()
	for _, p := range h2specPlanes {
		for _, side := range h2sides {
			t.Run(p.Name+"/"+side.Title, func(t *testing.T) {
				const sideBySide = 8 // most of them wait
				cases := make(chan h2case)
				var running sync.WaitGroup
				for range sideBySide {
					running.Go(func() {
						for tc := range cases {
							t.Run(tc.ID, func(t *testing.T) { page.put(p, tc, judgeH2(t, p, side, tc)) })
						}
					})
				}
				for _, tc := range side.Cases {
					cases <- tc
				}
				close(cases)
				running.Wait()
			})
		}
	}
	page.finish(t)
}

// judgeH2 runs one case, and tells whether it passes.
func judgeH2(t *testing.T, p plane, side h2side, tc h2case) bool {
	reason := h2reason(p, tc)
	c := &config.Config{Path: "/flyproxy.h2spec/Call", MaxHeaderLen: 4000, Strict: true, Timeout: 10 * time.Second}
	if reason != "" {
		c.Timeout = time.Second // what h2spec awaits does not come
	}
	conn := side.connect(t, p, c)
	defer conn.Close()
	err := tc.run(c, conn)
	if closed(err) {
		err = nil
	}
	switch {
	case err != nil && reason == "":
		t.Errorf("%s: %s\n%v", tc.Title, tc.Requirement, err)
	case err == nil && reason != "":
		t.Errorf("%s: it passes, but is said not to: %s", tc.Title, reason)
	}
	return err == nil
}

// closed tells whether all that h2spec holds against us is that the connection it wanted closed was closed with a TCP RST. It means
// to take that for closed, but looks for the error without the os.SyscallError that Go has long put around it.
func closed(err error) bool {
	var te *spec.TestError
	return errors.As(err, &te) && strings.HasSuffix(te.Actual, "connection reset by peer") &&
		te.Expected[len(te.Expected)-1] == spec.ExpectedConnectionClosed
}

// h2asClient has h2spec call the data plane, which has an app behind it.
func h2asClient(t *testing.T, p plane, c *config.Config) *spec.Conn {
	host, port, err := net.SplitHostPort(p.start(t, startHTTPApp(t)))
	if err != nil {
		t.Fatal(err)
	}
	c.Host = host
	if c.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	conn, err := spec.Dial(c)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// h2asPeer makes a call, and has h2spec be the app that the data plane connects to for it.
func h2asPeer(t *testing.T, p plane, c *config.Config) *spec.Conn {
	l := listen(t)
	defer l.Close()
	h2script.Dial(t, p.start(t, l.Addr().String()), h2script.Options{}).OpenEnded(h2script.Request(c.Path))
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := spec.Accept(c, nc)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// startHTTPApp runs an app on net/http that gives a gRPC answer to every request, GET too, which most of h2spec's requests are.
func startHTTPApp(t *testing.T) (address string) {
	l := listen(t)
	s := &http.Server{Handler: http.HandlerFunc(answerAnything), Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func answerAnything(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	_, _ = w.Write(h2script.Message(0, "an answer that does not fit into a window of a few bytes"))
	w.Header().Set("Grpc-Status", "0")
}
