// Command release builds what a release consists of: an archive for each platform, and their checksums.
//
//	go run ./tools/release -version v1.2.3             builds all into dist/ and verifies it
//	go run ./tools/release -version v1.2.3 -verify     verifies what is in dist/
//
// The same commit, built by the same Go, gives the same bytes wherever it is built: paths, times, owners and the order of files are
// fixed (reproducible-builds.org). Times are those of the commit, or SOURCE_DATE_EPOCH.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A target is a platform.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

// archive is the name of the target's archive.
func (t target) archive(version string) string {
	return fmt.Sprintf("flyproxy_%s_%s_%s.tar.gz", version, t.os, t.arch)
}

var targets = []target{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}}

// checksums is the file that `sha256sum -c` reads.
const checksums = "SHA256SUMS"

var versions = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)

func main() {
	version := flag.String("version", "", "the release's version, as `flyproxy version` says it")
	out := flag.String("out", "dist", "the directory of the archives")
	only := flag.Bool("verify", false, "build nothing; verify what is there")
	flag.Parse()
	if flag.NArg() > 0 || !versions.MatchString(*version) {
		fmt.Fprintf(os.Stderr, "release: -version is %q: name one, such as v1.2.3\n", *version)
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *out, *version, *only, targets); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out, version string, only bool, all []target) error {
	if !only {
		if err := build(ctx, ".", out, version, all); err != nil {
			return err
		}
	}
	if err := verify(ctx, ".", out, version, all); err != nil {
		return err
	}
	fmt.Printf("%s: %d archives of %s, verified\n", out, len(all), version)
	return nil
}

// commitTime is the time that all files of the archives get.
func commitTime(ctx context.Context, root string) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		cmd := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct")
		cmd.Dir = root
		data, err := cmd.Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("ask git for the commit's time (or set SOURCE_DATE_EPOCH): %w", err)
		}
		text = strings.TrimSpace(string(data))
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time in seconds (SOURCE_DATE_EPOCH): %w", text, err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
