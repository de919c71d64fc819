package sidecar

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"syscall"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// listen binds all addresses of one configuration key, or none. An IPv6 loopback address that this host does not have is left out
// as long as another one is bound: localhost means both, and a host without IPv6 has only one. Mode is for unix sockets among them.
func listen(key, env string, addresses []string, mode fs.FileMode, log *slog.Logger) ([]net.Listener, error) {
	var bound []net.Listener
	var absent []error
	for _, address := range addresses {
		if path, ok := config.SocketPath(address); ok {
			lis, err := listenSocket(path, mode, log)
			if err != nil {
				closeAll(bound)
				return nil, socketError(key, env, path, err)
			}
			bound = append(bound, lis)
			continue
		}
		lis, err := net.Listen("tcp", address)
		switch {
		case err == nil:
			bound = append(bound, lis)
		case lacksIPv6(address, err):
			absent = append(absent, err)
		default:
			closeAll(bound)
			return nil, bindError(key, env, address, err)
		}
	}
	if len(bound) == 0 && len(absent) > 0 {
		return nil, bindError(key, env, addresses[0], absent[0])
	}
	for _, err := range absent {
		log.Warn("this host has no IPv6 loopback: accepting on IPv4 only", "key", key, "error", err)
	}
	return bound, nil
}

func closeAll(listeners []net.Listener) {
	for _, lis := range listeners {
		_ = lis.Close() // nothing was accepted yet
	}
}

func lacksIPv6(address string, err error) bool {
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil || host != "::1" {
		return false
	}
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// bindError says what is wrong with an address, and which key to change.
func bindError(key, env, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %s is in use by another process (another flyproxy?): stop that one, or set %s (or %s) to a free port: %w",
			key, address, key, env, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: this host has no address %s: set %s (or %s) to one that it has: %w", key, address, key, env, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: no permission to listen on %s: set %s (or %s) to a port above 1023: %w", key, address, key, env, err)
	}
	return fmt.Errorf("%s: listen on %s: %w", key, address, err)
}
