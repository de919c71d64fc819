package relay_test

import (
	"slices"
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/leak"
)

func windowSettings(values ...uint32) (s []http2.Setting) {
	for _, v := range values {
		s = append(s, http2.Setting{ID: http2.SettingInitialWindowSize, Val: v})
	}
	return s
}

// Schedules that broke a rule once, or that random ones come across too rarely. In all of them client 0 is end 0, the peer's connection
// is end 1, and where nothing else is said there is one call.
func TestModelSchedules(t *testing.T) {
	const much = 18 << 20
	var (
		sends = func(k modelKind, call, size, piece, pad int) modelStep {
			return modelStep{Kind: k, Call: call, Size: size, Piece: piece, Pad: pad}
		}
		clientSends1 = func(size int) modelStep { return sends(clientSends, 0, size, 1<<24, 0) }
		peerSends1   = func(size int) modelStep { return sends(peerSends, 0, size, 1<<24, 0) }
		shut         = modelManner{Settings: windowSettings(0)}
		arrives      = modelStep{Kind: awaitsArrival, Must: true}
		pings        = modelStep{Kind: awaitsPings}
		headers      = modelStep{Kind: peerHeaders}
		trailers     = modelStep{Kind: peerTrailers}
		dies         = modelStep{Kind: peerDies, End: 1}
	)
	for _, tc := range []struct {
		name         string
		calls        int
		client, peer modelManner
		steps        []modelStep
	}{
		{
			name:  "calls that wait for room get it",
			calls: 12,
			peer:  modelManner{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}},
		},
		{
			name:  "a request that is whole before there is room for it",
			peer:  modelManner{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}}},
			steps: []modelStep{clientSends1(100_000), {Kind: clientEnds}, pings, pings, pings},
		},
		{
			name:  "more than every window both ways",
			calls: 3,
			steps: []modelStep{
				headers, {Kind: peerHeaders, Call: 1},
				sends(clientSends, 0, much, 16000, 255), sends(peerSends, 0, much, 16000, 255),
				sends(clientSends, 1, much, 1<<24, 0), sends(peerSends, 1, much, 1<<24, 0),
				sends(clientSends, 2, 20_000, 1, 255),
			},
		},
		{
			name:  "settings are acknowledged before the DATA that they release",
			peer:  shut,
			steps: []modelStep{clientSends1(1000), arrives, pings, pings, {Kind: sendsSettings, End: 1, Settings: windowSettings(65535)}, pings},
		},
		{
			name: "a value within SETTINGS that another one follows releases nothing",
			peer: shut,
			steps: []modelStep{clientSends1(1000), arrives, pings, pings,
				{Kind: sendsSettings, End: 1, Settings: windowSettings(65535, 100)}, pings},
		},
		{
			name: "request trailers that meet a reset",
			steps: []modelStep{arrives, {Kind: stopsReading}, {Kind: peerResets, Code: http2.ErrCodeCancel}, pings,
				{Kind: clientEnds, Style: modelStyle{Pieces: 20}}, {Kind: reads}, pings},
		},
		{
			name:  "a request does not hang when its peer is lost after the answer",
			steps: []modelStep{arrives, trailers, pings, pings, clientSends1(3 << 20), pings, dies, pings},
		},
		{
			name:   "the end of a response waits for a window when NO_ERROR comes",
			client: shut,
			steps:  []modelStep{arrives, headers, peerSends1(1000), trailers, {Kind: peerResets, Code: http2.ErrCodeNo}, pings, pings},
		},
		{
			name:   "a whole response that waits for a window outlives its peer",
			client: shut,
			steps:  []modelStep{arrives, headers, peerSends1(1000), trailers, pings, dies, pings, pings},
		},
		{
			name:   "what waits for a client that dies is not held for ever",
			client: shut,
			steps:  []modelStep{arrives, headers, peerSends1(1000), pings, pings, {Kind: clientDies}},
		},
		{
			name: "a refused call that is too large to be sent again",
			steps: []modelStep{clientSends1(300_000), arrives, {Kind: givesCredit, End: 1, Size: 1 << 20}, pings, pings,
				{Kind: peerRefuses}, pings},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			leak.Check(t, "flyproxy/pkg/relay.")
			newModelRun(t, &modelSchedule{
				Clients: []modelManner{tc.client}, Peers: []modelManner{tc.peer},
				Calls: slices.Repeat([]modelCallPlan{{Status: "0"}}, max(tc.calls, 1)), Steps: tc.steps,
			}).run()
		})
	}
}
