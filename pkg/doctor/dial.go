package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flyproxy/flyproxy/pkg/registrar"
)

// dialGRPC makes a client of address: host:port, or unix:// and a path; with cfg, of a server that speaks TLS.
func dialGRPC(address string, cfg *tls.Config) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if cfg != nil {
		creds = credentials.NewTLS(serverTLS(cfg, address))
	}
	if !strings.HasPrefix(address, "unix:") {
		address = "passthrough:///" + address
	}
	return grpc.NewClient(address, grpc.WithTransportCredentials(creds), grpc.WithUserAgent("flyproxy-doctor"),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithNoProxy())
}

// probe tells whether something on this host accepts at address.
func probe(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, hereLimit)
	defer cancel()
	return registrar.Probe(ctx, address)
}

// late tells whether the examination's time is over. What is bounded by the same deadline may end a moment before the context does.
func late(ctx context.Context) bool {
	end, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && time.Until(end) < 20*time.Millisecond
}

// plain says what a network error means, without the addresses that Go's own words repeat.
func plain(err error) string {
	var name *net.DNSError
	switch {
	case errors.As(err, &name):
		return lookupFault(name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens there"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to that host"
	case errors.Is(err, syscall.ENETUNREACH):
		return "no route to that network"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this host has no address from which to go there"
	case errors.Is(err, syscall.ECONNRESET):
		return "the connection was reset"
	case errors.Is(err, os.ErrDeadlineExceeded), timedOut(err):
		return "no answer in time"
	}
	return err.Error()
}

// lookupFault says why a name was not resolved.
func lookupFault(err *net.DNSError) string {
	switch {
	case err.IsNotFound:
		return "the name " + err.Name + " does not exist"
	case err.IsTimeout:
		return "the resolver did not answer for the name " + err.Name
	}
	return "the name " + err.Name + " was not resolved: " + err.Err
}
