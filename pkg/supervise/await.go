package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// The pace at which a server that does not answer yet is asked again, and the time that one answer may take.
const (
	awaitEvery = 20 * time.Millisecond
	awaitOnce  = 5 * time.Second
)

// AwaitHTTP2 returns once one of the addresses, host:port or unix:///path, answers as a plaintext HTTP/2 server: with the SETTINGS that
// begin its side of a connection (RFC 9113 §3.4). A port that only accepts may be one whose process does not read from it yet. When ctx
// ends first, the error wraps why the last attempt failed.
func AwaitHTTP2(ctx context.Context, addresses []string) error {
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	var last error
	for {
		failed := make([]error, 0, len(addresses))
		for _, address := range addresses {
			err := askHTTP2(ctx, address)
			if err == nil {
				return nil
			}
			failed = append(failed, err)
		}
		if err := errors.Join(failed...); last == nil || !cutOff(err) {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-tick.C:
		}
	}
}

// askHTTP2 tells whether an HTTP/2 server answers at address.
func askHTTP2(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, awaitOnce)
	defer cancel()
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		network, address = "unix", path
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	framer := http2.NewFramer(conn, conn)
	if _, err = conn.Write([]byte(http2.ClientPreface)); err == nil {
		err = framer.WriteSettings()
	}
	var frame http2.Frame
	if err == nil {
		frame, err = framer.ReadFrame()
	}
	if err != nil {
		return fmt.Errorf("%s accepts connections but does not answer as an HTTP/2 server: %w", address, err)
	}
	if settings, ok := frame.(*http2.SettingsFrame); !ok || settings.IsAck() {
		return fmt.Errorf("%s does not answer as an HTTP/2 server: it begins with %v", address, frame.Header())
	}
	// No error of ours: a server that logs broken connections would log this one.
	_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
	return nil
}

// cutOff tells whether attempts failed for the lack of time only, which says less than what an earlier attempt has found.
func cutOff(err error) bool {
	var timeout net.Error
	return errors.Is(err, net.ErrClosed) || errors.As(err, &timeout) && timeout.Timeout()
}
