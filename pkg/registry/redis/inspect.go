package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// pings is how many round trips an inspection measures.
const pings = 7

// Inspection is what one look at a Redis has found. It is for people who ask what is wrong, so it goes on where it can after something
// has failed. What was not come to is zero.
type Inspection struct {
	// Endpoints are the configured addresses, each dialled by itself: those of Sentinels in mode sentinel.
	Endpoints []Endpoint
	// Err is why no command is answered, as one of the registry's errors. Everything below is zero then. Refusal says more.
	Err     error
	Refusal Refusal

	// Pings are the times of single round trips, in the order in which they were made.
	Pings []time.Duration
	// Clock is how far Redis' clock is ahead of ours, negative when it is behind, exact to ClockWithin.
	Clock, ClockWithin time.Duration
	ClockErr           error
	// Info is what INFO says, by name: redis_version, role, maxmemory_policy and so on. Where Redis does not tell, it is empty and
	// InfoErr says why.
	Info    map[string]string
	InfoErr error
	// SlotErr says that this node does not have our keys, as a node of a cluster that is asked in mode standalone.
	SlotErr error
	// Rights are what we may do there.
	Rights Rights
	// SubscribeErr is why changes cannot be heard.
	SubscribeErr error
}

// Refusal is a way in which a Redis refuses credentials.
type Refusal uint8

// The refusals.
const (
	// NotRefused means that credentials are not what is wrong.
	NotRefused Refusal = iota
	// PasswordMissing means that it wants a password, and none is configured.
	PasswordMissing
	// PasswordWrong means that user and password do not fit.
	PasswordWrong
	// PasswordUnwanted means that a password is configured, and the Redis has none.
	PasswordUnwanted
	// NotAllowed means that the user is known and may not do this.
	NotAllowed
)

// Inspect looks at the Redis that cfg names. It registers nothing and changes no key: the most that it leaves behind is the text of
// a script in the script cache. It is bounded by ctx, and each exchange by cfg's timeouts as usual. The error says that cfg cannot
// be used; everything else that is wrong is in the Inspection. Now is the clock to compare with.
func Inspect(ctx context.Context, cfg Config, now func() time.Time) (Inspection, error) {
	var in Inspection
	cfg.Logger, cfg.Observe = nil, nil
	store, err := New(cfg)
	if err != nil {
		return in, err
	}
	defer func() { _ = store.Close() }()
	in.Endpoints = reachAll(ctx, &cfg)
	if in.Err = unusable(in.Endpoints); in.Err != nil {
		return in, nil
	}

	node, err := store.node(ctx)
	if err == nil {
		err = node.Ping(ctx).Err()
	}
	if err != nil {
		in.Err, in.Refusal = storeError(ctx, "ping", err), refusal(err)
		return in, nil
	}
	for range pings {
		began := time.Now()
		if node.Ping(ctx).Err() != nil {
			break
		}
		in.Pings = append(in.Pings, time.Since(began))
	}
	in.clock(ctx, node, now)
	in.Info, in.InfoErr = info(ctx, node)
	if err := node.HLen(ctx, store.keys[0]).Err(); err != nil && (goredis.HasErrorPrefix(err, "MOVED") || goredis.HasErrorPrefix(err, "CLUSTERDOWN")) {
		in.SlotErr = err
	}
	in.Rights = store.rights(ctx, node, cfg.Username)
	in.SubscribeErr = store.subscribe(ctx)
	return in, nil
}

// unusable is an error where no address can be spoken to, so that nobody waits for the client's own attempts.
func unusable(all []Endpoint) error {
	var why error
	for i := range all {
		switch at := &all[i]; {
		case at.Err == nil && (at.Speaks == SpeaksAsExpected || at.Speaks == SpeaksNothing):
			return nil
		case at.Err != nil:
			why = at.Err
		case why == nil:
			why = errors.New(at.Address + " does not answer as is expected")
		}
	}
	return fmt.Errorf("ping: %w: %w", registry.ErrUnavailable, why)
}

// node is the client of the one server that has our keys.
func (s *Store) node(ctx context.Context) (*goredis.Client, error) {
	switch c := s.client.(type) {
	case *goredis.ClusterClient:
		return c.MasterForKey(ctx, s.keys[0])
	case *goredis.Client:
		return c, nil
	}
	return nil, fmt.Errorf("redis client is a %T", s.client)
}

// clock compares clocks, taking the middle of the exchange as the moment of the answer.
func (in *Inspection) clock(ctx context.Context, node *goredis.Client, now func() time.Time) {
	began := time.Now()
	at, err := node.Time(ctx).Result()
	took := time.Since(began)
	if err != nil {
		in.ClockErr = err
		return
	}
	in.Clock, in.ClockWithin = at.Sub(now().Add(-took/2)), took/2
}

// info reads INFO. Sections are not asked for one by one: some servers know none.
func info(ctx context.Context, node *goredis.Client) (map[string]string, error) {
	text, err := node.Info(ctx).Result()
	if err != nil {
		return nil, err
	}
	all := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && !strings.HasPrefix(name, "#") {
			all[name] = value
		}
	}
	return all, nil
}

// subscribe hears the confirmation of a subscription to the channel and ends it.
func (s *Store) subscribe(ctx context.Context) error {
	ps := s.client.Subscribe(ctx)
	defer func() { _ = ps.Close() }()
	if err := ps.Subscribe(ctx, s.channel); err != nil {
		return err
	}
	_, err := ps.ReceiveTimeout(ctx, s.timeout)
	return err
}

// refusal tells what about the credentials an error of the first command is about.
func refusal(err error) Refusal {
	text := err.Error()
	switch {
	case strings.Contains(text, "without any password configured"), strings.Contains(text, "no password is set"):
		return PasswordUnwanted
	case strings.Contains(text, "WRONGPASS"), strings.Contains(text, "invalid password"):
		return PasswordWrong
	case strings.Contains(text, "NOAUTH"):
		return PasswordMissing
	case goredis.IsPermissionError(err), strings.Contains(text, "NOPERM"):
		return NotAllowed
	}
	return NotRefused
}
