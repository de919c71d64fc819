package interop_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// language is a gRPC library beside grpc-go, with the programs of test/clients that use it.
type language struct {
	Name string
	// Installed is a file that is there once tools/setup-tests.sh has installed the library.
	Installed string
	// Client is the command that makes the calls, Server the one that serves; nil where there is none.
	Client, Server []string
}

var languages = []language{
	{
		Name: "grpc-js", Installed: clients("node", "node_modules", ".installed"),
		Client: []string{"node", clients("node", "interop.js")},
	},
	{
		Name: "grpcio", Installed: clients("python", ".venv", ".installed"),
		Client: []string{python, clients("python", "interop.py")}, Server: []string{python, clients("python", "server.py")},
	},
	{
		Name: "grpc-java", Installed: clients("java", "target", ".installed"),
		Client: java("Client"), Server: java("Server"),
	},
}

var python = clients("python", ".venv", "bin", "python")

// clients gives a path under test/clients.
func clients(path ...string) string {
	return filepath.Join(append([]string{"..", "clients"}, path...)...)
}

// java gives the command that runs a class of ours. The options only spare the machine: less is compiled, and in fewer threads.
func java(class string) []string {
	target := clients("java", "target")
	path := filepath.Join(target, "classes") + string(os.PathListSeparator) + filepath.Join(target, "dependency", "*")
	return []string{"java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", path, "flyproxy.interop." + class}
}

// need ends the test where the library is missing: as a failure where everything is required.
func (l language) need(t *testing.T, command []string) {
	t.Helper()
	_, err := os.Stat(l.Installed)
	if err == nil {
		_, err = exec.LookPath(command[0])
	}
	switch {
	case err == nil:
	case os.Getenv("CI") != "" || os.Getenv("REQUIRE_ALL_TESTS") != "":
		t.Fatalf("%s is missing, and nothing may be skipped here: run make setup (%v)", l.Name, err)
	default:
		t.Skipf("%s is missing: run make setup (%v)", l.Name, err)
	}
}

// TestLanguages runs the clients of test/clients and judges each case. What the cases are is said in test/clients/README.md.
func TestLanguages(t *testing.T) {
	t.Parallel()
	for _, p := range append([]plane{direct}, planes...) {
		t.Run(p.Name, func(t *testing.T) {
			const largest = 16 << 20
			a := startApp(t, grpc.MaxRecvMsgSize(largest), grpc.MaxSendMsgSize(largest))
			address := p.start(t, a.Address)
			for _, l := range languages {
				t.Run(l.Name, func(t *testing.T) {
					l.need(t, l.Client)
					a.forget()
					said := runClient(t, append(slices.Clone(l.Client), address))
					for name, judge := range verdicts {
						t.Run(name, func(t *testing.T) {
							s, ok := said[name]
							switch {
							case !ok:
								t.Fatal("the client has not run the case")
							case s.Failure != "":
								t.Fatal(s.Failure)
							}
							judge(t, a, s)
						})
					}
					if len(said) != len(verdicts) {
						t.Errorf("the client has run %d cases, want %d", len(said), len(verdicts))
					}
				})
			}
		})
	}
}

// line is what a client prints of a case.
type line struct {
	Case, Failure     string
	Reply             string
	Messages          []string
	Headers, Trailers map[string][]string
	Code              int
	Message           string
	Details           []byte
	Bytes             int
	Same              bool
}

// runClient gives what the client has printed, by case.
func runClient(t *testing.T, command []string) map[string]line {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.Bytes())
	}
	said := make(map[string]line)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		said[l.Case] = l
	}
	return said
}

// verdicts are the cases, and what must have come of each.
var verdicts = map[string]func(*testing.T, *app, line){
	"unary":         func(t *testing.T, _ *app, l line) { same(t, "reply", l.Reply, "hello") },
	"server_stream": func(t *testing.T, _ *app, l line) { same(t, "messages", l.Messages, numbers("%d", 200)) },
	"client_stream": func(t *testing.T, _ *app, l line) { same(t, "reply", l.Reply, "200 200000") },
	"ping_pong":     func(t *testing.T, _ *app, l line) { same(t, "messages", l.Messages, numbers("%d", 50)) },
	"concurrent":    func(t *testing.T, _ *app, l line) { same(t, "messages", l.Messages, numbers("%02d", 100)) },
	"metadata": func(t *testing.T, _ *app, l line) {
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		want := map[string][]string{"x-echo-text": {"a", "b"}, "x-echo-bin": {base64.StdEncoding.EncodeToString(all)}}
		same(t, "headers", l.Headers, want)
		same(t, "trailers", l.Trailers, want)
	},
	"deadline": func(t *testing.T, a *app, l line) {
		// An app whose own timer is first resets the call with CANCEL, which a client takes for CANCELLED, with and without a proxy.
		o := noted(t, a, "deadline", context.DeadlineExceeded, context.Canceled)
		if !o.Late || l.Code != int(codes.Canceled) {
			same(t, "code", l.Code, int(codes.DeadlineExceeded))
		}
	},
	"cancel": func(t *testing.T, a *app, l line) {
		same(t, "code", l.Code, int(codes.Canceled))
		noted(t, a, "cancel", context.Canceled)
	},
	"error": func(t *testing.T, _ *app, l line) {
		want := failure()
		same(t, "code", l.Code, int(want.Code))
		same(t, "message", l.Message, want.Message)
		got := &spb.Status{}
		if err := proto.Unmarshal(l.Details, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("details: %v, %v, want %v", got, err, want)
		}
	},
	"large": func(t *testing.T, _ *app, l line) {
		same(t, "bytes", l.Bytes, 8<<20)
		same(t, "same", l.Same, true)
	},
	"gzip": func(t *testing.T, a *app, l line) {
		same(t, "bytes", l.Bytes, 100_000)
		same(t, "same", l.Same, true)
		if o, ok := a.outcome("gzip"); !ok || !o.Zipped {
			t.Errorf("the request has reached the app: %v, compressed: %v", ok, o.Zipped)
		}
	},
}

// noted checks that the call came to its end at the app, and in one of these ways.
func noted(t *testing.T, a *app, note string, want ...error) outcome {
	t.Helper()
	eventually(t, "the end of the call at the app", func() bool { _, ok := a.outcome(note); return ok })
	o, _ := a.outcome(note)
	if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(o.Err, w) }) {
		t.Errorf("at the app the call ended with %v, want one of %v", o.Err, want)
	}
	return o
}

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// numbers are those below n in that format.
func numbers(format string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf(format, i))
	}
	return all
}
