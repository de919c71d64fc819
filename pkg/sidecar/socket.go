package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// What stands where a unix socket is to be.
var (
	errSocketInUse = errors.New("another process accepts there")
	errNotASocket  = errors.New("there is something else, which is not a socket")
)

// listenSocket binds a unix socket and gives its file the permissions of mode. The file goes with the listener. One that a dead
// process has left is replaced.
func listenSocket(path string, mode fs.FileMode, log *slog.Logger) (net.Listener, error) {
	lis, err := bindSocket(path, mode)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return lis, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	log.Info("a socket that nobody accepts on any more was replaced", "path", path)
	return bindSocket(path, mode)
}

func bindSocket(path string, mode fs.FileMode) (net.Listener, error) {
	// The mode of the unbound socket is the most that bind gives the file (less the umask), so that nobody can connect who may not,
	// not even for a moment.
	control := func(_, _ string, raw syscall.RawConn) error {
		var set error
		if err := raw.Control(func(fd uintptr) { set = syscall.Fchmod(int(fd), uint32(mode.Perm())) }); err != nil {
			return err
		}
		return set
	}
	lis, err := (&net.ListenConfig{Control: control}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode.Perm()); err != nil { // what the umask has taken away
		_ = lis.Close()
		return nil, err
	}
	return lis, nil
}

// removeStale removes a socket on which nobody accepts, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // it is gone meanwhile
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errNotASocket
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
		return errSocketInUse
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, syscall.EACCES):
		return err
	}
	return fmt.Errorf("%w: %w", errSocketInUse, err) // such as a queue that is full: somebody is there
}

// socketError says what is wrong with the path of a socket, and what to do.
func socketError(key, env, path string, err error) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, errSocketInUse), errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: unix://%s is in use by another process (another flyproxy?): stop that one, or set %s (or %s) to another path: %w",
			key, path, key, env, err)
	case errors.Is(err, errNotASocket):
		return fmt.Errorf("%s: unix://%s: %w: move that away, or set %s (or %s) to another path", key, path, err, key, env)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: unix://%s: there is no folder %s: make it, or set %s (or %s) to another path: %w", key, path, dir, key, env, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s: unix://%s: %s is not a folder: set %s (or %s) to another path: %w", key, path, dir, key, env, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: unix://%s: no permission: let this user write to %s, or set %s (or %s) to another path: %w",
			key, path, dir, key, env, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s: unix://%s: %s cannot be written to: set %s (or %s) to another path: %w", key, path, dir, key, env, err)
	}
	return fmt.Errorf("%s: listen on unix://%s: %w", key, path, err)
}
