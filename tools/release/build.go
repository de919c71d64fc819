package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// build makes the archives of the module at root, and their checksums, in out.
func build(ctx context.Context, root, out, version string, all []target) error {
	at, err := commitTime(ctx, root)
	if err != nil {
		return err
	}
	files, err := list(ctx, root)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(out, "flyproxy_*.tar.gz"))
	if err != nil {
		return err
	}
	for _, name := range old { // of another version, perhaps
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	var sums strings.Builder
	for _, t := range all {
		fmt.Println("building", t)
		binary, err := compile(ctx, root, version, t)
		if err != nil {
			return err
		}
		data, err := pack(root, version, t, files, binary, at)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, t.archive(version)), data, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), t.archive(version))
	}
	return os.WriteFile(filepath.Join(out, checksums), []byte(sums.String()), 0o644)
}

// compile gives the static binary of a target. What the environment could change in it is fixed.
func compile(ctx context.Context, root, version string, t target) ([]byte, error) {
	dir, err := os.MkdirTemp("", "flyproxy-release")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "flyproxy")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+version,
		"-o", binary, "./cmd/flyproxy")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS="+t.os, "GOARCH="+t.arch, "CGO_ENABLED=0", "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("build for %v: %w", t, err)
	}
	return os.ReadFile(binary)
}

// pack makes the archive of the binary and of files at root. Everything lies in one directory, so that unpacking litters nowhere.
func pack(root, version string, t target, files []string, binary []byte, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.DefaultCompression) // its header has no name and no time
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(z)
	top := strings.TrimSuffix(t.archive(version), ".tar.gz")
	add := func(name string, mode int64, data []byte) error {
		h := &tar.Header{Name: top + "/" + name, Mode: mode, Size: int64(len(data)), ModTime: at, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
		_, err := w.Write(data)
		return err
	}
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		mode, err := mode(root, name)
		if err != nil {
			return nil, err
		}
		if err := add(name, mode, data); err != nil {
			return nil, err
		}
	}
	if err := add("flyproxy", 0o755, binary); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
