package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// maxStatusBytes bounds what is read of an answer; 10,000 instances have some 8 MB.
const maxStatusBytes = 64 << 20

// FetchStatus asks the flyproxy whose admin listener is at addr: host:port or :port, as in admin.listen, or a URL. Ctx
// bounds all of it. The error says what is wrong and what to do.
func FetchStatus(ctx context.Context, addr string) (Status, error) {
	target, err := statusURL(addr)
	if err != nil {
		return Status{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return Status{}, fmt.Errorf("ask %s for its status: %w", addr, err)
	}
	req.Header.Set("Accept", "application/json")
	// One request, one connection, and no proxy in between: an admin listener is on this host or on a private network.
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return Status{}, dialError(target.Host, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return Status{}, fmt.Errorf("%s answers %s with %s: is it flyproxy's admin listener? (admin.listen, --addr)",
			target.Host, PathStatus, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatusBytes+1))
	if err != nil {
		return Status{}, fmt.Errorf("read the status from %s: %w", target.Host, err)
	}
	if len(body) > maxStatusBytes {
		return Status{}, fmt.Errorf("the status from %s is larger than %d MiB", target.Host, maxStatusBytes>>20)
	}
	var s Status
	if err := json.Unmarshal(body, &s); err != nil {
		return Status{}, fmt.Errorf("what %s answers is no status of flyproxy: %w", target.Host, err)
	}
	return s, nil
}

// statusURL makes the URL of an address. [net.Dial] takes one without a host, or with one that stands for all addresses, as the
// local host.
func statusURL(addr string) (*url.URL, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil || u.Port() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("%q is no address of an admin listener: it has the form host:port, for example 127.0.0.1:9052",
			strings.TrimPrefix(addr, "http://"))
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: PathStatus}, nil
}

func dialError(host string, err error) error {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no flyproxy admin listener at %s: is it running? (admin.listen, --addr): %w", host, err)
	case errors.As(err, &dns):
		return fmt.Errorf("the name in %s cannot be resolved (--addr): %w", host, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer from %s in time: is it flyproxy's admin listener? (admin.listen, --addr): %w", host, err)
	}
	return fmt.Errorf("ask %s for its status: %w", host, err)
}
