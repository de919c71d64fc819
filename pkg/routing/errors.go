package routing

import (
	"fmt"
	"maps"
	"slices"
)

// Code is a gRPC status code (google.golang.org/grpc/codes has the same numbers).
type Code uint32

// Unavailable is the code of every failure to find a peer: another moment may go better.
const Unavailable Code = 14

// Error is a failure that already is a gRPC status. The message tells the caller's developer what is wrong.
type Error struct {
	Code    Code
	Message string
	// Service is the one that the call was for, as far as that is known.
	Service string
}

func (e *Error) Error() string { return e.Message }

// unroutable counts a call for which there is no peer and says why.
func (r *Router) unroutable(service, message string) *Error {
	r.stats.none.Add(1)
	return &Error{Code: Unavailable, Message: message, Service: service}
}

func (r *Router) errNone(c *Call, name string, svc *service) *Error {
	if name == "" {
		return r.unroutable("", fmt.Sprintf("No gRPC instances available: nothing says which service answers %s; "+
			"set routing.routes, the header %s, or service (FLYPROXY_SERVICE)", clip(c.Method), r.cfg.Headers.Service))
	}
	known, healthy, inRegion := 0, 0, 0
	if svc != nil {
		known, inRegion = svc.known, svc.inRegion
		for _, p := range svc.byID {
			if !p.BackedOff() {
				healthy++
			}
		}
	}
	where := "in region " + r.cfg.Region
	if r.cfg.Region == "" {
		where = "in our region (unknown)"
	}
	message := fmt.Sprintf("No gRPC instances available for service %s: %d known, %d healthy, %d %s",
		clip(name), known, healthy, inRegion, where)
	if svc != nil && len(svc.excluded) > 0 {
		id := slices.Min(slices.Collect(maps.Keys(svc.excluded)))
		message += fmt.Sprintf("; %d get no calls from here, such as %q: %s", len(svc.excluded), clip(id), svc.excluded[id])
	}
	return r.unroutable(name, message)
}
