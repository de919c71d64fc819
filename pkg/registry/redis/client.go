package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// A sidecar beats, registers and reads snapshots, seldom two at a time.
	poolSize = 4
	// Tried again after a lost connection or a moved primary. All operations may be repeated: with the same incarnation they come to
	// the same end.
	retries         = 2
	minRetryBackoff = 20 * time.Millisecond
	maxRetryBackoff = 250 * time.Millisecond
	// TCP keepalive finds a peer that vanished from a connection on which nothing is sent.
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveProbes   = 3
)

// newClient makes the client for cfg's mode. None of them reads from replicas. All speak RESP2, which keeps messages of a
// subscription apart from anything that a server may push in RESP3; none sends what a plain Redis or a proxy refuses (CLIENT
// MAINT_NOTIFICATIONS, CLIENT SETINFO).
func newClient(cfg *Config) (goredis.UniversalClient, error) {
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("redis: no address")
	}
	for _, a := range cfg.Addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return nil, fmt.Errorf("redis address %q is not host:port", a)
		}
	}
	tlsConfig, err := cfg.TLS.config()
	if err != nil {
		return nil, err
	}
	// go-redis has one logger for the whole process and writes to stderr by default. Whatever it says there it also returns as
	// an error, which this package's own logger gets. The same value is set each time, so two stores do not disagree.
	goredis.SetLogger(silent{})
	d := &dialer{
		net: net.Dialer{
			Timeout: cfg.DialTimeout,
			KeepAliveConfig: net.KeepAliveConfig{
				Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveProbes,
			},
		},
		tls:     tlsConfig,
		timeout: cfg.DialTimeout,
	}
	off := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

	switch cfg.Mode {
	case Standalone, "":
		if len(cfg.Addresses) > 1 {
			return nil, fmt.Errorf("redis: %d addresses in mode standalone; several need mode sentinel or cluster", len(cfg.Addresses))
		}
		return goredis.NewClient(&goredis.Options{
			Addr: cfg.Addresses[0], Username: cfg.Username, Password: cfg.Password, DB: cfg.DB,
			Dialer: d.dial, Protocol: 2, DisableIdentity: true, MaintNotificationsConfig: off,
			MaxRetries: retries, MinRetryBackoff: minRetryBackoff, MaxRetryBackoff: maxRetryBackoff,
			DialTimeout: cfg.DialTimeout, DialerRetries: 1, ReadTimeout: cfg.Timeout, WriteTimeout: cfg.Timeout,
			ContextTimeoutEnabled: true, PoolSize: poolSize, PipelinePoolSize: -1,
		}), nil
	case Sentinel:
		if cfg.SentinelMaster == "" {
			return nil, errors.New("redis: mode sentinel needs the name of the master")
		}
		return goredis.NewFailoverClient(&goredis.FailoverOptions{
			MasterName: cfg.SentinelMaster, SentinelAddrs: cfg.Addresses,
			SentinelUsername: cfg.SentinelUsername, SentinelPassword: cfg.SentinelPassword,
			Username: cfg.Username, Password: cfg.Password, DB: cfg.DB,
			Dialer: d.dial, Protocol: 2, DisableIdentity: true,
			MaxRetries: retries, MinRetryBackoff: minRetryBackoff, MaxRetryBackoff: maxRetryBackoff,
			DialTimeout: cfg.DialTimeout, DialerRetries: 1, ReadTimeout: cfg.Timeout, WriteTimeout: cfg.Timeout,
			ContextTimeoutEnabled: true, PoolSize: poolSize, PipelinePoolSize: -1,
		}), nil
	case Cluster:
		if cfg.DB != 0 {
			return nil, fmt.Errorf("redis: database %d in mode cluster; a cluster has only 0", cfg.DB)
		}
		return goredis.NewClusterClient(&goredis.ClusterOptions{
			Addrs: cfg.Addresses, Username: cfg.Username, Password: cfg.Password,
			Dialer: d.dial, Protocol: 2, DisableIdentity: true, MaintNotificationsConfig: off,
			MinRetryBackoff: minRetryBackoff, MaxRetryBackoff: maxRetryBackoff,
			DialTimeout: cfg.DialTimeout, DialerRetries: 1, ReadTimeout: cfg.Timeout, WriteTimeout: cfg.Timeout,
			ContextTimeoutEnabled: true, PoolSize: poolSize, PipelinePoolSize: -1,
			// The policies are for commands that go to several shards; ours have all keys in one slot. Without this the client asks
			// for the table of all commands first.
			DisableRoutingPolicies: true,
		}), nil
	}
	return nil, fmt.Errorf("redis mode %q: choose standalone, sentinel or cluster", cfg.Mode)
}

// config gives the TLS configuration, nil for none.
func (t *TLS) config() (*tls.Config, error) {
	switch {
	case t == nil:
		return nil, nil
	case t.Config != nil:
		return t.Config.Clone(), nil
	}
	c := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("redis CA file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("redis CA file %s: no certificate in it", t.CAFile)
		}
	}
	return c, nil
}

// dialer makes connections that end with their context, the TLS handshake included, which go-redis' own do not.
type dialer struct {
	net     net.Dialer
	tls     *tls.Config
	timeout time.Duration // for connection and handshake together
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if d.tls == nil {
		return d.net.DialContext(ctx, network, address)
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	return (&tls.Dialer{NetDialer: &d.net, Config: d.tls}).DialContext(ctx, network, address)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
