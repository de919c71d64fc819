package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	pb "github.com/flyproxy/flyproxy/examples/go/battlev1"
	"github.com/flyproxy/flyproxy/pkg/api/flyproxyv1"
)

// BattleRPCClient calls the cluster through the sidecar. It needs neither Redis nor a list of addresses, and one connection does for
// everything. It may be used concurrently.
type BattleRPCClient struct {
	sidecar *grpc.ClientConn
}

// NewBattleRPCClient does not connect yet: the first call does.
func NewBattleRPCClient(addr string) (*BattleRPCClient, error) {
	// region: connect
	sidecar, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	// endregion
	if err != nil {
		return nil, err
	}
	return &BattleRPCClient{sidecar: sidecar}, nil
}

// Close ends the connection to the sidecar, and calls that are still open on it.
func (c *BattleRPCClient) Close() error { return c.sidecar.Close() }

// region: calls

// OptimalClient's calls go to the best instance, each anew.
func (c *BattleRPCClient) OptimalClient() pb.BattleServiceClient {
	return pb.NewBattleServiceClient(c.sidecar)
}

// ClientByInstanceID's calls go to that instance and to no other.
func (c *BattleRPCClient) ClientByInstanceID(id string) pb.BattleServiceClient {
	return pb.NewBattleServiceClient(pinned{c.sidecar, id})
}

// AllAvailableClients are a client for each instance that serves now, by its id. The sidecar answers from memory.
func (c *BattleRPCClient) AllAvailableClients(ctx context.Context) (map[string]pb.BattleServiceClient, error) {
	list, err := flyproxyv1.NewDiscoveryClient(c.sidecar).ListInstances(ctx, &flyproxyv1.ListInstancesRequest{})
	if err != nil {
		return nil, err
	}
	clients := make(map[string]pb.BattleServiceClient)
	for _, in := range list.GetInstances() {
		if in.GetState() == flyproxyv1.InstanceState_INSTANCE_STATE_SERVING {
			clients[in.GetId()] = c.ClientByInstanceID(in.GetId())
		}
	}
	return clients, nil
}

// endregion

// region: pin

// pinned is a connection whose calls all name the instance that is to take them.
type pinned struct {
	grpc.ClientConnInterface
	id string
}

func (p pinned) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return p.ClientConnInterface.Invoke(p.pin(ctx), method, args, reply, opts...)
}

func (p pinned) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return p.ClientConnInterface.NewStream(p.pin(ctx), desc, method, opts...)
}

func (p pinned) pin(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "fly-force-instance-id", p.id)
}

// endregion
