package registrar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	backoffs "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// session asks one app over one connection. It ends with the connection, or when the app says by GOAWAY that it will end it: a
// Watch that stayed open would keep an app from stopping gracefully.
type session struct {
	w        *Watcher
	cc       *grpc.ClientConn
	health   healthpb.HealthClient
	ctx      context.Context
	cancel   context.CancelFunc
	received chan answer // from Watch
	polled   chan answer // from Check, or from TCP connects
	turn     chan string // tells poll to go on at once, and how; run never sends more than its capacity
	tasks    sync.WaitGroup

	// The rest belongs to run.
	how      string
	answered bool // Watch has answered
	noWatch  bool // Watch is UNIMPLEMENTED
	serving  bool // as Watch says
}

// answer is one answer of the app.
type answer struct {
	status healthpb.HealthCheckResponse_ServingStatus
	err    error
}

// errUsed ends a ClientConn's wish to reconnect: a session is one connection.
var errUsed = errors.New("the connection to the app is gone")

// handOver gives its connection to the first who asks.
type handOver struct{ conn atomic.Pointer[net.Conn] }

func (h *handOver) dial(context.Context, string) (net.Conn, error) {
	if c := h.conn.Swap(nil); c != nil {
		return *c, nil
	}
	return nil, errUsed
}

// newSession makes an HTTP/2 client of conn and waits until the app has answered as an HTTP/2 server. When that fails, conn is
// for the caller to close.
func newSession(ctx context.Context, w *Watcher, conn net.Conn) (*session, error) {
	var h handOver
	h.conn.Store(&conn)
	cc, err := grpc.NewClient("passthrough:///"+w.address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(h.dial),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoffs.DefaultConfig, MinConnectTimeout: w.cfg.Health.Timeout}),
		grpc.WithUserAgent("flyproxy-health"),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithIdleTimeout(0))
	if err != nil {
		return nil, err
	}
	s := &session{w: w, cc: cc, health: healthpb.NewHealthClient(cc),
		received: make(chan answer), polled: make(chan answer), turn: make(chan string, 2)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	if err := s.connect(); err != nil {
		s.close()
		return nil, err
	}
	s.tasks.Add(1)
	go s.endWithConnection()
	return s, nil
}

func (s *session) connect() error {
	ctx, cancel := context.WithTimeout(s.ctx, s.w.cfg.Health.Timeout)
	defer cancel()
	s.cc.Connect()
	for {
		switch state := s.cc.GetState(); state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure:
			// Only a call tells why.
			_, err := s.health.Check(ctx, &healthpb.HealthCheckRequest{Service: s.w.cfg.Health.Service})
			return fmt.Errorf("it accepts connections but does not answer as a plaintext HTTP/2 server: %s", status.Convert(err).Message())
		default:
			if !s.cc.WaitForStateChange(ctx, state) {
				return fmt.Errorf("it accepts connections but sent no HTTP/2 preface within %v", s.w.cfg.Health.Timeout)
			}
		}
	}
}

// endWithConnection ends the session once its connection is broken or going away.
func (s *session) endWithConnection() {
	defer s.tasks.Done()
	defer s.cancel()
	s.cc.WaitForStateChange(s.ctx, connectivity.Ready)
}

func (s *session) close() {
	s.cancel()
	s.cc.Close()
	s.tasks.Wait()
}

// run asks until the session ends.
func (s *session) run() {
	s.tasks.Add(1)
	go s.poll()
	switch s.w.cfg.Health.Mode {
	case HealthCheck:
		s.use("check", "health.mode says so")
	case HealthTCP:
		s.use("tcp", "health.mode says so")
	default:
		s.how = "watch"
		s.tasks.Add(1)
		go s.receive()
	}
	for {
		select {
		case <-s.ctx.Done():
			return
		case a := <-s.received:
			s.watched(a)
		case a := <-s.polled:
			s.checked(a)
		}
	}
}

// use goes over to another way of asking.
func (s *session) use(how, why string) {
	s.how = how
	s.w.using(how, why)
	if how != "watch" {
		s.turn <- how
	}
}

func (s *session) auto() bool { return s.w.cfg.Health.Mode == HealthAuto }

// watched takes an answer of Watch.
func (s *session) watched(a answer) {
	if s.how != "watch" || s.ctx.Err() != nil {
		return
	}
	if a.err == nil {
		if !s.answered {
			s.answered = true
			s.use("watch", "the app answers grpc.health.v1.Health/Watch")
		}
		s.serving = a.status == healthpb.HealthCheckResponse_SERVING
		s.judge(a)
		return
	}
	s.serving = false
	if status.Code(a.err) != codes.Unimplemented {
		s.w.observe(unsure, s.how, "Health/Watch ended: "+describe(a.err))
		return
	}
	if s.auto() {
		s.use("check", "Watch is UNIMPLEMENTED in the app")
		return
	}
	s.noWatch = true
	s.w.explain("no watch", "the app has no Health/Watch but health.mode is watch: set it to auto or check")
	s.w.observe(bad, s.how, "Health/Watch is UNIMPLEMENTED")
}

