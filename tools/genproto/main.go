// Command genproto generates the Go code of everything under proto/ and examples/proto/, without protoc: it compiles the files itself and runs the
// plugins whose versions go.mod pins.
//
//	go run ./tools/genproto          writes the generated files
//	go run ./tools/genproto -check   fails when those that are committed are not what would be written
//
// It works from any directory of the module.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// roots hold the .proto files, each a root of its own for imports: the sidecar's, and those of the examples, which people copy.
var roots = []string{"proto", "examples/proto"}

func main() {
	check := flag.Bool("check", false, "change nothing; fail when the committed files are not current")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "genproto: takes no arguments; it generates all of "+strings.Join(roots, " and "))
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *check); err != nil {
		fmt.Fprintln(os.Stderr, "genproto:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	files := make(map[string][]byte)
	for _, dir := range roots {
		made, err := generate(ctx, root, filepath.Join(root, filepath.FromSlash(dir)))
		if err != nil {
			return err
		}
		maps.Copy(files, made)
	}
	if check {
		return compare(root, files)
	}
	return write(root, files)
}

// moduleRoot is the nearest directory, from the working directory upwards, that has a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod here or above: run it inside the module")
		}
		dir = up
	}
}
