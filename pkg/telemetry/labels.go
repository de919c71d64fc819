package telemetry

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// The label values that stand for many, and for none.
const (
	otherLabel   = "other"
	unknownLabel = "unknown"
)

// maxLabelBytes bounds a name that may become a label of its own.
const maxLabelBytes = 128

// codeNames are the names of the gRPC status codes, by number (https://grpc.io/docs/guides/status-codes/).
var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
	"DATA_LOSS", "UNAUTHENTICATED",
}

// CodeName is the name of a gRPC status code as it stands in metrics: OK, UNAVAILABLE and so on.
func CodeName(code uint32) string {
	if code < uint32(len(codeNames)) {
		return codeNames[code]
	}
	return "CODE_" + strconv.FormatUint(uint64(code), 10)
}

// labelForm tells whether a name that came from outside may be a label: short, and of visible ASCII characters.
func labelForm(s string) bool {
	if s == "" || len(s) > maxLabelBytes {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// methodForm tells whether s is a full method that may be a label: /package.Service/Method.
func methodForm(s string) bool {
	if !labelForm(s) || s[0] != '/' {
		return false
	}
	service, method, ok := strings.Cut(s[1:], "/")
	return ok && service != "" && method != "" && !strings.ContainsAny(method, "/?#")
}

// labelValue makes any string fit for a label, of which Prometheus demands UTF-8.
func labelValue(s string) string {
	switch {
	case s == "":
		return unknownLabel
	case utf8.ValidString(s):
		return s
	}
	return strings.ToValidUTF8(s, "?")
}
