package interop_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"testing"

	"google.golang.org/grpc/testdata"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// grpcGoCases are the cases of grpc-go's interop_test.sh. It leaves out those that need credentials, and pick_first_unary, for which
// grpc-go's server gives no id.
var grpcGoCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
	"special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service", "orca_per_rpc", "orca_oob", "rpc_soak", "channel_soak",
}

// throughTLS is the relay to an app with TLS, which is how interop_test.sh starts the server.
var throughTLS = plane{"relay-tls", func(r *routing.Router) (engine.Engine, error) {
	ca, err := os.ReadFile(testdata.Path("ca.pem"))
	if err != nil {
		return nil, err
	}
	c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "foo.test.google.fr"}
	c.RootCAs.AppendCertsFromPEM(ca)
	return relay.New(relay.Config{Router: r, TLS: func() *tls.Config { return c }})
}}

// TestGRPCGo runs grpc-go's interop client against its interop server.
func TestGRPCGo(t *testing.T) {
	t.Parallel()
	plaintext, overTLS := startInteropServer(t), startInteropServer(t, "-use_tls")
	for _, p := range append([]plane{direct, throughTLS}, planes...) {
		t.Run(p.Name, func(t *testing.T) {
			server := plaintext
			if p.Name == throughTLS.Name {
				server = overTLS
			}
			address := p.start(t, server)
			for _, name := range grpcGoCases {
				t.Run(name, func(t *testing.T) {
					client := startProgram(t, "client", address, "-test_case", name,
						"-service_config_json", `{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`,
						"-soak_iterations", "200", "-soak_num_threads", "4", "-soak_overall_timeout_seconds", "60",
						"-soak_per_iteration_max_acceptable_latency_ms", "60000")
					client.wait(t, "")
				})
			}
		})
	}
}

// startInteropServer runs grpc-go's interop server until the test's end.
func startInteropServer(t *testing.T, flags ...string) (address string) {
	cmd := exec.Command(program(t, "server"), append([]string{"-port", "0"}, flags...)...)
	cmd.Env = append(os.Environ(), "GRPC_GO_LOG_SEVERITY_LEVEL=info")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	port := make(chan string, 1)
	read := make(chan struct{})
	go readLog(stderr, port, read)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	})
	p, ok := <-port
	if !ok {
		t.Fatal("the server ends before it listens")
	}
	return net.JoinHostPort("127.0.0.1", p)
}

var listensOn = regexp.MustCompile(`interop server listening on .*:(\d+)$`)

// readLog gives the port that the server's log names, and reads on until its end.
func readLog(log io.Reader, port chan<- string, read chan<- struct{}) {
	defer close(read)
	defer close(port)
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if m := listensOn.FindStringSubmatch(lines.Text()); m != nil {
			port <- m[1]
		}
	}
}
