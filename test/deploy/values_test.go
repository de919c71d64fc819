package deploy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/test/deploy/standin"
)

// Values arrive as they are, whatever is in them.
func TestOddValues(t *testing.T) {
	t.Parallel()
	names := []string{
		"REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_USERNAME", "REDIS_PASSWORD", "JWT_SECRET",
		"SMTP_HOST", "SMTP_USER", "SMTP_PASS", "SUPABASE_URL", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_KEY",
	}
	sets := [][]string{
		{
			`plain`, `with space`, ` around `, `a=b==`, `it's`, `say "hi"`, `"quoted"`, `'quoted'`, `#comment`, `a #b`, `"a#b`, `$HOME \n $(date) ` + "`date`",
		},
		{
			"two\nlines", "\nfirst empty", "last empty\n", "-----BEGIN-----\nabc=\n-----END-----\n", "a\r\nb", "a\rb", "\"\"\"", "\"\"\"\nx",
			"a\"#\nb", "x\"\"\"\ny", "ключ é 鍵", strings.Repeat("k", 50_000),
		},
	}
	letters := []string{`"`, `'`, `#`, `=`, " ", "\n", "\r", `\`, `$`, "a", "é", `"""`}
	random := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		var set []string
		for range names {
			var b strings.Builder
			for range 1 + random.IntN(12) {
				b.WriteString(letters[random.IntN(len(letters))])
			}
			set = append(set, "x"+strings.TrimSpace(b.String())+"y") // no white space at an end: see TestImpossibleValue
		}
		sets = append(sets, set)
	}
	for i, set := range sets {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			var env []string
			want := make(map[string]string)
			for n, name := range names {
				env = append(env, name+"="+set[n])
				want[name] = set[n]
			}
			r := newPlace(t, standin.Platform{}, "fly").run(t, env, "1")
			r.want(t, 0)
			for name, value := range want {
				if got := r.platform.Secrets[name]; got != value {
					t.Errorf("%s arrives as %q, it is %q", name, got, value)
				}
			}
		})
	}
}

// What no way of passing keeps as it is, is refused by name and not by value.
func TestImpossibleValue(t *testing.T) {
	t.Parallel()
	r := newPlace(t, standin.Platform{}, "fly").run(t, []string{redis, "JWT_SECRET= hush\"#\nhush"}, "1")
	r.want(t, 1, "the value of JWT_SECRET cannot be passed to fly as it is", "Set it in the dashboard")
	if strings.Contains(r.output, "hush") || r.changed() {
		t.Errorf("%s\n%q", r.output, r.commands())
	}
}
