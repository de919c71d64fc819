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

// list gives what an archive holds beside the binary, by path from root, sorted: all that git knows, so that nothing gets in which was
// built or left there. It is the sources of that version as a whole: the pages lead nowhere outside of it, and the Dockerfile builds.
func list(ctx context.Context, root string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "-z")
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
