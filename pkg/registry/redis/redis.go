// Package redis is the registry in Redis: a [registry.Store] on one Redis, a Sentinel set-up or a Redis Cluster.
//
// Everything of a namespace lies under one hash tag, so that one script may touch all of it in a cluster too:
//
//	flyproxy:v1:{ns}:instances   hash, service/id → record
//	flyproxy:v1:{ns}:leases      sorted set, service/id → expiry in ms of Redis' clock
//	flyproxy:v1:{ns}:load        hash, service/id → "<ms of Redis' clock>|<load>"
//	flyproxy:v1:{ns}:version     string, changes with every change of instances
//	flyproxy:v1:{ns}:beat        string, ms of Redis' clock when anybody last beat
//	flyproxy:v1:{ns}:changes     channel, one message for each change
//
// The beat key is what tells one dead instance from a fleet that could not reach Redis; scripts/beat.lua says how. No key has a
// time to live: where memory runs short, Redis' volatile-* policies evict such keys first.
//
// Every operation is one script, so it happens wholly or not at all as seen by others, and costs one command. Scripts are
// called by digest; the first call after Redis lost its script cache sends the text.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// Mode says what stands at the addresses.
type Mode string

// The modes.
const (
	// Standalone is one Redis, or a proxy that looks like one. It is the default.
	Standalone Mode = "standalone"
	// Sentinel is a primary that Sentinels name; the addresses are the Sentinels'.
	Sentinel Mode = "sentinel"
	// Cluster is a Redis Cluster; the addresses are some of its nodes.
	Cluster Mode = "cluster"
)

// Defaults of [Config].
const (
	DefaultNamespace   = "default"
	DefaultDialTimeout = 2 * time.Second
	DefaultTimeout     = 2 * time.Second
)

// TLS turns TLS on.
type TLS struct {
	// CAFile is a PEM file with the authorities to trust; empty means those of the system.
	CAFile string
	// ServerName is what the certificate must name; empty means the host that is dialled. Sentinels and cluster nodes are dialled
	// by IP address, so it is usually needed there.
	ServerName string
	// Config replaces both when it is not nil.
	Config *tls.Config
}

// Config is what [New] needs. Its zero values mean the defaults.
type Config struct {
	// Addresses are host:port. Exactly one for [Standalone].
	Addresses []string
	Mode      Mode
	Username  string
	Password  string
	// DB is the number of the database; a Cluster has only 0.
	DB  int
	TLS *TLS

	// SentinelMaster is the name by which Sentinels know the primary.
	SentinelMaster   string
	SentinelUsername string
	SentinelPassword string

	// DialTimeout bounds the making of a connection, with TLS.
	DialTimeout time.Duration
	// Timeout bounds one exchange with Redis. An operation is tried again where that may help, and takes at most twice as long.
	Timeout time.Duration

	// Namespace separates fleets that share a Redis: letters, digits, dot, dash and underscore.
	Namespace string
	// Codec checks records; nil means one with its defaults.
	Codec  *registry.Codec
	Logger *slog.Logger
	// Observe, when not nil, is told of every operation: register, beat, deregister, snapshot, loads and watch. For a watch d is the
	// time that it took to come into force, or to fail; that a watch which was in force is lost is an error that took 0. It may be
	// called concurrently.
	Observe func(op string, d time.Duration, err error)
}

// Store is a [registry.Store] in Redis.
type Store struct {
	client  goredis.UniversalClient
	codec   *registry.Codec
	log     *slog.Logger
	observe func(op string, d time.Duration, err error)

	keys    []string // the scripts' KEYS, the channel last
	channel string
	timeout time.Duration

	known    knowledge
	rejected rejections
	loads    loadTable
}

var _ registry.Store = (*Store)(nil)

var namespaceForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// New makes a Store. It does not connect: a Redis that is down now may be up later.
func New(cfg Config) (*Store, error) {
	if cfg.Namespace == "" {
		cfg.Namespace = DefaultNamespace
	}
	if !namespaceForm.MatchString(cfg.Namespace) {
		return nil, fmt.Errorf("redis namespace %q: only letters, digits, dot, dash and underscore, 64 at most", cfg.Namespace)
	}
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = DefaultDialTimeout
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Codec == nil {
		cfg.Codec = &registry.Codec{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, time.Duration, error) {}
	}
	client, err := newClient(&cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{
		client:  client,
		codec:   cfg.Codec,
		log:     cfg.Logger,
		observe: cfg.Observe,
		timeout: cfg.Timeout,
		loads:   loadTable{turn: make(chan struct{}, 1)},
	}
	s.name(cfg.Namespace)
	return s, nil
}

// prefix begins the names of a namespace. Their braces have a cluster put all of them into one slot.
func prefix(namespace string) string { return "flyproxy:v1:{" + namespace + "}:" }

// name sets the names of the keys and the channel.
func (s *Store) name(namespace string) {
	s.channel = prefix(namespace) + "changes"
	for _, name := range []string{"instances", "leases", "load", "version", "beat", "changes"} {
		s.keys = append(s.keys, prefix(namespace)+name)
	}
}

// Close closes all connections. A Watch must be ended by its context.
func (s *Store) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, goredis.ErrClosed) {
		return fmt.Errorf("close redis client: %w", err)
	}
	return nil
}

// Rejected counts the records that failed their checks in what was read so far, by the check: too_large, malformed, address,
// network, signature. A record counts each time that it is read.
func (s *Store) Rejected() map[string]uint64 { return s.rejected.counts() }

// run calls a script within the store's time bound and does what every operation has in common.
func (s *Store) run(ctx context.Context, op string, script *goredis.Script, args ...any) ([]any, error) {
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, 2*s.timeout)
	defer cancel()
	reply, err := script.Run(bounded, s.client, s.keys, args...).Slice()
	if err != nil {
		err = storeError(ctx, op, err)
	}
	if errors.Is(err, registry.ErrUnavailable) {
		s.known.failed()
		s.refresh(ctx)
	}
	s.observe(op, time.Since(began), err)
	return reply, err
}

// refresh makes a cluster client ask anew which node has our slot; by itself it would do so only every 10 s or when it is told
// that a slot moved, which a dead node does not say.
func (s *Store) refresh(ctx context.Context) {
	if cluster, ok := s.client.(*goredis.ClusterClient); ok {
		cluster.ReloadState(ctx)
	}
}

// storeError says which of the registry's errors err is. ctx is the caller's, without the store's own time bound.
func storeError(ctx context.Context, op string, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%s: %w: %w", op, registry.ErrUnavailable, ctx.Err())
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
	var refused goredis.Error
	var network net.Error
	switch {
	case goredis.HasErrorPrefix(err, "WRONGKEYTYPE"):
		return fmt.Errorf("%s: %w: %w; delete it or choose another namespace", op, registry.ErrWrongType, err)
	case goredis.IsAuthError(err), goredis.IsPermissionError(err),
		strings.Contains(err.Error(), "The user executing the script can't"):
		// The last is how Redis 7 says NOPERM inside a script.
		return fmt.Errorf("%s: %w: %w", op, registry.ErrAuth, err)
	case goredis.HasErrorPrefix(err, "MOVED"):
		return fmt.Errorf("%s: %w: %w; this is a Redis Cluster: set the mode to cluster", op, registry.ErrUnavailable, err)
	case errors.Is(err, goredis.Nil):
		// No script of ours replies nil; Sentinels do so to a name that they do not know.
		return fmt.Errorf("%s: %w: the Sentinels know no master of that name", op, registry.ErrUnavailable)
	case temporary(err):
		return fmt.Errorf("%s: %w: %w", op, registry.ErrUnavailable, err)
	case errors.As(err, &refused):
		return fmt.Errorf("%s: redis refused: %w", op, err)
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, goredis.ErrClosed),
		errors.Is(err, goredis.ErrPoolTimeout), errors.Is(err, goredis.ErrPoolExhausted):
		return fmt.Errorf("%s: %w: %w", op, registry.ErrUnavailable, err)
	}
	// What is left are failures to find a node at all (no Sentinel reachable, no node for a slot), which have no type of their own.
	return fmt.Errorf("%s: %w: %w", op, registry.ErrUnavailable, err)
}

// temporary tells whether Redis answered that it cannot serve now.
func temporary(err error) bool {
	if goredis.IsLoadingError(err) || goredis.IsReadOnlyError(err) || goredis.IsClusterDownError(err) ||
		goredis.IsTryAgainError(err) || goredis.IsMasterDownError(err) || goredis.IsMaxClientsError(err) ||
		goredis.IsOOMError(err) || goredis.IsNoReplicasError(err) {
		return true
	}
	for _, prefix := range []string{"BUSY", "MISCONF", "NOREPLICAS", "UNBLOCKED"} {
		if goredis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}
