package api_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/flyproxy/flyproxy/pkg/api"
	"github.com/flyproxy/flyproxy/pkg/api/flyproxyv1"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// views is a source of views that a test sets.
type views struct {
	// mu guards the rest. Nothing is called while it is held.
	mu   sync.Mutex
	view *registry.View
	subs map[chan struct{}]struct{}
}

func newViews(entries ...registry.Entry) *views {
	v := &views{subs: make(map[chan struct{}]struct{}), view: &registry.View{Source: registry.FromNowhere}}
	if entries != nil {
		v.set(1, entries...)
	}
	return v
}

func (v *views) View() *registry.View {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.view
}

func (v *views) Subscribe() (<-chan struct{}, func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := make(chan struct{}, 1)
	v.subs[c] = struct{}{}
	return c, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.subs, c)
	}
}

// set makes a view, sorted as discovery sorts it.
func (v *views) set(version uint64, entries ...registry.Entry) {
	entries = slices.SortedFunc(slices.Values(entries), func(a, b registry.Entry) int {
		if c := strings.Compare(a.Instance.Service, b.Instance.Service); c != 0 {
			return c
		}
		return strings.Compare(a.Instance.ID, b.Instance.ID)
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	v.view = &registry.View{Version: version, Source: registry.FromRegistry, Entries: entries}
	for c := range v.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (v *views) subscribers() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.subs)
}

func entry(service, id, region string) registry.Entry {
	return registry.Entry{Instance: registry.Instance{
		Service: service, ID: id, Incarnation: "i-" + id, Schema: 1, Region: region, Address: "[fdaa::1]:50051", GRPCPort: 50051,
		State: registry.Serving,
	}}
}

// serve runs a Server on TCP until the test ends and gives a client of it.
func serve(t *testing.T, cfg api.Config) (*api.Server, flyproxyv1.DiscoveryClient) {
	t.Helper()
	s := api.New(cfg)
	g := grpc.NewServer()
	s.Register(g)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(lis) }()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s, flyproxyv1.NewDiscoveryClient(conn)
}

func ids(instances []*flyproxyv1.Instance) []string {
	var all []string
	for _, i := range instances {
		all = append(all, i.GetService()+"/"+i.GetId())
	}
	return all
}

func TestListFilters(t *testing.T) {
	v := newViews(entry("shop", "1", "fra"), entry("shop", "2", "nrt"), entry("cart", "9", "fra"), entry("shopping", "3", "fra"))
	_, client := serve(t, api.Config{Views: v, Service: "shop"})
	for name, tc := range map[string]struct {
		service, region string
		want            []string
	}{
		"own service":                   {"", "", []string{"shop/1", "shop/2"}},
		"own service in a region":       {"", "nrt", []string{"shop/2"}},
		"another service":               {"cart", "", []string{"cart/9"}},
		"last service":                  {"shopping", "", []string{"shopping/3"}},
		"all services":                  {"*", "", []string{"cart/9", "shop/1", "shop/2", "shopping/3"}},
		"all services in a region":      {"*", "fra", []string{"cart/9", "shop/1", "shopping/3"}},
		"service that nobody offers":    {"nobody", "", nil},
		"region where nobody offers it": {"cart", "nrt", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := client.ListInstances(t.Context(), &flyproxyv1.ListInstancesRequest{Service: tc.service, Region: tc.region})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ids(got.GetInstances()), tc.want) {
				t.Errorf("got %v, want %v", ids(got.GetInstances()), tc.want)
			}
			if got.GetVersion() != 1 || got.GetSource() != flyproxyv1.ViewSource_VIEW_SOURCE_REGISTRY {
				t.Errorf("version %d from %v", got.GetVersion(), got.GetSource())
			}
		})
	}
}

