package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// write makes the files under root what was generated, and removes generated ones that no .proto file stands behind any more.
func write(root string, files map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, files[name], 0o644); err != nil {
			return err
		}
		fmt.Println("wrote", name)
	}
	orphans, err := orphans(root, files)
	for _, name := range orphans {
		err = errors.Join(err, os.Remove(filepath.Join(root, filepath.FromSlash(name))))
		fmt.Println("removed", name)
	}
	return err
}

// compare fails when the files under root are not what was generated, and names each that is not.
func compare(root string, files map[string][]byte) error {
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		have, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			faults = append(faults, name+" is missing")
		case err != nil:
			return err
		case !bytes.Equal(have, files[name]):
			faults = append(faults, name+" is not what its .proto file gives")
		}
	}
	orphans, err := orphans(root, files)
	if err != nil {
		return err
	}
	for _, name := range orphans {
		faults = append(faults, name+" has no .proto file behind it")
	}
	if len(faults) > 0 {
		return fmt.Errorf("generated code is not current:\n  %s\nrun `go run ./tools/genproto` and commit what it writes",
			strings.Join(faults, "\n  "))
	}
	return nil
}

// orphans are the generated files in the directories of files that are not among them.
func orphans(root string, files map[string][]byte) ([]string, error) {
	dirs := make(map[string]bool)
	for name := range files {
		dirs[path.Dir(name)] = true
	}
	var found []string
	for dir := range dirs {
		entries, err := os.ReadDir(filepath.Join(root, filepath.FromSlash(dir)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			if _, ok := files[name]; !ok && strings.HasSuffix(name, ".pb.go") {
				found = append(found, name)
			}
		}
	}
	slices.Sort(found)
	return found, nil
}
