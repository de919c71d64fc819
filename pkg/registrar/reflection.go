package registrar

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

// maxServices bounds what an app may make us write into its record.
const maxServices = 1000

// olderReflection is the protocol's name before v1, and the only one that many servers in use know.
const olderReflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

// ListServices asks the app at address, by server reflection, for the full names of its gRPC services: v1 first, then v1alpha.
// Health and reflection themselves are left out. The result is sorted. It is bounded by ctx only.
func ListServices(ctx context.Context, address string) ([]string, error) {
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent("flyproxy-reflection"), grpc.WithDisableServiceConfig(), grpc.WithNoProxy())
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	defer cc.Close()
	names, err := listBy(ctx, cc, reflection.ServerReflection_ServerReflectionInfo_FullMethodName)
	if status.Code(err) == codes.Unimplemented {
		names, err = listBy(ctx, cc, olderReflection)
	}
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		return strings.HasPrefix(n, "grpc.health.") || strings.HasPrefix(n, "grpc.reflection.")
	})
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), maxServices)], nil
}

// listBy asks by one name of the protocol; its messages are the same under both.
func listBy(ctx context.Context, cc *grpc.ClientConn, method string) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the stream
	defer cancel()
	stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return nil, err
	}
	// SendMsg fails with io.EOF where the stream has failed; RecvMsg has the reason.
	stream.SendMsg(&reflection.ServerReflectionRequest{
		MessageRequest: &reflection.ServerReflectionRequest_ListServices{ListServices: "*"},
	})
	var reply reflection.ServerReflectionResponse
	if err := stream.RecvMsg(&reply); err != nil {
		return nil, err
	}
	var names []string
	for _, s := range reply.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	return names, nil
}
