package conformance_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"

	"github.com/flyproxy/flyproxy/test/conformance/leak"
)

// interopCases are those of grpc-go's interop_test.sh that need no credentials. orca_oob is missing: its server needs a reporting
// interval that only grpc-go's own packages can set; and pick_first_unary, for which grpc-go's server gives no id.
var interopCases = []struct {
	name string
	run  func(ctx context.Context, cc *grpc.ClientConn, dial func() (*grpc.ClientConn, func()))
}{
	{"empty_unary", onService(interop.DoEmptyUnaryCall)},
	{"large_unary", onService(interop.DoLargeUnaryCall)},
	{"client_streaming", onService(interop.DoClientStreaming)},
	{"server_streaming", onService(interop.DoServerStreaming)},
	{"ping_pong", onService(interop.DoPingPong)},
	{"empty_stream", onService(interop.DoEmptyStream)},
	{"timeout_on_sleeping_server", onService(interop.DoTimeoutOnSleepingServer)},
	{"cancel_after_begin", onService(interop.DoCancelAfterBegin)},
	{"cancel_after_first_response", onService(interop.DoCancelAfterFirstResponse)},
	{"status_code_and_message", onService(interop.DoStatusCodeAndMessage)},
	{"special_status_message", onService(interop.DoSpecialStatusMessage)},
	{"custom_metadata", onService(interop.DoCustomMetadata)},
	{"unimplemented_method", func(ctx context.Context, cc *grpc.ClientConn, _ func() (*grpc.ClientConn, func())) {
		interop.DoUnimplementedMethod(ctx, cc)
	}},
	{"unimplemented_service", func(ctx context.Context, cc *grpc.ClientConn, _ func() (*grpc.ClientConn, func())) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(cc))
	}},
	{"orca_per_rpc", onService(func(ctx context.Context, tc testgrpc.TestServiceClient, _ ...grpc.CallOption) {
		interop.DoORCAPerRPCTest(ctx, tc)
	})},
	{"rpc_soak", func(ctx context.Context, cc *grpc.ClientConn, _ func() (*grpc.ClientConn, func())) {
		soak(ctx, 40, func() (*grpc.ClientConn, func()) { return cc, func() {} })
	}},
	{"channel_soak", func(ctx context.Context, _ *grpc.ClientConn, dial func() (*grpc.ClientConn, func())) {
		soak(ctx, 20, dial)
	}},
}

func onService(run func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(
	context.Context, *grpc.ClientConn, func() (*grpc.ClientConn, func())) {
	return func(ctx context.Context, cc *grpc.ClientConn, _ func() (*grpc.ClientConn, func())) {
		run(ctx, testgrpc.NewTestServiceClient(cc))
	}
}

// soak has the payload sizes of interop_test.sh and far fewer iterations.
func soak(ctx context.Context, iterations int, channel func() (*grpc.ClientConn, func())) {
	const within = 20 * time.Second
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	interop.DoSoakTest(ctx, interop.SoakTestConfig{
		RequestSize: 271828, ResponseSize: 314159, PerIterationMaxAcceptableLatency: within, OverallTimeout: within,
		NumWorkers: 2, Iterations: iterations, MaxFailures: 0, ChannelForTest: channel,
	})
}

// TestInterop runs grpc-go's interop client against its interop server, directly and through every engine.
func TestInterop(t *testing.T) {
	for _, en := range engines {
		t.Run(en.Name, func(t *testing.T) {
			leak.Check(t, "google.golang.org/grpc", "flyproxy/pkg/")
			address := startInterop(t)
			if en.Start != nil {
				e := newEnv(t, en)
				e.join(address)
				address = e.address
			}
			dial := func() (*grpc.ClientConn, func()) {
				cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
					grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`))
				if err != nil {
					t.Fatal(err)
				}
				return cc, func() { cc.Close() }
			}
			cc, hangUp := dial()
			defer hangUp()
			for _, tc := range interopCases {
				t.Run(tc.name, func(t *testing.T) {
					defer func() {
						switch f := recover().(type) {
						case nil:
						case interopFailure:
							t.Error(string(f))
						default:
							panic(f)
						}
					}()
					tc.run(t.Context(), cc, dial)
				})
			}
		})
	}
}

// startInterop runs the interop server.
func startInterop(t *testing.T) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(orca.CallMetricsServerOption(nil))
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

// interopFailure is what the interop client says when a case fails. It says so with grpclog.Fatal, which would end the process without
// a word of which test it was.
type interopFailure string

// fatalPanics is a grpclog logger that is silent, and panics where it should exit.
type fatalPanics struct{ grpclog.LoggerV2 }

func (fatalPanics) Fatal(args ...any)   { panic(interopFailure(fmt.Sprint(args...))) }
func (fatalPanics) Fatalln(args ...any) { panic(interopFailure(fmt.Sprintln(args...))) }
func (fatalPanics) Fatalf(format string, args ...any) {
	panic(interopFailure(fmt.Sprintf(format, args...)))
}
func (fatalPanics) V(int) bool              { return false }
func (fatalPanics) Info(...any)             {}
func (fatalPanics) Infoln(...any)           {}
func (fatalPanics) Infof(string, ...any)    {}
func (fatalPanics) Warning(...any)          {}
func (fatalPanics) Warningln(...any)        {}
func (fatalPanics) Warningf(string, ...any) {}
func (fatalPanics) Error(...any)            {}
func (fatalPanics) Errorln(...any)          {}
func (fatalPanics) Errorf(string, ...any)   {}

// grpc-go's logger may be set only before anything of it runs.
func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(fatalPanics{})
	os.Exit(m.Run())
}
