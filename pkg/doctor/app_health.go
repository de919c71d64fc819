package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/registrar"
)

// healthCheck asks an app for its health as the registrar does, by Check and by Watch.
type healthCheck struct {
	f       *findings
	subject string
	app     config.App
	limit   time.Duration // for each of the two
}

func (h *healthCheck) asked() string {
	if h.app.Health.Service == "" {
		return "the server as a whole"
	}
	return fmt.Sprintf("%q", h.app.Health.Service)
}

func (h *healthCheck) run(ctx context.Context, at string) {
	if h.app.Health.Mode == "none" {
		h.f.skip(h.subject, "health.mode is none: the app counts as healthy while flyproxy runs")
		return
	}
	cc, err := dialGRPC(at, nil)
	if err != nil {
		h.f.add(appHealthFailed, h.subject, err.Error(), "")
		return
	}
	defer func() { _ = cc.Close() }()
	answer, err := h.check(ctx, cc)
	switch status.Code(err) {
	case codes.OK:
		h.judge(answer)
	case codes.Unimplemented:
		h.without()
		return
	case codes.NotFound:
		h.f.add(appHealthName, h.subject, "its health service does not know "+h.asked(), "set apps[].health.service to a name that it knows, or to none")
		return
	case codes.Unauthenticated, codes.PermissionDenied:
		h.f.add(appHealthDenied, h.subject, "it demands credentials for its health check: "+status.Convert(err).Message(),
			"exempt /grpc.health.v1.Health/ in the app's interceptor, or set health.mode to tcp")
		return
	default:
		if late(ctx) {
			h.f.skip(h.subject, "time ran out: health")
			return
		}
		h.f.add(appHealthFailed, h.subject, fmt.Sprintf("its health check fails with %v: %s", status.Code(err), status.Convert(err).Message()),
			"see the app's log; a check must answer within apps[].health.timeout, "+h.app.Health.Timeout.String())
		return
	}
	if h.app.Health.Mode == "auto" || h.app.Health.Mode == "watch" {
		h.watch(ctx, cc)
	}
}

func (h *healthCheck) check(ctx context.Context, cc *grpc.ClientConn) (healthpb.HealthCheckResponse_ServingStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, h.limit)
	defer cancel()
	reply, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{Service: h.app.Health.Service})
	return reply.GetStatus(), err
}

func (h *healthCheck) judge(answer healthpb.HealthCheckResponse_ServingStatus) {
	if answer == healthpb.HealthCheckResponse_SERVING {
		h.f.add(appServing, h.subject, "its health service says SERVING for "+h.asked(), "")
		return
	}
	h.f.add(appNotServing, h.subject, fmt.Sprintf("its health service says %s for %s: it is not registered", answer, h.asked()),
		"see the app's log for why; it registers by itself once it is SERVING")
}

// without is for an app that has no health service.
func (h *healthCheck) without() {
	if h.app.Health.Mode == "watch" || h.app.Health.Mode == "check" {
		h.f.add(appHealthMode, h.subject, "it has no health service (grpc.health.v1), and health.mode is "+h.app.Health.Mode, "set apps[].health.mode to auto or tcp")
		return
	}
	h.f.add(appNoHealth, h.subject, "it has no health service (grpc.health.v1): it counts as healthy while it accepts connections",
		"add one: every gRPC library has it, and with Watch a crash or NOT_SERVING is known at once")
}

// watch opens a Watch and takes its first answer.
func (h *healthCheck) watch(ctx context.Context, cc *grpc.ClientConn) {
	ctx, cancel := context.WithTimeout(ctx, h.limit)
	defer cancel()
	stream, err := healthpb.NewHealthClient(cc).Watch(ctx, &healthpb.HealthCheckRequest{Service: h.app.Health.Service})
	if err == nil {
		_, err = stream.Recv()
	}
	switch {
	case err == nil:
		h.f.add(appServing, h.subject, "Watch answers too: changes are known at once", "")
	case status.Code(err) == codes.Unimplemented && h.app.Health.Mode == "watch":
		h.f.add(appHealthMode, h.subject, "its health service has no Watch, and health.mode is watch", "set apps[].health.mode to auto or check")
	case status.Code(err) == codes.Unimplemented:
		h.f.add(appNoWatch, h.subject, "its health service has no Watch: it is asked every "+h.app.Health.Interval.String(), "")
	default:
		h.f.add(appHealthFailed, h.subject, fmt.Sprintf("Watch of its health service fails with %v: %s", status.Code(err), status.Convert(err).Message()),
			"set apps[].health.mode to check, or mend Watch")
	}
}

// reflection asks which gRPC services the app offers, by which calls without other hints find their way.
func (e *examination) reflection(ctx context.Context, f *findings, subject string, app config.App, at string) {
	if len(app.GRPCServices) > 0 {
		f.add(appReflection, subject, "apps[].grpc_services says: "+strings.Join(app.GRPCServices, ", "), "")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hereLimit)
	defer cancel()
	names, err := registrar.ListServices(ctx, at)
	switch {
	case err == nil && len(names) > 0:
		f.add(appReflection, subject, "offers "+strings.Join(names, ", "), "")
	case err == nil:
		f.add(appNoReflection, subject, "reflection lists no service", "list them in apps[].grpc_services where calls of other services' apps are to find it by name")
	default:
		f.add(appNoReflection, subject, "no reflection ("+status.Code(err).String()+"): calls find this app as service "+app.Service+" only, not by the name of its gRPC service",
			"only if several services share a cluster: list apps[].grpc_services, or turn reflection on")
	}
}
