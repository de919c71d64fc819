package e2e_test

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// asked is what a sidecar has asked of the registry since its start, by operation; "watch" is a connection, all others are one script
// each.
type asked map[string]int

var operation = regexp.MustCompile(`(?m)^flyproxy_registry_duration_seconds_count\{op="(\w+)"\} (\d+)$`)

func askedBy(t *testing.T, all []*sidecar) []asked {
	t.Helper()
	out := make([]asked, len(all))
	for i, s := range all {
		_, body := get(t, "http://"+s.admin()+"/metrics")
		out[i] = make(asked)
		for _, m := range operation.FindAllStringSubmatch(body, -1) {
			out[i][m[1]] = number(t, m[2])
		}
	}
	return out
}

// count adds up what all have asked: beats and other scripts.
func count(all []asked) (beats, others int) {
	for _, a := range all {
		for op, n := range a {
			switch op {
			case "beat":
				beats += n
			case "watch":
			default:
				others += n
			}
		}
	}
	return beats, others
}

// scripts is how often Redis was asked to run a script since it started.
func scripts(t *testing.T, redis *redistest.Server) int {
	t.Helper()
	m := regexp.MustCompile(`cmdstat_evalsha:calls=(\d+)`).FindStringSubmatch(redis.Text("INFO", "commandstats"))
	if m == nil {
		t.Fatal("no evalsha was counted")
	}
	return number(t, m[1])
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// onlyBeats shows that a fleet in which nothing happens asks for one command a sidecar and interval, and for nothing else. What the
// start of the fleet left over, or a connection that broke, may spoil a stretch of beats; then the next one counts.
func onlyBeats(t *testing.T, redis *redistest.Server, all []*sidecar) {
	eventually(t, "for five intervals there are only beats", func() bool { return fiveBeats(t, redis, all) })
}

func fiveBeats(t *testing.T, redis *redistest.Server, all []*sidecar) bool {
	t.Helper()
	began := time.Now()
	before := askedBy(t, all)
	beatsBefore, othersBefore := count(before)
	// The sidecars are asked before Redis is, so what is under way just now can only make this larger.
	unknown := scripts(t, redis) - beatsBefore - othersBefore
	<-time.NewTimer(5 * interval).C // beats need that time
	after := before
	eventually(t, "every sidecar has beaten five times", func() bool {
		after = askedBy(t, all)
		for i := range all {
			if after[i]["beat"]-before[i]["beat"] < 5 {
				return false
			}
		}
		return true
	})
	took := time.Since(began)
	beatsAfter, othersAfter := count(after)
	beats, others := beatsAfter-beatsBefore, othersAfter-othersBefore
	eventually(t, "every script that Redis ran was asked for by a sidecar that says so", func() bool {
		b, o := count(askedBy(t, all))
		return scripts(t, redis)-b-o <= unknown
	})
	per := float64(beats) / float64(len(all)) / (float64(took) / float64(interval))
	t.Logf("%d beats and %d other commands by %d sidecars in %v: %.3f beats a sidecar and interval",
		beats, others, len(all), took.Round(time.Millisecond), per)
	// A slow machine makes fewer; nothing makes many more.
	if per > 2 {
		t.Errorf("%.3f beats a sidecar and interval", per)
	}
	return others == 0
}
