package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/test/deploy/standin"
)

const redis = "REDIS_URL=redis://default:pass-word@host:6379"

func TestFromNothing(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{Slow: 1, Others: 2}, "fly")
	r := pl.run(t, []string{redis, "JWT_SECRET=jwt-secret", "SMTP_USER=", "UNRELATED=1"}, "3", "--regions", "ams,fra", "--app", "my-app")
	r.want(t, 0, "app my-app does not exist yet", "REDIS_URL=****, JWT_SECRET=****", "0 of 3 serve", "==> 3 serve", "fra-0", "ams-1")
	want := []string{
		"auth whoami", "status --app", "apps create", "secrets import", "deploy --app", "scale count", "ssh console", "ssh console", "ssh console",
	}
	if got := r.commands(); !slices.Equal(got, want) {
		t.Errorf("calls %q\nwant %q", got, want)
	}
	calls := r.platform.Calls
	if got := calls[4].String(); got != "deploy --app my-app --config fly.toml --ha=false --yes --primary-region ams" {
		t.Errorf("deploy: %s", got)
	}
	if got := calls[5].String(); got != "scale count app=3 --app my-app --yes --region ams,fra" {
		t.Errorf("scale: %s", got)
	}
	if got := fmt.Sprint(r.platform.Secrets); got != "map[JWT_SECRET:jwt-secret REDIS_URL:redis://default:pass-word@host:6379]" {
		t.Errorf("secrets: %s", got)
	}
	for _, secret := range []string{"pass-word", "jwt-secret"} {
		if strings.Contains(r.output, secret) {
			t.Errorf("the output shows %s", secret)
		}
		for _, c := range calls {
			if strings.Contains(c.String(), secret) {
				t.Errorf("a command line shows %s", secret)
			}
		}
	}
}

func TestRunTwice(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{}, "fly")
	first := pl.run(t, []string{redis})
	first.want(t, 0, "==> 3 serve")
	before := len(first.platform.Calls)
	second := pl.run(t, []string{redis})
	second.want(t, 0, "==> 3 serve")
	again := second.commands()[before:]
	if want := slices.DeleteFunc(first.commands(), func(c string) bool { return c == "apps create" }); !slices.Equal(again, want) {
		t.Errorf("the second run calls %q\nwant %q", again, want)
	}
	if got := fmt.Sprint(second.platform.Machines); got != "map[ams:3]" {
		t.Errorf("Machines: %s", got)
	}
}

// Fewer Machines than before: those that are gone are still known for a while.
func TestScaleDown(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{App: "test-battle", Machines: map[string]int{"ams": 5}, Linger: 1}, "fly")
	r := pl.run(t, []string{redis}, "2")
	r.want(t, 0, "3 of 2 serve", "==> 2 serve")
}

// Machines in other regions than those asked for do not count.
func TestOtherRegions(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{App: "test-battle", Machines: map[string]int{"lhr": 2}}, "fly")
	r := pl.run(t, []string{redis}, "--regions=ams,fra", "2")
	r.want(t, 0, "==> 2 serve")
	if got := fmt.Sprint(r.platform.Machines); got != "map[ams:1 fra:1 lhr:2]" {
		t.Errorf("Machines: %s", got)
	}
}

// A move to another region pays for both until the old one is emptied: the end says so, with the command, and that command does it.
func TestMachinesElsewhereAreNamed(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{App: "test-battle", Machines: map[string]int{"ams": 3, "lhr": 1}}, "fly")
	const remove = "scale count app=0 --region ams --app test-battle --yes"
	pl.run(t, []string{redis}, "3", "--regions", "fra,lhr", "--dry-run").want(t, 0, "==> 3 more in ams,", "billed. To remove: fly "+remove)
	r := pl.run(t, []string{redis}, "3", "--regions", "fra,lhr")
	r.want(t, 0, "==> 3 serve", "==> 3 more in ams, which is not among fra,lhr: not counted, and billed. To remove: fly "+remove)
	if strings.Contains(r.output, "more in lhr") || strings.Contains(r.output, "more in fra") {
		t.Errorf("it names what was asked for:\n%s", r.output)
	}
	if out, err := pl.fly(t, strings.Fields(remove)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r = pl.run(t, []string{redis}, "3", "--regions", "fra,lhr")
	if r.want(t, 0, "==> 3 serve"); strings.Contains(r.output, "more in") {
		t.Errorf("it names what is gone:\n%s", r.output)
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{}, "fly")
	r := pl.run(t, []string{redis, "SUPABASE_URL=https://secret.example"}, "5", "--regions", "ams,lhr", "--dry-run")
	r.want(t, 0,
		"would run: fly apps create test-battle",
		"would run: fly secrets import --stage --app test-battle <<< REDIS_URL=****, SUPABASE_URL=****",
		"would run: fly deploy --app test-battle --config fly.toml --ha=false --yes --primary-region ams",
		"would run: fly scale count app=5 --app test-battle --yes --region ams,lhr",
		"would run, until 5 serve: fly ssh console --app test-battle --process-group app --quiet --command 'flyproxy status --json'")
	if r.changed() {
		t.Errorf("calls: %q", r.platform.Calls)
	}
	if strings.Contains(r.output, "pass-word") || strings.Contains(r.output, "secret.example") {
		t.Errorf("it shows a secret:\n%s", r.output)
	}
}

// In Machines of several containers the question goes to flyproxy's.
func TestContainers(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{}, "fly")
	r := pl.run(t, []string{redis}, "1", "--config", filepath.Join(pl.project, "configs/fly-containers.toml"))
	r.want(t, 0, "==> 1 serve")
	last := r.platform.Calls[len(r.platform.Calls)-1]
	if standin.Option(last.Args, "--container") != "flyproxy" {
		t.Errorf("%q", last)
	}
}

func TestConfigWithoutApp(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{}, "fly")
	if err := os.WriteFile(filepath.Join(pl.project, "fly.toml"), []byte("[env]\napp = 'x'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	pl.run(t, []string{redis}).want(t, 1, "fly.toml does not name an app", "--app NAME")
	pl.run(t, []string{redis}, "--config", "nowhere.toml").want(t, 1, "there is no ", "nowhere.toml")
	pl.run(t, []string{redis}, "--config", filepath.Join(pl.project, "configs/none")).want(t, 1, "there is no ")
}

// A fly.toml that was edited wrongly does not get as far as Fly, where Go is there to check it.
func TestFlyTOMLIsChecked(t *testing.T) {
	t.Parallel()
	pl := newPlace(t, standin.Platform{}, "fly")
	goBinary, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "fly.toml"))
	if err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(pl.project, "wrong.toml")
	if err := os.WriteFile(wrong, []byte(strings.Replace(string(text), "GRPC_PORT = ", "FLY_REGION = ", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if pl.project, err = filepath.Abs(root); err != nil { // the real script, beside the real checker
		t.Fatal(err)
	}
	env := append(os.Environ(), redis, "PATH="+pl.path+":/usr/bin:/bin:"+filepath.Dir(goBinary)) // Go's own settings too
	r := pl.run(t, env, "--dry-run", "--config", wrong)
	r.want(t, 78, "wrong.toml:", "env.FLY_REGION: names that begin with FLY_ are Fly's own")
	if len(r.platform.Calls) > 0 {
		t.Errorf("calls: %q", r.platform.Calls)
	}
}
