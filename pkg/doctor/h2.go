package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// What a server may be instead of an HTTP/2 server of the kind that was expected.
var (
	errSpeaksTLS   = errors.New("it speaks TLS")
	errSpeaksPlain = errors.New("it does not speak TLS")
	errHTTP1       = errors.New("it answers as an HTTP/1 server")
	errOtherBytes  = errors.New("it answers with something that is no HTTP/2")
	errCloses      = errors.New("it accepts the connection and closes it without an answer")
	errSilent      = errors.New("it accepts the connection and sends nothing")
	errRefusesUs   = errors.New("it refuses our certificate, or that we show none")
	errALPN        = errors.New("it does not agree to h2 by ALPN")
)

// target is a server to greet.
type target struct {
	network, address string // as of net.Dial
	tls              func() *tls.Config
	timeout          time.Duration // for each step
	connects         int           // how many connects to measure, one at the least
	control          func(network, address string, c syscall.RawConn) error
}

// greeting is what an HTTP/2 server says at first.
type greeting struct {
	connect time.Duration // the median of the connects
	// The values of its SETTINGS, with those of RFC 9113 §6.5.2 where it does not say. Negative is no limit.
	maxStreams, maxHeaderList int64
	window                    int64
}

func (g greeting) String() string {
	limit := func(n int64) string {
		if n < 0 {
			return "unlimited"
		}
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("HTTP/2: %s streams at a time, window %s, header list %s", limit(g.maxStreams), size(g.window), sizeOr(g.maxHeaderList))
}

func sizeOr(n int64) string {
	if n < 0 {
		return "unlimited"
	}
	return size(n)
}

func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.4g KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

// greet connects, and reads the server's SETTINGS. The error is one of those above, or what dialling or the handshake failed with.
func greet(ctx context.Context, t target) (greeting, error) {
	var g greeting
	conn, took, err := t.dial(ctx)
	if err != nil {
		return g, err
	}
	defer func() { _ = conn.Close() }()
	times := []time.Duration{took}
	for range t.connects - 1 {
		extra, took, err := t.dial(ctx)
		if err != nil {
			break // the first one tells
		}
		_ = extra.Close()
		times = append(times, took)
	}
	g.connect = median(times)
	if t.tls != nil {
		if conn, err = t.handshake(ctx, conn); err != nil {
			return g, err
		}
	}
	err = g.exchange(conn, t.deadline(ctx))
	if t.tls == nil && (errors.Is(err, errCloses) || errors.Is(err, errOtherBytes) || errors.Is(err, errHTTP1)) && t.speaksTLS(ctx) {
		err = errSpeaksTLS
	}
	return g, err
}

func (t *target) dial(ctx context.Context) (net.Conn, time.Duration, error) {
	d := net.Dialer{Timeout: t.timeout, Control: t.control}
	began := time.Now()
	conn, err := d.DialContext(ctx, t.network, t.address)
	return conn, time.Since(began), err
}

func (t *target) deadline(ctx context.Context) time.Time {
	at := time.Now().Add(t.timeout)
	if end, ok := ctx.Deadline(); ok && end.Before(at) {
		return end
	}
	return at
}

func (t *target) handshake(ctx context.Context, conn net.Conn) (net.Conn, error) {
	ctx, cancel := context.WithDeadline(ctx, t.deadline(ctx))
	defer cancel()
	tc := tls.Client(conn, serverTLS(t.tls(), t.address))
	if err := tc.HandshakeContext(ctx); err != nil {
		var header tls.RecordHeaderError
		switch {
		case errors.As(err, &header):
			return conn, errSpeaksPlain
		case !ofCertificate(err) && !alerted(err):
			plain := *t
			plain.tls, plain.connects = nil, 1
			if _, plainErr := greet(ctx, plain); plainErr == nil {
				return conn, errSpeaksPlain
			}
		}
		return conn, fmt.Errorf("TLS handshake: %w", err)
	}
	if got := tc.ConnectionState().NegotiatedProtocol; got != "h2" {
		return tc, errALPN
	}
	return tc, nil
}

// serverTLS completes a configuration as the data plane does.
func serverTLS(cfg *tls.Config, address string) *tls.Config {
	cfg.NextProtos = []string{"h2"}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(address)
	}
	return cfg
}

// alerted tells whether the other side has refused a handshake, which a server without TLS cannot.
func alerted(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// speaksTLS tells whether a handshake succeeds with whatever certificate, or is refused as only TLS does. Nothing is sent on it.
func (t *target) speaksTLS(ctx context.Context) bool {
	conn, _, err := t.dial(ctx)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithDeadline(ctx, t.deadline(ctx))
	defer cancel()
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).HandshakeContext(ctx)
	return err == nil || alerted(err)
}

// exchange sends the client's preface and reads the server's (RFC 9113 §3.4).
func (g *greeting) exchange(conn net.Conn, deadline time.Time) error {
	_ = conn.SetDeadline(deadline)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return errCloses
	}
	in := bufio.NewReader(conn)
	framer := http2.NewFramer(conn, in)
	_ = framer.WriteSettings()
	head, err := in.Peek(9)
	switch {
	case len(head) >= 4 && string(head[:4]) == "HTTP":
		return errHTTP1
	case alerted(err):
		return fmt.Errorf("%w: %w", errRefusesUs, err)
	case err != nil && timedOut(err):
		return errSilent
	case err != nil && len(head) == 0:
		return errCloses
	case err != nil, http2.FrameType(head[3]) != http2.FrameSettings:
		return errOtherBytes
	}
	frame, err := framer.ReadFrame()
	settings, ok := frame.(*http2.SettingsFrame)
	if err != nil || !ok || settings.IsAck() {
		return errOtherBytes
	}
	g.maxStreams, g.maxHeaderList, g.window = -1, -1, 65535
	_ = settings.ForeachSetting(func(s http2.Setting) error {
		switch s.ID {
		case http2.SettingMaxConcurrentStreams:
			g.maxStreams = int64(s.Val)
		case http2.SettingMaxHeaderListSize:
			g.maxHeaderList = int64(s.Val)
		case http2.SettingInitialWindowSize:
			g.window = int64(s.Val)
		}
		return nil
	})
	_ = framer.WriteSettingsAck()
	_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
	return nil
}

func timedOut(err error) bool {
	var late net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) && late.Timeout()
}

func ofCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	return errors.As(err, &verification)
}

// certificateFault says what is wrong with a server's certificate, and what to do. Keys are of the configuration.
func certificateFault(err error, caFile, serverName string) (found, do string) {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate is not valid at this time: " + invalid.Error(), "renew it; if it is valid, this Machine's clock is wrong"
	case errors.As(err, &host):
		return "its certificate is for another name: " + host.Error(), "set " + serverName + " to a name in the certificate"
	case errors.As(err, &authority):
		return "its certificate is signed by an authority that is not known here", "set " + caFile + " to a PEM file with that authority"
	}
	return "its certificate is refused: " + err.Error(), "check " + caFile + " and " + serverName
}

func median(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}

// within refuses to connect outside of the networks, as the data plane does.
func within(networks []netip.Prefix) func(string, string, syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		if ap, err := netip.ParseAddrPort(address); err == nil && !registry.Allowed(networks, ap.Addr()) {
			return fmt.Errorf("%w: %s", registry.ErrNetwork, ap.Addr())
		}
		return nil
	}
}
