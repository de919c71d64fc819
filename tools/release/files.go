package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// shipped are what an archive holds beside the binary, files and directories: what one deploys with and what one reads, and what the
// pages lead to. Of a directory it is what git knows, so that nothing gets in which was built or left there.
var shipped = []string{
	"CHANGELOG.md", "CONTRIBUTING.md", "Dockerfile", "LICENSE", "README.md", "bench", "configs", "docs", "examples", "fly.toml",
	"proto/flyproxy/v1", "supervisord.conf", "tools/deploy-flyio-cluster.sh",
}

// list gives the files of shipped, by path from root, sorted.
func list(ctx context.Context, root string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"ls-files", "-z", "--"}, shipped...)...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("ask git which files belong to a release (build one in a clone of the repository): %w", err)
	}
	all := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	for _, name := range shipped {
		if !slices.ContainsFunc(all, func(f string) bool { return f == name || strings.HasPrefix(f, name+"/") }) {
			return nil, fmt.Errorf("git knows no %s, which belongs to a release", name)
		}
	}
	slices.Sort(all)
	return all, nil
}

// mode is a file's in an archive: whatever the umask was, scripts can be run and nothing else can.
func mode(root, name string) (int64, error) {
	info, err := os.Lstat(filepath.Join(root, name))
	switch {
	case err != nil:
		return 0, err
	case !info.Mode().IsRegular():
		return 0, fmt.Errorf("%s is no file", name)
	case info.Mode()&0o100 != 0:
		return 0o755, nil
	}
	return 0o644, nil
}
