package redistest_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// judged is a test that notes how it was ended.
type judged struct {
	testing.TB
	verdict string
}

func (j *judged) Skip(args ...any)  { j.verdict = "skip: " + fmt.Sprint(args...); runtime.Goexit() }
func (j *judged) Fatal(args ...any) { j.verdict = "fail: " + fmt.Sprint(args...); runtime.Goexit() }

func TestMissingServerSkipsOnlyWhereThatIsAllowed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, c := range []struct{ ci, all, want string }{
		{"", "", "skip"}, {"true", "", "fail"}, {"1", "", "fail"}, {"", "1", "fail"}, {"", "0", "skip"},
	} {
		t.Setenv("CI", c.ci)
		t.Setenv("REQUIRE_ALL_TESTS", c.all)
		for name, start := range map[string]func(testing.TB){
			"server":   func(t testing.TB) { redistest.Start(t, redistest.Config{}) },
			"cluster":  func(t testing.TB) { redistest.StartCluster(t, redistest.ClusterConfig{}) },
			"sentinel": func(t testing.TB) { redistest.StartSentinel(t, redistest.Config{}) },
		} {
			j := &judged{TB: t}
			ended := make(chan struct{})
			go func() { defer close(ended); start(j) }()
			<-ended
			if !strings.HasPrefix(j.verdict, c.want) || !strings.Contains(j.verdict, "redis-server") {
				t.Errorf("%s with CI=%q REQUIRE_ALL_TESTS=%q: %q, want %s", name, c.ci, c.all, j.verdict, c.want)
			}
		}
	}
}
