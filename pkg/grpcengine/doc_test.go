package grpcengine_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// Every limit has a test and every such test a row.
func TestLimitsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/engine-grpc-limits.md")
	enginetest.Must(t, err)
	files, err := filepath.Glob("limits_*_test.go")
	enginetest.Must(t, err)
	var code []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		enginetest.Must(t, err)
		code = append(code, b...)
	}
	names := func(re string, b []byte) map[string]bool {
		m := make(map[string]bool)
		for _, s := range regexp.MustCompile(re).FindAllSubmatch(b, -1) {
			m[string(s[1])] = true
		}
		return m
	}
	rows, tests := names("`(TestLimit[A-Za-z0-9]+)`", doc), names(`func (TestLimit[A-Za-z0-9]+)\(`, code)
	for name := range tests {
		if !rows[name] {
			t.Errorf("%s has no row in docs/engine-grpc-limits.md", name)
		}
	}
	for name := range rows {
		if !tests[name] {
			t.Errorf("docs/engine-grpc-limits.md names %s, which does not exist", name)
		}
	}
}
