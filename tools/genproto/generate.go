package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// module is the prefix of every go_package; below it a package's path is its directory.
const module = "github.com/flyproxy/flyproxy"

// plugins are the tools that go.mod pins.
var plugins = []string{"protoc-gen-go", "protoc-gen-go-grpc"}

// generate gives the generated files by their path from the module's root (with slashes). The plugins are run from root.
func generate(ctx context.Context, root, protos string) (map[string][]byte, error) {
	names, err := protoFiles(protos)
	if err != nil {
		return nil, err
	}
	request, err := compile(ctx, protos, names)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for _, plugin := range plugins {
		response, err := runPlugin(ctx, root, plugin, request)
		if err != nil {
			return nil, err
		}
		for _, f := range response.GetFile() {
			files[f.GetName()] = []byte(f.GetContent())
		}
	}
	return files, nil
}

// protoFiles are the .proto files under dir, by the names under which they import each other.
func protoFiles(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".proto" {
			return err
		}
		name, err := filepath.Rel(dir, path)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	if err == nil && len(names) == 0 {
		err = errors.New("no .proto file under " + dir)
	}
	slices.Sort(names)
	return names, err
}

// compile makes the request that protoc would send to a plugin: all files with their imports, each after what it imports.
func compile(ctx context.Context, dir string, names []string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{dir}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: names,
		Parameter:      proto.String("module=" + module),
	}
	seen := make(map[string]bool)
	for _, f := range compiled {
		request.ProtoFile = appendFile(request.ProtoFile, f, seen)
	}
	return request, nil
}

func appendFile(to []*descriptorpb.FileDescriptorProto, f protoreflect.FileDescriptor, seen map[string]bool,
) []*descriptorpb.FileDescriptorProto {
	if seen[f.Path()] {
		return to
	}
	seen[f.Path()] = true
	imports := f.Imports()
	for i := range imports.Len() {
		imported := imports.Get(i).FileDescriptor
		if l, ok := f.(linker.File); ok {
			if file := l.FindImportByPath(imported.Path()); file != nil {
				imported = file
			}
		}
		to = appendFile(to, imported, seen)
	}
	return append(to, protoutil.ProtoFromFileDescriptor(f))
}

// runPlugin speaks protoc's plugin protocol: a request on standard input, a response on standard output.
func runPlugin(ctx context.Context, root, plugin string, request *pluginpb.CodeGeneratorRequest,
) (*pluginpb.CodeGeneratorResponse, error) {
	in, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return nil, err
	}
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "tool", plugin)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = root, bytes.NewReader(in), &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go tool %s: %w: %s", plugin, err, strings.TrimSpace(complaint.String()))
	}
	response := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(out.Bytes(), response); err != nil {
		return nil, fmt.Errorf("%s answered something else than a response: %w", plugin, err)
	}
	if response.Error != nil {
		return nil, fmt.Errorf("%s: %s", plugin, response.GetError())
	}
	return response, nil
}
