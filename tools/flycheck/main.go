// Command flycheck says what is wrong with a fly.toml, before a deploy does: unknown keys, values that Fly refuses, sections that
// apply to another process group than one thinks, and what does not fit flyproxy.
//
//	go run ./tools/flycheck              checks ./fly.toml
//	go run ./tools/flycheck FILE…        checks these
//
// Run it in the directory in which fly is run: machine_config is a path from there. It asks nobody on the network. Exit codes: 0 all
// is good, 1 something is wrong, 64 usage.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/flyproxy/flyproxy/tools/flyconfig"
)

func main() {
	flags := flag.NewFlagSet("flycheck", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprintln(os.Stderr, "Usage: flycheck [FILE…]      (fly.toml when no file is named)") }
	if err := flags.Parse(os.Args[1:]); err != nil {
		os.Exit(64)
	}
	files := flags.Args()
	if len(files) == 0 {
		files = []string{"fly.toml"}
	}
	os.Exit(run(os.Stdout, os.Stderr, files))
}

func run(out, errs io.Writer, files []string) int {
	code := 0
	for _, file := range files {
		f, faults, err := flyconfig.Load(file, ".")
		if err != nil {
			fmt.Fprintln(errs, "flycheck:", err)
			code = 1
			continue
		}
		if f != nil {
			faults = append(faults, flyconfig.Agree(f, ".")...)
		}
		for _, fault := range faults {
			fmt.Fprintln(errs, fault)
			code = 1
		}
		if len(faults) == 0 {
			fmt.Fprintln(out, file, "is good")
		}
	}
	return code
}
