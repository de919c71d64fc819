package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/test/deploy/standin"
	"github.com/flyproxy/flyproxy/test/internal/proc"
)

func TestFlyIsMissing(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{})
	r := pl.run(t, []string{redis})
	r.want(t, 1, "fly, Fly's command line tool, is not on PATH", "https://fly.io/docs/flyctl/install/")
	if len(r.platform.Calls) > 0 {
		t.Errorf("calls: %q", r.platform.Calls)
	}
}

func TestFlyctlOnly(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{}, "flyctl")
	pl.run(t, []string{redis}, "1").want(t, 0, "==> flyctl deploy", "==> 1 serve")
}

func TestNotLoggedIn(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{LoggedOut: true}, "fly")
	r := pl.run(t, []string{redis})
	r.want(t, 1, "fly is not logged in (Error: no access token available", "Run: fly auth login", "FLY_API_TOKEN")
	if len(r.platform.Calls) != 1 {
		t.Errorf("calls: %q", r.platform.Calls)
	}
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for args, text := range map[string]string{
		"0":                     `"0" is no number of Machines`,
		"abc":                   `"abc" is no number of Machines`,
		"3.5":                   `"3.5" is no number of Machines`,
		"007":                   `"007" is no number of Machines`,
		"-3":                    "unknown flag -3",
		"3 4":                   "one number of Machines is wanted, not 3 and 4",
		"--region ams":          "unknown flag --region",
		"--regions":             "--regions needs a value",
		"--regions=":            "--regions needs a value",
		"--regions AMS":         `"AMS" is no list of regions`,
		"--regions ams,,fra":    `"ams,,fra" is no list of regions`,
		"--app My_App":          `"My_App" is no name of an app`,
		"--timeout soon":        `"soon" is no number of seconds`,
		"3 --dry-run --verbose": "unknown flag --verbose",
		"--app x --config":      "--config needs a value",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			pl := newPlace(t, standin.Platform{}, "fly")
			r := pl.run(t, []string{redis}, strings.Fields(args)...)
			r.want(t, 64, text, "--help")
			if len(r.platform.Calls) > 0 {
				t.Errorf("calls: %q", r.platform.Calls)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	newPlace(t, standin.Platform{}).run(t, nil, "--help").want(t, 0, "Usage: tools/deploy-flyio-cluster.sh [N] [--regions a,b,c] [--app NAME]", "SUPABASE_SERVICE_KEY")
}

// Without a Redis nothing is begun.
func TestNoRedis(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]standin.Platform{
		"new app": {}, "old app": {App: "test-battle", Secrets: map[string]string{"REDIS_PASSWORD": "x", "MY_REDIS_URL": "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pl := newPlace(t, p, "fly")
			r := pl.run(t, []string{"JWT_SECRET=x", "REDIS_URL="})
			r.want(t, 1, "no Redis: neither REDIS_URL nor REDIS_HOST is set here or as a secret of test-battle", "export REDIS_URL=", "fly redis create")
			if r.changed() {
				t.Errorf("calls: %q", r.platform.Calls)
			}
		})
	}
}

func TestRedisIsSetAlready(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{App: "test-battle", Secrets: map[string]string{"REDIS_HOST": "x"}}, "fly")
	r := pl.run(t, nil, "2")
	r.want(t, 0, "no secret is set in the environment", "==> 2 serve")
	if slices.Contains(r.commands(), "secrets import") {
		t.Errorf("calls: %q", r.platform.Calls)
	}
}

// Whatever fails is said with what to do, and nothing after it is done.
func TestFailures(t *testing.T) {
	t.Parallel()
	for command, tc := range map[string]struct {
		app   string
		texts []string
		last  string
	}{
		"status":         {texts: []string{"cannot look at app test-battle:", "Error: boom"}, last: "status --app"},
		"secrets list":   {app: "test-battle", texts: []string{"cannot list the secrets of test-battle:", "Error: boom"}, last: "secrets list"},
		"apps create":    {texts: []string{"Error: boom", "app test-battle could not be created", "--app NAME", "FLY_ORG"}, last: "apps create"},
		"secrets import": {texts: []string{"Error: boom", "the secrets could not be set", "Nothing was deployed."}, last: "secrets import"},
		"deploy":         {texts: []string{"Error: boom", "the deploy failed", "fly logs --app test-battle", "flyproxy doctor"}, last: "deploy --app"},
		"scale":          {texts: []string{"Error: boom", "the deploy is done, but scaling to 3 failed", "fly scale count app=3"}, last: "scale count"},
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			pl := newPlace(t, standin.Platform{App: tc.app, Fail: map[string]string{command: "boom"}}, "fly")
			env := []string{redis}
			if command == "secrets list" {
				env = nil
			}
			r := pl.run(t, env)
			r.want(t, 1, tc.texts...)
			if got := r.commands(); got[len(got)-1] != tc.last {
				t.Errorf("it goes on after the failure: %q", got)
			}
		})
	}
}

