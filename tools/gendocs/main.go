// Command gendocs writes docs/configuration.md: the keys from the structs of pkg/config, the longer words on them from the comments
// in configs/flyproxy.yaml.
//
//	go run ./tools/gendocs          writes the page
//	go run ./tools/gendocs -check   fails when the page is not what would be written
//
// It works in the module's root directory.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/flyproxy/flyproxy/pkg/config"
)

const (
	samplePath = "configs/flyproxy.yaml"
	pagePath   = "docs/configuration.md"
)

func main() {
	check := flag.Bool("check", false, "change nothing; fail when the page is not current")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "gendocs: takes no arguments")
		os.Exit(64)
	}
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	sample, err := os.ReadFile(samplePath)
	if err != nil {
		return fmt.Errorf("read the sample (run it in the module's root directory): %w", err)
	}
	words, err := readComments(string(sample))
	if err != nil {
		return err
	}
	want := page(config.Keys(), words)
	if !check {
		return os.WriteFile(pagePath, []byte(want), 0o644)
	}
	have, err := os.ReadFile(pagePath)
	if err != nil {
		return err
	}
	if string(have) != want {
		return fmt.Errorf("%s is not current: run `make generate`", pagePath)
	}
	return nil
}
