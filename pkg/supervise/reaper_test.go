package supervise_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/supervise"
)

func TestManyAtOnce(t *testing.T) {
	r := newReaper(t, slog.New(slog.DiscardHandler))
	var all []*supervise.Process
	for range 50 {
		p, err := r.Start(supervise.Command{Path: "/bin/true", Args: []string{"true"}})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	for _, p := range all {
		<-p.Done()
		if p.Exit().Code != 0 {
			t.Errorf("%+v", p.Exit())
		}
	}
}

func TestLookAndStartErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name string
		want error
		says string
	}{
		{"flyproxy-has-no-such-app", supervise.ErrNotFound, "in no folder of PATH"},
		{filepath.Join(dir, "none"), supervise.ErrNotFound, "there is no program"},
		{file("plain", "text", 0o600), supervise.ErrNotExecutable, "chmod +x"},
		{dir, supervise.ErrNotExecutable, "is it a program?"},
	} {
		if _, err := supervise.Look(tt.name); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("look %s: %v", tt.name, err)
		}
	}
	if path, err := supervise.Look("sh"); err != nil || !strings.HasSuffix(path, "/sh") {
		t.Errorf("%s, %v", path, err)
	}
	r := newReaper(t, slog.New(slog.DiscardHandler))
	for _, tt := range []struct {
		path string
		want error
		says string
	}{
		{file("no-interpreter", "#!/nowhere/node\n", 0o700), supervise.ErrNotFound, "interpreter"},
		{file("no-program", "neither\n", 0o700), supervise.ErrNotExecutable, "neither a program"},
		{filepath.Join(dir, "none"), supervise.ErrNotFound, "none"},
		{dir, supervise.ErrNotExecutable, dir},
	} {
		if _, err := r.Start(supervise.Command{Path: tt.path, Args: []string{"x"}}); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("start %s: %v", tt.path, err)
		}
	}
}