// Waiting ends, and shows what is there.
func TestNeverServes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		p     standin.Platform
		texts []string
	}{
		"draining": {standin.Platform{Slow: 1000}, []string{"after 3 s 0 of 2 serve:", "ams-0 in ams: draining", "ams-1 in ams: draining"}},
		"ssh fails": {standin.Platform{Fail: map[string]string{"ssh": "connect tcp: no route"}},
			[]string{"after 3 s 0 of 2 serve:", "No instance of test-battle is registered.", "The last answer: Error: connect tcp: no route"}},
		"ssh hangs": {standin.Platform{Hang: []string{"ssh"}}, []string{"after 3 s 0 of 2 serve:"}},
		"too many":  {standin.Platform{App: "test-battle", Linger: 1000}, []string{"after 3 s 3 of 2 serve:", "gone in ams: serving"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newPlace(t, tc.p, "fly").run(t, []string{redis}, "2", "--timeout", "3")
			r.want(t, 1, append(tc.texts, "fly logs --app test-battle", "Run this again")...)
			if r.took > 30*time.Second {
				t.Errorf("it took %v", r.took)
			}
		})
	}
}

// What an error of the network calls "not found" is a host, and no reason to create an app.
func TestHostNotFoundIsNoMissingApp(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"dial tcp: lookup api.fly.io: host not found", "failed to get app: server returned 404 page not found", "organization not found",
	} {
		pl := newPlace(t, standin.Platform{Fail: map[string]string{"status": text}}, "fly")
		r := pl.run(t, []string{redis})
		r.want(t, 1, "cannot look at app test-battle:", "Error: "+text)
		if r.changed() {
			t.Errorf("%s: calls: %q", text, r.platform.Calls)
		}
	}
	// The API's own words, of GraphQL and of the Machines API (fly-go, flaps_apps_test.go).
	for _, text := range []string{`failed to get app: Could not find App "test-battle"`, "failed to get app: app not found"} {
		pl := newPlace(t, standin.Platform{Fail: map[string]string{"status": text}}, "fly")
		pl.run(t, []string{redis}, "1").want(t, 0, "app test-battle does not exist yet", "==> 1 serve")
	}
}

// As a shim of asdf or mise, fly is a shell whose child does the work: when that hangs, --timeout holds all the same, and nothing of it is
// left behind.
func TestTimeoutHoldsForAWrapper(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{Hang: []string{"ssh"}})
	wrapper := "#!/bin/sh\n'" + fly + "' \"$@\"\nexit $?\n"
	if err := os.WriteFile(filepath.Join(pl.path, "fly"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	r := pl.run(t, []string{redis}, "2", "--timeout", "3")
	r.want(t, 1, "after 3 s 0 of 2 serve:", "Run this again")
	if r.took > 15*time.Second {
		t.Errorf("it took %v", r.took)
	}
	proc.Eventually(t, "nothing is left running", func() bool { return len(pl.running(t)) == 0 })
}

// A Ctrl-C while it waits ends it at once, with what it has started and its file.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{Hang: []string{"ssh"}}, "fly")
	tmp := t.TempDir()
	script := proc.StartCommand(t, "script", pl.script(t.Context(), []string{redis, "TMPDIR=" + tmp}, "2", "--timeout", "300"))
	proc.Eventually(t, "a Machine is asked", func() bool {
		return slices.ContainsFunc(pl.running(t), func(line string) bool { return strings.Contains(line, "ssh console") })
	})
	script.Signal(syscall.SIGINT)
	if code := script.Exit(10 * time.Second); code != 130 {
		t.Errorf("exit code %d\n%s", code, script.Output())
	}
	proc.Eventually(t, "nothing is left running", func() bool { return len(pl.running(t)) == 0 })
	if files, err := os.ReadDir(tmp); err != nil || len(files) > 0 {
		t.Errorf("files are left: %v, %v", files, err)
	}
}