// checked takes an answer of Check. While Watch is in use, Check only confirms that an app which said SERVING still answers: an app
// that hangs says nothing on a Watch.
func (s *session) checked(a answer) {
	if s.ctx.Err() != nil {
		return
	}
	missing := status.Code(a.err) == codes.Unimplemented
	switch {
	case s.how == "tcp":
		if a.err != nil {
			s.w.observe(dialVerdict(a.err), s.how, a.err.Error())
			return
		}
		s.w.observe(good, s.how, "accepts connections")
	case s.noWatch:
		s.w.observe(bad, s.how, "Health/Watch is UNIMPLEMENTED")
	case s.how == "watch" && !s.answered:
		if a.err == nil && s.auto() {
			s.use("check", "Watch does not answer but Check does")
			s.judge(a)
			return
		}
		s.w.observe(unsure, s.how, "no answer to Health/Watch")
	case s.how == "watch" && !s.serving:
		s.w.remind() // Watch decides
	case s.how == "watch" && missing:
		s.w.observe(good, s.how, "SERVING")
	case missing && s.auto():
		s.use("tcp", "the app does not implement grpc.health.v1.Health")
	case missing:
		s.w.explain("no health", "the app does not implement grpc.health.v1.Health but health.mode is check: set it to auto or tcp")
		s.w.observe(bad, s.how, "UNIMPLEMENTED")
	default:
		s.judge(a)
	}
}

// judge counts what grpc.health.v1 says, by Watch or by Check.
func (s *session) judge(a answer) {
	service := s.w.cfg.Health.Service
	code := status.Code(a.err)
	switch {
	case code == codes.NotFound, a.err == nil && a.status == healthpb.HealthCheckResponse_SERVICE_UNKNOWN:
		s.w.explain("unknown service", "the app's health service does not know the service that it is asked for: set health.service to a "+
			"name that the app reports, or leave it empty to ask for the app as a whole", "health.service", service)
		s.w.observe(bad, s.how, fmt.Sprintf("the app's health service does not know %q (health.service)", service))
	case a.err != nil:
		if code == codes.Unauthenticated || code == codes.PermissionDenied {
			s.w.explain("denied", "the app demands credentials for its health check: exempt grpc.health.v1.Health there, or set health.mode "+
				"to tcp", "error", a.err)
		}
		s.w.observe(unsure, s.how, describe(a.err))
	case a.status == healthpb.HealthCheckResponse_SERVING:
		s.w.asked = ""
		s.w.observe(good, s.how, "SERVING")
	default:
		s.w.observe(bad, s.how, a.status.String())
	}
}

func describe(err error) string {
	st := status.Convert(err)
	return st.Code().String() + ": " + st.Message()
}

// receive passes on what Watch says, opening it again after an interval when the app ends it, until the app has none.
func (s *session) receive() {
	defer s.tasks.Done()
	for s.ctx.Err() == nil {
		err := s.receiveOnce()
		s.tell(s.received, answer{err: err})
		if status.Code(err) == codes.Unimplemented {
			return
		}
		pause(s.ctx, s.w.cfg.Health.Interval)
	}
}

func (s *session) receiveOnce() error {
	stream, err := s.health.Watch(s.ctx, &healthpb.HealthCheckRequest{Service: s.w.cfg.Health.Service})
	if err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		s.tell(s.received, answer{status: r.Status})
	}
}

// poll asks by Check, or by connecting, every interval and whenever the way of asking changes.
func (s *session) poll() {
	defer s.tasks.Done()
	how := "check"
	timer := time.NewTimer(s.w.cfg.Health.Interval)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case how = <-s.turn:
		case <-timer.C:
		}
		if how == "tcp" {
			s.tell(s.polled, answer{err: s.connectOnce()})
		} else {
			s.tell(s.polled, s.checkOnce())
		}
		timer.Reset(s.w.cfg.Health.Interval)
	}
}

func (s *session) checkOnce() answer {
	ctx, cancel := context.WithTimeout(s.ctx, s.w.cfg.Health.Timeout)
	defer cancel()
	r, err := s.health.Check(ctx, &healthpb.HealthCheckRequest{Service: s.w.cfg.Health.Service})
	return answer{status: r.GetStatus(), err: err}
}

func (s *session) connectOnce() error {
	conn, err := s.w.dialAt(s.ctx, s.w.address)
	if err == nil {
		conn.Close()
	}
	return err
}

// tell hands a to run, or drops it when the session has ended. An error waits a moment first: when the connection broke, calls fail
// before the break itself is reported, and a break is judged by dialling again.
func (s *session) tell(to chan<- answer, a answer) {
	if a.err != nil && status.Code(a.err) != codes.Unimplemented {
		pause(s.ctx, breakNotice)
	}
	select {
	case to <- a:
	case <-s.ctx.Done():
	}
}

// breakNotice is how long the report of a break may take to reach the session.
const breakNotice = 50 * time.Millisecond
