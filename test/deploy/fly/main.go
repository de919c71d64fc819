// Command fly is the stand-in for Fly's command line tool that the tests of the deploy script put on PATH.
package main

import (
	"os"

	"github.com/flyproxy/flyproxy/test/deploy/standin"
)

func main() { os.Exit(standin.Main(os.Args[1:])) }
