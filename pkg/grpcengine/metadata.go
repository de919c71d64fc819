package grpcengine

import (
	"slices"
	"strings"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
)

// ofOneHop tells the header fields that must not pass from one side to the other. The connection-specific ones make an HTTP/2
// message malformed (RFC 9113 §8.2.2). content-length counts bytes of DATA frames that grpc-go makes anew. The others are set by
// grpc-go for each side, from what the call's adapter tells it.
func ofOneHop(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te",
		"content-length",
		"content-type", "user-agent", "grpc-accept-encoding", "grpc-encoding", "grpc-timeout", "grpc-status", "grpc-message":
		return true
	}
	return strings.HasPrefix(name, ":")
}

// takeMetadata takes out of md what is for us and what must not go on, so that what is left can be sent to the peer. grpc-go gives
// names in lower case and -bin values decoded.
func (c *call) takeMetadata(md metadata.MD) {
	if v := md[":authority"]; len(v) > 0 {
		c.authority = v[0]
	} else if v := md["host"]; len(v) > 0 {
		c.authority = v[0]
	}
	delete(md, "host")
	c.acceptsGzip = accepts(md["grpc-accept-encoding"], gzip.Name)
	for name, values := range md {
		if ofOneHop(name) || c.takeRouting(name, values) {
			delete(md, name)
		}
	}
	c.dropInvalid(md)
}

func (c *call) takeRouting(name string, values []string) (taken bool) {
	for _, v := range values {
		if !c.engine.cfg.Router.Take(&c.route, name, v) {
			return false
		}
		taken = true
	}
	return taken
}

// cleanResponse takes out of response headers or trailers what must not go on to the client.
func (c *call) cleanResponse(md metadata.MD) {
	accept := accepts(md["grpc-accept-encoding"], gzip.Name)
	for name := range md {
		if ofOneHop(name) {
			delete(md, name)
		}
	}
	if accept {
		// Of what the peer accepts only this passes through us.
		md["grpc-accept-encoding"] = []string{encoding.Identity + "," + gzip.Name}
	}
	c.dropInvalid(md)
}

// dropInvalid takes out what grpc-go would fail the whole call for: names outside [0-9a-z_.-], values that are not printable ASCII.
func (c *call) dropInvalid(md metadata.MD) {
	for name, values := range md {
		switch {
		case !validName(name):
			delete(md, name)
			c.engine.dropped.Add(uint64(len(values)))
		case strings.HasSuffix(name, "-bin") || !slices.ContainsFunc(values, unprintable):
		default:
			kept := slices.DeleteFunc(values, unprintable)
			c.engine.dropped.Add(uint64(len(values) - len(kept)))
			if md[name] = kept; len(kept) == 0 {
				delete(md, name)
			}
		}
	}
}

func validName(name string) bool {
	for i := range len(name) {
		switch b := name[i]; {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '.', b == '-', b == '_':
		default:
			return false
		}
	}
	return name != ""
}

func unprintable(value string) bool {
	for i := range len(value) {
		if value[i] < 0x20 || value[i] > 0x7e {
			return true
		}
	}
	return false
}

// accepts tells whether a list of encodings, comma-separated and perhaps spread over several fields, names one.
func accepts(fields []string, name string) bool {
	for _, f := range fields {
		for e := range strings.SplitSeq(f, ",") {
			if strings.TrimSpace(e) == name {
				return true
			}
		}
	}
	return false
}
