package api

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/flyproxy/flyproxy/pkg/api/flyproxyv1"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// instance is the message of an entry. It shares nothing that could change with the view.
func (s *Server) instance(e *registry.Entry) *flyproxyv1.Instance {
	i := &e.Instance
	m := &flyproxyv1.Instance{
		Service:      i.Service,
		Id:           i.ID,
		Incarnation:  i.Incarnation,
		Region:       i.Region,
		App:          i.App,
		ProcessGroup: i.ProcessGroup,
		Address:      i.Address,
		GrpcPort:     int32(i.GRPCPort),
		IsFly:        i.IsFly,
		Weight:       i.EffectiveWeight(),
		AppVersion:   i.AppVersion,
		Labels:       maps.Clone(i.Labels),
		GrpcServices: slices.Clone(i.GRPCServices),
		State:        state(i.State),
		Held:         e.Held,
		Self:         s.self[i.Key()],
	}
	if !i.StartedAt.IsZero() {
		m.StartedAt = timestamppb.New(i.StartedAt)
	}
	return m
}

func state(s registry.State) flyproxyv1.InstanceState {
	switch s {
	case registry.Serving:
		return flyproxyv1.InstanceState_INSTANCE_STATE_SERVING
	case registry.Draining:
		return flyproxyv1.InstanceState_INSTANCE_STATE_DRAINING
	}
	return flyproxyv1.InstanceState_INSTANCE_STATE_UNSPECIFIED
}

func source(s registry.Source) flyproxyv1.ViewSource {
	switch s {
	case registry.FromRegistry:
		return flyproxyv1.ViewSource_VIEW_SOURCE_REGISTRY
	case registry.FromNowhere:
		return flyproxyv1.ViewSource_VIEW_SOURCE_NONE
	}
	return flyproxyv1.ViewSource_VIEW_SOURCE_UNSPECIFIED
}
