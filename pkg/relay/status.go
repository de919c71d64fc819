package relay

import (
	"strconv"
	"strings"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
)

// gRPC status codes that the relay itself gives, or knows.
const (
	statusOK                = 0
	statusCanceled          = 1
	statusUnknown           = 2
	statusDeadlineExceeded  = 4
	statusPermissionDenied  = 7
	statusResourceExhausted = 8
	statusInternal          = 13
	statusUnavailable       = 14
)

// trailersOnly is a whole response of our own: headers that are trailers too (gRPC over HTTP/2, "Trailers-Only").
func trailersOnly(code uint32, message string) []hpack.Field {
	return append([]hpack.Field{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}}, trailers(code, message)...)
}

func trailers(code uint32, message string) []hpack.Field {
	return []hpack.Field{
		{Name: "grpc-status", Value: strconv.FormatUint(uint64(code), 10)},
		{Name: "grpc-message", Value: percentEncode(message), How: hpack.Plain},
	}
}

// percentEncode writes a message as grpc-message has it: everything but printable ASCII, and the percent sign itself, as %XX.
func percentEncode(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// statusOfReset is what gRPC clients make of a reset (gRPC over HTTP/2, "Errors").
func statusOfReset(code errCode) uint32 {
	switch code {
	case codeRefusedStream:
		return statusUnavailable
	case codeCancel:
		return statusCanceled
	case codeEnhanceYourCalm:
		return statusResourceExhausted
	case codeInadequateSecurity:
		return statusPermissionDenied
	}
	return statusInternal
}

// parseStatus reads grpc-status.
func parseStatus(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return statusUnknown
	}
	return uint32(n)
}
