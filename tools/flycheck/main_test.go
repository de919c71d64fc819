package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	good := "app = 'a'\nkill_signal = 'SIGTERM'\n[processes]\nweb = 'other'\n"
	dir := t.TempDir()
	for name, text := range map[string]string{"good.toml": good, "bad.toml": good + "\n[env]\nFLY_REGION = 'ams'\n", "broken.toml": "app = \n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		files     []string
		code      int
		out, errs string
	}{
		{[]string{"good.toml"}, 0, "good.toml is good", ""},
		{[]string{"good.toml", "bad.toml"}, 1, "good.toml is good", "bad.toml:7: env.FLY_REGION: names that begin with FLY_"},
		{[]string{"broken.toml", "good.toml"}, 1, "good.toml is good", "broken.toml:1: "},
		{[]string{"absent.toml"}, 1, "", "flycheck: read Fly's configuration: "},
	} {
		var paths []string
		for _, f := range tc.files {
			paths = append(paths, filepath.Join(dir, f))
		}
		var out, errs bytes.Buffer
		if code := run(&out, &errs, paths); code != tc.code {
			t.Errorf("%v: exit code %d, want %d", tc.files, code, tc.code)
		}
		if !strings.Contains(out.String(), tc.out) || !strings.Contains(errs.String(), tc.errs) || (tc.errs == "") != (errs.Len() == 0) {
			t.Errorf("%v:\n%s\n%s", tc.files, out.String(), errs.String())
		}
	}
}
