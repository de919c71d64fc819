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
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// verify checks what a user would rely on: the checksums, that each archive has the files at root and that their links lead somewhere, that each binary is for its platform, and that the
// one for this machine runs and says the version.
func verify(ctx context.Context, root, out, version string, all []target) error {
	files, err := list(ctx, root)
	if err != nil {
		return err
	}
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
		if err := verifyArchive(ctx, data, version, t, files); err != nil {
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

func verifyArchive(ctx context.Context, data []byte, version string, t target, files []string) error {
	contents, err := unpack(data)
	if err != nil {
		return err
	}
	top := strings.TrimSuffix(t.archive(version), ".tar.gz") + "/"
	for name, f := range contents {
		short, ok := strings.CutPrefix(name, top)
		mode := fs.FileMode(0o644)
		if short == "flyproxy" || bytes.HasPrefix(f.data, []byte("#!")) {
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
	if err := links(contents); err != nil {
		return err
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

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// links checks that what the pages of an archive lead to is in it.
func links(contents map[string]packed) error {
	there := make(map[string]bool) // files, and the directories above them
	for name := range contents {
		for ; name != "."; name = path.Dir(name) {
			there[name] = true
		}
	}
	var faults []error
	for name, f := range contents {
		if path.Ext(name) != ".md" {
			continue
		}
		for _, m := range link.FindAllSubmatch(f.data, -1) {
			to, _, _ := strings.Cut(string(m[1]), "#")
			if to != "" && !strings.Contains(to, "://") && !there[path.Join(path.Dir(name), to)] {
				faults = append(faults, fmt.Errorf("%s leads to %s, which is not there", name, to))
			}
		}
	}
	return errors.Join(faults...)
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
	program := filepath.Join(dir, "flyproxy")
	if err := os.WriteFile(program, binary, 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, program, "version").Output()
	if err != nil {
		return fmt.Errorf("the binary does not run: %w", err)
	}
	if !strings.HasPrefix(string(out), "flyproxy "+version+" (") {
		return fmt.Errorf("the binary says %q, not the version %s", strings.TrimSpace(string(out)), version)
	}
	return nil
}
