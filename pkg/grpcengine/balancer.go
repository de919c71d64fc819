package grpcengine

import (
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// scheme is the resolver's and balancerName the balancer's name. They are ours alone.
const (
	scheme       = "flyproxy-grpcengine"
	balancerName = "flyproxy_grpcengine_router"
)

// grpc-go takes a balancer from its global registry only, and only at init time safely. So this one is registered there under a
// name of its own; it has no state: the engine's pool comes with the resolver's attributes.
func init() { balancer.Register(balancerBuilder{}) }

// poolResolver resolves nothing. It hands the engine's pool to the balancer. It is given to one ClientConn and not registered.
type poolResolver struct{ pool *pool }

type poolKey struct{}

func (r poolResolver) Scheme() string { return scheme }

func (r poolResolver) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	// Without a method config there is no retry policy: all that grpc-go retries is what was provably not processed (gRFC A6,
	// "transparent retries").
	return r, cc.UpdateState(resolver.State{
		Attributes:    attributes.New(poolKey{}, r.pool),
		ServiceConfig: cc.ParseServiceConfig(`{"loadBalancingConfig":[{"` + balancerName + `":{}}]}`),
	})
}

func (poolResolver) ResolveNow(resolver.ResolveNowOptions) {}
func (poolResolver) Close()                                {}

type balancerBuilder struct{}

func (balancerBuilder) Name() string { return balancerName }

func (balancerBuilder) Build(cc balancer.ClientConn, _ balancer.BuildOptions) balancer.Balancer {
	return &peerBalancer{cc: cc}
}

// peerBalancer connects the pool with the ClientConn. All that it knows is in the pool.
type peerBalancer struct{ cc balancer.ClientConn }

func (b *peerBalancer) UpdateClientConnState(s balancer.ClientConnState) error {
	p, ok := s.ResolverState.Attributes.Value(poolKey{}).(*pool)
	if !ok {
		return balancer.ErrBadResolverState
	}
	p.attach(b.cc)
	return nil
}

func (*peerBalancer) ResolverError(error)                                        {}
func (*peerBalancer) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}
func (*peerBalancer) ExitIdle()                                                  {}
func (*peerBalancer) Close()                                                     {}

// picker is the same for all states of the pool: each call asks the router.
type picker struct{}

func (picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	s := streamOf(info.Ctx)
	a, err := s.call.held, error(nil)
	if s.call.held = nil; a == nil {
		a, err = s.call.pick()
	}
	if err != nil {
		return balancer.PickResult{}, err
	}
	s.attempt, a.stream = a, s
	return balancer.PickResult{SubConn: a.sub, Done: a.done}, nil
}

// wake has grpc-go pick again for every call that waits in it.
func wake(cc balancer.ClientConn) {
	cc.UpdateState(balancer.State{ConnectivityState: connectivity.Ready, Picker: picker{}})
}
