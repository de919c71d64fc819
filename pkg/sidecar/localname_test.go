package sidecar

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// silence stands for no answer at all.
const silence = dnsmessage.RCode(0xfff)

// nameServer answers as it is told, in turn for each try (which has several questions); its last answer it gives again and again.
type nameServer struct {
	net.PacketConn
	address netip.Addr // of a success

	mu      sync.Mutex // guards answers
	answers []dnsmessage.RCode
}

func startNameServer(t *testing.T, answers ...dnsmessage.RCode) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{PacketConn: conn, address: netip.MustParseAddr("fdaa:0:1::2"), answers: answers}
	done := make(chan error, 1)
	go func() { done <- s.serve() }()
	t.Cleanup(func() {
		_ = conn.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

// resolver asks this server alone.
func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", s.LocalAddr().String())
	}}
}

// next is what the next question is answered with.
func (s *nameServer) next() dnsmessage.RCode {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	return code
}

func (s *nameServer) serve() error {
	buf := make([]byte, 4096)
	for {
		n, from, err := s.ReadFrom(buf)
		if err != nil {
			return err
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil {
			return err
		}
		q, code := m.Questions[0], s.next()
		if code == silence {
			continue
		}
		reply := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true, RCode: code},
			Questions: m.Questions,
		}
		if code == dnsmessage.RCodeSuccess && q.Type == dnsmessage.TypeAAAA {
			reply.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AAAAResource{AAAA: s.address.As16()},
			}}
		}
		out, err := reply.Pack()
		if err != nil {
			return err
		}
		if _, err := s.WriteTo(out, from); err != nil {
			return err
		}
	}
}

// A look-up that failed (a time limit, SERVFAIL) counted as "no such name", and a gateway that was unlucky at boot listened on all
// addresses of its Machine.
func TestFailedLookupOnFlyDoesNotWidenTheListener(t *testing.T) {
	for _, tc := range []struct {
		name    string
		answers []dnsmessage.RCode
		want    []string // none: an error
	}{
		{"it is there", []dnsmessage.RCode{present}, oneAddress},
		{"it is not there", []dnsmessage.RCode{absent}, allAddresses},
		{"it is there after failures", []dnsmessage.RCode{failure, failure, failure, failure, failure, failure, failure, failure, present}, oneAddress},
		{"it is there after silence", []dnsmessage.RCode{silence, silence, present}, oneAddress},
		{"it is not there after failures", []dnsmessage.RCode{failure, failure, failure, failure, failure, failure, failure, failure, absent}, allAddresses},
		{"SERVFAIL", []dnsmessage.RCode{failure}, nil},
		{"no answer", []dnsmessage.RCode{silence}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := gatewayListens(t, startNameServer(t, tc.answers...).resolver(), "FLY_APP_NAME=s", "FLY_MACHINE_ID=m", "FLY_REGION=ams",
				"FLY_PRIVATE_IP=fdaa:0:1::2")
			if !reflect.DeepEqual(got, tc.want) || (err == nil) != (tc.want != nil) {
				t.Fatalf("%v %v, want %v", got, err, tc.want)
			}
			if err == nil {
				return
			}
			for _, says := range []string{"listen: ", "fly-local-6pn", "/etc/hosts", "set listen (or FLYPROXY_LISTEN)", "[::]:50052"} {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("the error lacks %q: %v", says, err)
				}
			}
			t.Log(err)
		})
	}
}

// Elsewhere nobody expects the name, and a host without a way to a resolver is no reason not to start.
func TestFailedLookupOffFlyMeansAllAddresses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer dnsmessage.RCode
		want   []string
	}{
		{"it is there", present, oneAddress}, {"it is not there", absent, allAddresses},
		{"SERVFAIL", failure, allAddresses}, {"no answer", silence, allAddresses},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			got, err := gatewayListens(t, startNameServer(t, tc.answer).resolver())
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%v %v, want %v", got, err, tc.want)
			}
			if took := time.Since(began); took >= resolveLimit {
				t.Errorf("it took %v", took)
			}
		})
	}
	t.Run("no way to a resolver", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		got, err := gatewayListens(t, &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "udp", Err: syscall.ENETUNREACH}
		}})
		if err != nil || !reflect.DeepEqual(got, allAddresses) {
			t.Errorf("%v %v, want %v", got, err, allAddresses)
		}
		if took := time.Since(began); took >= resolveLimit {
			t.Errorf("it took %v", took)
		}
	})
}

const present, failure, absent = dnsmessage.RCodeSuccess, dnsmessage.RCodeServerFailure, dnsmessage.RCodeNameError

var oneAddress, allAddresses = []string{"[fdaa:0:1::2]:50052"}, []string{"[::]:50052"}

// gatewayListens is where a gateway that asks r listens.
func gatewayListens(t *testing.T, r *net.Resolver, env ...string) ([]string, error) {
	t.Helper()
	cfg, err := config.Load(config.Options{
		Environ:  append(env, "FLYPROXY_MODE=gateway", "FLYPROXY_SERVICE=s", "REDIS_HOST=r"),
		ReadFile: func(string) ([]byte, error) { return nil, fs.ErrNotExist },
	})
	if err != nil {
		t.Fatal(err)
	}
	return listenAddresses(cfg, r, slog.New(slog.DiscardHandler))
}
