package sidecar_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
)

// metrics are what a scraper gets.
func metrics(t *testing.T, s *sidecar.Sidecar) string {
	t.Helper()
	res, err := http.Get("http://" + s.AdminAddress() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// A limit names itself: in the status of the call that hits it, in the metrics, and in the log.
func TestALimitThatIsHitIsNamed(t *testing.T) {
	_, port := serveApp(t, "app")
	s, log, _ := run(t, load(t, append(listed(port), "FLYPROXY_ENGINE=relay", "FLYPROXY_LIMITS_MAX_CALLS=1")...))
	await(t, "the app is known", func() bool { return s.Known("battle") == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := greeterv1.NewGreeterClient(connect(t, s))
	stream, err := client.Chat(ctx)
	if err == nil {
		err = stream.Send(&greeterv1.HelloRequest{})
	}
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Hello(ctx, &greeterv1.HelloRequest{})
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "limits.max_calls") {
		t.Errorf("a call too many: %v", err)
	}
	if text := metrics(t, s); !strings.Contains(text, "flyproxy_limit_hits_total{limit=\"max_calls\"} 1\n") {
		t.Errorf("metrics: %s", text)
	}
	await(t, "the log has the call", func() bool {
		return strings.Contains(log.String(), "msg=\"call failed\"") && strings.Contains(log.String(), "code=RESOURCE_EXHAUSTED")
	})
}

// unavailable is an app that answers every call so.
type unavailable struct {
	greeterv1.UnimplementedGreeterServer
}

func (unavailable) Hello(context.Context, *greeterv1.HelloRequest) (*greeterv1.HelloReply, error) {
	return nil, status.Error(codes.Unavailable, "not now")
}

// What retry.methods names goes to another instance where one answers UNAVAILABLE, and what it does not name fails.
func TestRetryMethods(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	greeterv1.RegisterGreeterServer(server, unavailable{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() { server.Stop(); <-served })
	_, port := serveApp(t, "good")
	list := fmt.Sprintf(`FLYPROXY_REGISTRY_STATIC=[{service: battle, id: good, address: "127.0.0.1:%s"}, {service: battle, id: bad, address: "%s"}]`,
		port, lis.Addr())
	for _, tc := range []struct {
		methods string
		safe    bool
	}{
		{"/flyproxy.demo.v1.Greeter/Hello", true},
		{"/flyproxy.demo.v1.Greeter/*", true},
		{"/flyproxy.demo.v1.Greeter/Count", false},
	} {
		s, _, stop := run(t, load(t, "FLYPROXY_ENGINE=relay", list, "FLYPROXY_ROUTING_POLICY=round_robin", "FLYPROXY_RETRY_BUDGET=1",
			"FLYPROXY_RETRY_METHODS="+tc.methods))
		await(t, "both apps are known", func() bool { return s.Known("battle") == 2 })
		client := greeterv1.NewGreeterClient(connect(t, s))
		failed := 0
		for range 10 {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if _, err := client.Hello(ctx, &greeterv1.HelloRequest{}); err != nil {
				failed++
			}
			cancel()
		}
		retried := !strings.Contains(metrics(t, s), "flyproxy_retries_total{reason=\"policy\"} 0\n")
		if (failed == 0) != tc.safe || retried != tc.safe {
			t.Errorf("%s: %d of 10 calls failed; retried: %v", tc.methods, failed, retried)
		}
		stop()
	}
}
