package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const greeting = `syntax = "proto3";
package greeting.v1;
import "google/protobuf/timestamp.proto";
option go_package = "github.com/flyproxy/flyproxy/pkg/greetingv1";
service Greeter { rpc Greet(Hello) returns (Hello); }
message Hello { string name = 1; google.protobuf.Timestamp at = 2; }
`

func TestWhatIsCommittedIsCurrent(t *testing.T) {
	if err := run(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}

// fixture is a directory with one .proto file and what it gives.
func fixture(t *testing.T) (dir string, files map[string][]byte) {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	protos := filepath.Join(dir, "proto")
	put(t, filepath.Join(protos, "greeting", "v1", "greeting.proto"), greeting)
	files, err = generate(t.Context(), root, protos)
	if err != nil {
		t.Fatal(err)
	}
	return dir, files
}

func put(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCheckNamesWhatIsNotCurrent(t *testing.T) {
	dir, files := fixture(t)
	wantFault := func(parts ...string) {
		t.Helper()
		err := compare(dir, files)
		if err == nil {
			t.Fatal("no fault was found")
		}
		for _, p := range append(parts, "go run ./tools/genproto") {
			if !strings.Contains(err.Error(), p) {
				t.Errorf("%q does not say %q", err, p)
			}
		}
	}
	wantFault("pkg/greetingv1/greeting.pb.go is missing", "pkg/greetingv1/greeting_grpc.pb.go is missing")

	if err := write(dir, files); err != nil {
		t.Fatal(err)
	}
	if err := compare(dir, files); err != nil {
		t.Fatal(err)
	}

	put(t, filepath.Join(dir, "pkg/greetingv1/greeting.pb.go"), "package greetingv1")
	wantFault("pkg/greetingv1/greeting.pb.go is not what")

	put(t, filepath.Join(dir, "pkg/greetingv1/farewell.pb.go"), "package greetingv1")
	wantFault("pkg/greetingv1/farewell.pb.go has no .proto file")

	put(t, filepath.Join(dir, "pkg/greetingv1/doc.go"), "package greetingv1")
	if err := write(dir, files); err != nil {
		t.Fatal(err)
	}
	if err := compare(dir, files); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "pkg/greetingv1/doc.go")); err != nil {
		t.Error("a file that was written by hand was removed")
	}
}

func TestCommentsReachTheCode(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(filepath.Join(root, "pkg/api/flyproxyv1/discovery.pb.go"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(code), "// Unique within the service") {
		t.Error("the fields' comments are not in the generated code")
	}
}

func TestFaultInAProtoFileSaysWhere(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	protos := t.TempDir()
	put(t, filepath.Join(protos, "bad.proto"), "syntax = \"proto3\";\nmessage A { Missing b = 1; }\n")
	if _, err := generate(t.Context(), root, protos); err == nil || !strings.Contains(err.Error(), "bad.proto:2:13") {
		t.Fatalf("got %v", err)
	}
	if _, err := generate(t.Context(), root, t.TempDir()); err == nil || !strings.Contains(err.Error(), "no .proto file") {
		t.Fatalf("got %v", err)
	}
}
