package interop_test

// h2reason says why a case does not pass on a plane; empty when it should.
func h2reason(p plane, tc h2case) string { return h2reasons[p.Name][tc.ID] }

// What is wrong with one call should not end a peer's others.
const mildest = "the relay answers RST_STREAM(STREAM_CLOSED), which costs the peer's other calls nothing: RFC 9113 "

// What stands behind the results of engine: grpc is grpc-go; nothing of it is ours to change.
const (
	noData     = "grpc-go answers a GET with HTTP status 405 and no DATA, on which the case builds"
	only405    = "grpc-go answers a GET with HTTP status 405 before it looks at the rest"
	ignored    = "grpc-go ignores frames on streams that it does not know"
	unchecked  = "grpc-go does not check it"
	deprecated = "grpc-go ignores priorities, which RFC 9113 §5.3.2 has deprecated"
	noGoAway   = "grpc-go closes the connection without a GOAWAY, which §5.4.1 only recommends"
	itsOwnPing = "h2spec takes the first PING for the acknowledgement of its own; it is grpc-go's, which measures the path"
)

var h2reasons = map[string]map[string]string{
	"relay": {
		"client/5.1/8": "h2spec wants a connection error; " + mildest + "asks for a stream error (§6.1)",
		"client/5.1/9": "h2spec wants a connection error; " + mildest + "allows one, but does not ask for it (§5.1)",
	},
	"grpc": {
		"generic/2/2":     noData,
		"generic/2/3":     noData,
		"http2/5.1/1":     ignored,
		"http2/5.1/2":     ignored,
		"http2/5.1/3":     ignored,
		"http2/5.1/5":     ignored,
		"http2/5.1/8":     ignored,
		"http2/5.1/11":    ignored,
		"http2/5.1.2/1":   only405,
		"http2/5.3.1/1":   deprecated,
		"http2/5.3.1/2":   deprecated,
		"http2/5.4.1/2":   noGoAway,
		"http2/6.1/2":     ignored,
		"http2/6.4/2":     ignored,
		"http2/6.5.2/1":   unchecked,
		"http2/6.5.2/3":   unchecked,
		"http2/6.5.2/4":   unchecked,
		"http2/6.5.3/1":   noData,
		"http2/6.9.1/1":   noData,
		"http2/6.9.1/2":   unchecked,
		"http2/6.9.1/3":   noData,
		"http2/6.9.2/1":   noData,
		"http2/6.9.2/2":   noData,
		"http2/8.1.2.2/2": only405,
		"http2/8.1.2.3/1": only405,
		"http2/8.1.2.3/2": only405,
		"http2/8.1.2.3/3": only405,
		"http2/8.1.2.3/4": only405,
		"http2/8.1.2.6/1": unchecked,
		"http2/8.1.2.6/2": unchecked,
		"http2/8.2/1":     ignored,
		"client/4.2/1":    itsOwnPing,
		"client/5.1/1":    ignored,
		"client/5.1/2":    ignored,
		"client/5.1/3":    ignored,
		"client/5.1/5":    ignored,
		"client/5.1/6":    ignored,
		"client/5.1/8":    ignored,
		"client/5.1/9":    ignored,
		"client/5.1.1/1":  ignored,
		"client/6.1/2":    ignored,
		"client/6.4/2":    ignored,
		"client/6.5.2/2":  unchecked,
		"client/6.5.2/3":  unchecked,
		"client/6.9.1/1":  unchecked,
		"client/6.9.1/2":  unchecked,
	},
}
