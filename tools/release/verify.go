package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"debug/macho"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// verify checks what a user would rely on: the checksums, what is in each archive, that each binary is for its platform, and that the
// one for this machine runs and says the version.
func verify(ctx context.Context, out, version string, all []target) error {
	sums, err := os.ReadFile(filepath.Join(out, checksums))
	if err != nil {
		return err
	}
	var faults []error
	want := make(map[string]bool)
	for _, t := range all {
		name := t.archive(version)
		want[name] = true
		data, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			faults = append(faults, err)
			continue
		}
		line := fmt.Sprintf("%x  %s\n", sha256.Sum256(data), name)
		if !strings.Contains("\n"+string(sums), "\n"+line) {
			faults = append(faults, fmt.Errorf("%s: %s has another checksum, or none", name, checksums))
		}
		if err := verifyArchive(ctx, data, version, t); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
		}
	}
	for line := range strings.Lines(string(sums)) {
		if _, name, _ := strings.Cut(strings.TrimSpace(line), "  "); !want[name] {
			faults = append(faults, fmt.Errorf("%s names %q, which is no archive of this release", checksums, name))
		}
	}
	return errors.Join(faults...)
}

func verifyArchive(ctx context.Context, data []byte, version string, t target) error {
	contents, err := unpack(data)
	if err != nil {
		return err
	}
	top := strings.TrimSuffix(t.archive(version), ".tar.gz") + "/"
	for name, f := range contents {
		short, ok := strings.CutPrefix(name, top)
		mode := fs.FileMode(0o644)
		if short == "flyproxy" {
			mode = 0o755
		}
		switch {
		case !ok || short != "flyproxy" && !slices.Contains(files, short):
			return fmt.Errorf("it has %s, which does not belong there", name)
		case f.mode != mode:
			return fmt.Errorf("%s has the permissions %o, not %o", name, f.mode, mode)
		case len(f.data) == 0:
			return fmt.Errorf("%s is empty", name)
		}
	}
	for _, name := range append([]string{"flyproxy"}, files...) {
		if _, ok := contents[top+name]; !ok {
			return fmt.Errorf("it has no %s", name)
		}
	}
	binary := contents[top+"flyproxy"].data
	if err := platform(binary, t); err != nil {
		return err
	}
	if t.os != runtime.GOOS || t.arch != runtime.GOARCH {
		return nil
	}
	return runs(ctx, binary, version)
}

type packed struct {
	mode fs.FileMode
	data []byte
}

func unpack(archive []byte) (map[string]packed, error) {
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	all := make(map[string]packed)
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		all[h.Name] = packed{h.FileInfo().Mode(), data}
	}
}

// loadUUID is LC_UUID of Apple's mach-o/loader.h.
const loadUUID = 0x1b

// platform checks by the binary's own header what it runs on, and that it is static on Linux.
func platform(binary []byte, t target) error {
	if t.os == "darwin" {
		f, err := macho.NewFile(bytes.NewReader(binary))
		if err != nil {
			return fmt.Errorf("the binary is not for %v: %w", t, err)
		}
		if want := map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}[t.arch]; f.Cpu != want || f.Type != macho.TypeExec {
			return fmt.Errorf("the binary is for %v, not for %v", f.Cpu, t)
		}
		hasUUID := func(l macho.Load) bool { raw := l.Raw(); return len(raw) >= 4 && f.ByteOrder.Uint32(raw) == loadUUID }
		if !slices.ContainsFunc(f.Loads, hasUUID) {
			return errors.New("the binary has no LC_UUID, which macOS wants (go.dev/doc/go1.24, linker)")
		}
		return nil
	}
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		return fmt.Errorf("the binary is not for %v: %w", t, err)
	}
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[t.arch]; f.Machine != want {
		return fmt.Errorf("the binary is for %v, not for %v", f.Machine, t)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return errors.New("the binary is not static")
		}
	}
	return nil
}

// runs checks that the binary starts here and says the version.
func runs(ctx context.Context, binary []byte, version string) error {
	dir, err := os.MkdirTemp("", "flyproxy-release")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "flyproxy")
	if err := os.WriteFile(path, binary, 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, path, "version").Output()
	if err != nil {
		return fmt.Errorf("the binary does not run: %w", err)
	}
	if !strings.HasPrefix(string(out), "flyproxy "+version+" (") {
		return fmt.Errorf("the binary says %q, not the version %s", strings.TrimSpace(string(out)), version)
	}
	return nil
}
