package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const version = "v0.0.0-test"

// host is the platform of the test: the others are built and verified by `make release`, which takes longer.
var host = target{runtime.GOOS, runtime.GOARCH}

// Two builds, in directories of different names, at different times, give the same bytes, and they verify. What is then changed in an archive
// or in the checksums is found.
func TestBuildTwice(t *testing.T) {
	if host.os != "linux" && host.os != "darwin" {
		t.Fatalf("there is no release for %v", host)
	}
	ctx := t.Context()
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "another")
	for _, out := range []string{one, two} {
		if err := build(ctx, "../..", out, version, []target{host}); err != nil {
			t.Fatal(err)
		}
		if err := verify(ctx, "../..", out, version, []target{host}); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TZ", "Asia/Tokyo")
	}
	for _, name := range []string{host.archive(version), checksums} {
		a, b := read(t, filepath.Join(one, name)), read(t, filepath.Join(two, name))
		if !bytes.Equal(a, b) {
			t.Errorf("%s is not the same twice", name)
		}
	}

	archive := read(t, filepath.Join(one, host.archive(version)))
	contents, err := unpack(archive)
	if err != nil {
		t.Fatal(err)
	}
	files, err := list(ctx, "../..")
	if err != nil {
		t.Fatal(err)
	}
	binary := contents[strings.TrimSuffix(host.archive(version), ".tar.gz")+"/flyproxy"].data
	other := target{"linux", "arm64"}
	if host == other {
		other = target{"linux", "amd64"}
	}
	for name, tc := range map[string]struct {
		as   target
		make func() ([]byte, error)
		want string
	}{
		"another platform": {other, func() ([]byte, error) { return pack("../..", version, other, files, binary, time.Unix(0, 0)) }, "not for " + other.String()},
		"another version": {host, func() ([]byte, error) {
			return pack("../..", version, host, files, bytes.ReplaceAll(binary, []byte(version), []byte("v0.0.0-tset")), time.Unix(0, 0))
		}, "not the version " + version},
		"a file is missing": {host, func() ([]byte, error) {
			return pack("../..", version, host, slices.DeleteFunc(slices.Clone(files), func(f string) bool { return f == "docs/quickstart.md" }), binary, time.Unix(0, 0))
		}, "has no docs/quickstart.md"},
		"no binary":      {host, func() ([]byte, error) { return pack("../..", version, host, files, nil, time.Unix(0, 0)) }, "flyproxy is empty"},
		"not an archive": {host, func() ([]byte, error) { return []byte("gone"), nil }, "EOF"},
		"cut off":        {host, func() ([]byte, error) { return archive[:len(archive)/2], nil }, "unexpected EOF"},
	} {
		data, err := tc.make()
		if err != nil {
			t.Fatal(err)
		}
		if err := verifyArchive(ctx, data, version, tc.as, files); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	for name, text := range map[string]string{
		"another checksum": strings.Repeat("0", 64) + "  " + host.archive(version) + "\n",
		"another file":     string(read(t, filepath.Join(one, checksums))) + strings.Repeat("0", 64) + "  other.tar.gz\n",
	} {
		if err := os.WriteFile(filepath.Join(one, checksums), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := verify(ctx, "../..", one, version, []target{host}); err == nil || !strings.Contains(err.Error(), checksums) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCommitTime(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	if at, err := commitTime(context.Background(), "/"); err != nil || at.Unix() != 1700000000 {
		t.Errorf("%v, %v", at, err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if _, err := commitTime(context.Background(), "/"); err == nil {
		t.Error("a time that is none is taken")
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// An archive once held a README of which all links but one led nowhere, and nothing to deploy with.
func TestArchiveHasWhatItsPagesLeadTo(t *testing.T) {
	files, err := list(t.Context(), "../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"docs/quickstart.md", "fly.toml", "supervisord.conf", "Dockerfile", "configs/fly-containers.json", "tools/deploy-flyio-cluster.sh"} {
		if !slices.Contains(files, name) {
			t.Errorf("it has no %s", name)
		}
	}
	all := func() map[string]packed {
		contents := make(map[string]packed)
		for _, name := range files {
			contents["top/"+name] = packed{data: read(t, filepath.Join("../..", name))}
		}
		return contents
	}
	if err := links(all()); err != nil {
		t.Error(err)
	}
	contents := all()
	delete(contents, "top/docs/quickstart.md")
	if err := links(contents); err == nil || !strings.Contains(err.Error(), "top/README.md leads to docs/quickstart.md, which is not there") {
		t.Errorf("a link to nothing is not found: %v", err)
	}
	if _, err := list(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "in a clone of the repository") {
		t.Errorf("without git: %v", err)
	}
}