func TestListBeforeTheFirstView(t *testing.T) {
	_, client := serve(t, api.Config{Views: newViews(), Service: "shop"})
	got, err := client.ListInstances(t.Context(), &flyproxyv1.ListInstancesRequest{})
	if err != nil || len(got.GetInstances()) != 0 || got.GetSource() != flyproxyv1.ViewSource_VIEW_SOURCE_NONE {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestGatewayMustBeToldWhichService(t *testing.T) {
	_, client := serve(t, api.Config{Views: newViews(entry("shop", "1", "fra"))})
	_, err := client.ListInstances(t.Context(), &flyproxyv1.ListInstancesRequest{})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `"service"`) {
		t.Fatalf("got %v", err)
	}
	stream, err := client.WatchInstances(t.Context(), &flyproxyv1.WatchInstancesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Fatalf("got %v", err)
	}
	got, err := client.ListInstances(t.Context(), &flyproxyv1.ListInstancesRequest{Service: "*"})
	if err != nil || len(got.GetInstances()) != 1 {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestInstanceSaysEverything(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	full := registry.Entry{Held: true, Instance: registry.Instance{
		Service: "shop", ID: "m1/web", Incarnation: "i7", Schema: 1, App: "shop-app", Region: "fra", ProcessGroup: "web",
		Address: "[fdaa::7]:50051", GRPCPort: 50051, IsFly: true, Weight: 30, AppVersion: "1.2.3",
		Labels: map[string]string{"tier": "gold"}, GRPCServices: []string{"shop.v1.Shop"}, State: registry.Draining, StartedAt: began,
	}}
	plain := entry("shop", "m2", "")
	self := []registry.Key{{Service: "shop", ID: "m1/web"}}
	_, client := serve(t, api.Config{Views: newViews(full, plain), Service: "shop", Self: self})
	got, err := client.ListInstances(t.Context(), &flyproxyv1.ListInstancesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	first := got.GetInstances()[0]
	if !first.GetStartedAt().AsTime().Equal(began) {
		t.Errorf("started at %v", first.GetStartedAt().AsTime())
	}
	first.StartedAt = nil
	want := []*flyproxyv1.Instance{
		{
			Service: "shop", Id: "m1/web", Incarnation: "i7", Region: "fra", App: "shop-app", ProcessGroup: "web",
			Address: "[fdaa::7]:50051", GrpcPort: 50051, IsFly: true, Weight: 30, AppVersion: "1.2.3",
			Labels: map[string]string{"tier": "gold"}, GrpcServices: []string{"shop.v1.Shop"},
			State: flyproxyv1.InstanceState_INSTANCE_STATE_DRAINING, Held: true, Self: true,
		},
		{
			Service: "shop", Id: "m2", Incarnation: "i-m2", Address: "[fdaa::1]:50051", GrpcPort: 50051,
			Weight: registry.DefaultWeight, State: flyproxyv1.InstanceState_INSTANCE_STATE_SERVING,
		},
	}
	for i, w := range want {
		if !proto.Equal(got.GetInstances()[i], w) {
			t.Errorf("instance %d is\n%v, want\n%v", i, got.GetInstances()[i], w)
		}
	}
}

// watcher follows a watch as a client would, and keeps the state that it was told.
type watcher struct {
	t      *testing.T
	stream grpc.ServerStreamingClient[flyproxyv1.WatchInstancesResponse]
	state  map[string]*flyproxyv1.Instance
	last   *flyproxyv1.WatchInstancesResponse
	events int
}

func watch(t *testing.T, client flyproxyv1.DiscoveryClient, r *flyproxyv1.WatchInstancesRequest) *watcher {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	stream, err := client.WatchInstances(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return &watcher{t: t, stream: stream}
}

// next receives until the state is whole.
func (w *watcher) next() {
	w.t.Helper()
	for {
		event, err := w.stream.Recv()
		if err != nil {
			w.t.Fatalf("watch: %v", err)
		}
		w.events++
		w.last = event
		switch e := event.GetEvent().(type) {
		case *flyproxyv1.WatchInstancesResponse_Snapshot:
			if w.state != nil {
				w.t.Fatal("a second snapshot")
			}
			w.state = make(map[string]*flyproxyv1.Instance)
			w.update(e.Snapshot.GetInstances())
		case *flyproxyv1.WatchInstancesResponse_Changes:
			if w.state == nil {
				w.t.Fatal("changes before the snapshot")
			}
			w.update(e.Changes.GetUpdated())
			for _, k := range e.Changes.GetRemoved() {
				if w.state[k.GetService()+"/"+k.GetId()] == nil {
					w.t.Fatalf("%v was removed but never there", k)
				}
				delete(w.state, k.GetService()+"/"+k.GetId())
			}
		}
		if !event.GetMore() {
			return
		}
	}
}

func (w *watcher) update(instances []*flyproxyv1.Instance) {
	for _, i := range instances {
		w.state[i.GetService()+"/"+i.GetId()] = i
	}
}

func (w *watcher) want(keys ...string) {
	w.t.Helper()
	var got []string
	for k := range w.state {
		got = append(got, k)
	}
	slices.Sort(got)
	if !slices.Equal(got, keys) {
		w.t.Fatalf("state is %v, want %v", got, keys)
	}
}

func TestWatchTellsASnapshotThenChanges(t *testing.T) {
	v := newViews(entry("shop", "1", "fra"), entry("shop", "2", "fra"), entry("cart", "9", "fra"))
	_, client := serve(t, api.Config{Views: v, Service: "shop"})
	w := watch(t, client, &flyproxyv1.WatchInstancesRequest{Region: "fra"})
	w.next()
	w.want("shop/1", "shop/2")
	if w.last.GetSnapshot() == nil || w.last.GetVersion() != 1 || w.last.GetSource() != flyproxyv1.ViewSource_VIEW_SOURCE_REGISTRY {
		t.Fatalf("first event is %v", w.last)
	}

	// Another service's change brings no event, so the next one is of the view after it.
	v.set(2, entry("shop", "1", "fra"), entry("shop", "2", "fra"))
	draining := entry("shop", "2", "fra")
	draining.Instance.State = registry.Draining
	v.set(3, entry("shop", "1", "fra"), draining, entry("shop", "3", "fra"))
	w.next()
	w.want("shop/1", "shop/2", "shop/3")
	if got := ids(w.last.GetChanges().GetUpdated()); !slices.Equal(got, []string{"shop/2", "shop/3"}) || w.last.GetVersion() != 3 {
		t.Fatalf("event is %v", w.last)
	}
	if w.state["shop/2"].GetState() != flyproxyv1.InstanceState_INSTANCE_STATE_DRAINING {
		t.Fatalf("shop/2 is %v", w.state["shop/2"])
	}

	// One that moves out of the filter is gone for this watcher.
	held := entry("shop", "3", "fra")
	held.Held = true
	v.set(4, entry("shop", "1", "nrt"), draining, held)
	w.next()
	w.want("shop/2", "shop/3")
	if !w.state["shop/3"].GetHeld() {
		t.Fatalf("shop/3 is %v", w.state["shop/3"])
	}
}

func TestWatchBeginsBeforeTheFirstView(t *testing.T) {
	v := newViews()
	_, client := serve(t, api.Config{Views: v, Service: "shop"})
	w := watch(t, client, &flyproxyv1.WatchInstancesRequest{})
	w.next()
	w.want()
	if w.last.GetSnapshot() == nil || w.last.GetSource() != flyproxyv1.ViewSource_VIEW_SOURCE_NONE {
		t.Fatalf("event is %v", w.last)
	}
	// That the list is empty now because nothing is registered is worth an event.
	v.set(1)
	w.next()
	w.want()
	if w.last.GetSource() != flyproxyv1.ViewSource_VIEW_SOURCE_REGISTRY {
		t.Fatalf("event is %v", w.last)
	}
}

func TestWatchOfALargeViewComesInParts(t *testing.T) {
	var entries []registry.Entry
	for i := range 6000 {
		e := entry("shop", fmt.Sprintf("%05d", i), "fra")
		e.Instance.Labels = map[string]string{"text": strings.Repeat("x", 1000)}
		entries = append(entries, e)
	}
	v := newViews(entries...)
	_, client := serve(t, api.Config{Views: v, Service: "shop"})
	w := watch(t, client, &flyproxyv1.WatchInstancesRequest{})
	w.next()
	if len(w.state) != 6000 || w.events < 6 {
		t.Fatalf("%d instances in %d events", len(w.state), w.events)
	}
	v.set(2)
	w.next()
	w.want()
}

// A reader that does not read is told the difference to the latest view afterwards, and each step in between costs nothing.
func TestSlowWatcherIsToldTheLatest(t *testing.T) {
	v := newViews()
	_, client := serve(t, api.Config{Views: v, Service: "shop"})
	w := watch(t, client, &flyproxyv1.WatchInstancesRequest{})
	w.next()
	const steps = 3000
	large := strings.Repeat("x", 8000)
	for i := range steps {
		e := entry("shop", "1", "fra")
		e.Instance.AppVersion = fmt.Sprint(large, i)
		v.set(uint64(i+2), e)
	}
	for w.last.GetVersion() != steps+1 {
		w.next()
	}
	if got := w.state["shop/1"].GetAppVersion(); got != fmt.Sprint(large, steps-1) {
		t.Fatalf("last version is …%s", got[len(got)-5:])
	}
	// 24 MB of steps do not fit into the stream's window of 64 KiB, so most were never sent.
	if w.events > steps/2 {
		t.Fatalf("%d events for %d steps", w.events, steps)
	}
}

func TestCloseEndsWatches(t *testing.T) {
	v := newViews(entry("shop", "1", "fra"))
	s, client := serve(t, api.Config{Views: v, Service: "shop"})
	w := watch(t, client, &flyproxyv1.WatchInstancesRequest{})
	w.next()
	s.Close()
	s.Close()
	if _, err := w.stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Fatalf("got %v", err)
	}
	late := watch(t, client, &flyproxyv1.WatchInstancesRequest{})
	if _, err := late.stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Fatalf("got %v", err)
	}
	// A list is still answered: a draining sidecar's app may ask.
	if _, err := client.ListInstances(t.Context(), &flyproxyv1.ListInstancesRequest{}); err != nil {
		t.Fatal(err)
	}
}

func TestWatcherThatLeavesIsForgotten(t *testing.T) {
	v := newViews(entry("shop", "1", "fra"))
	_, client := serve(t, api.Config{Views: v, Service: "shop"})
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.WatchInstances(ctx, &flyproxyv1.WatchInstancesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if v.subscribers() != 1 {
		t.Fatalf("%d subscribers", v.subscribers())
	}
	cancel()
	for {
		if _, err := stream.Recv(); err == io.EOF || status.Code(err) == codes.Canceled {
			break
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for v.subscribers() != 0 {
		if time.Now().After(deadline) {
			t.Fatal("still subscribed")
		}
		time.Sleep(time.Millisecond)
	}
}
