package relay

import "github.com/flyproxy/flyproxy/pkg/relay/hpack"

// checkRegular checks one regular field (RFC 9113 §8.2): what is wrong with it, or nothing.
func checkRegular(f *hpack.Field) string {
	if f.Name == "" {
		return "an empty name"
	}
	for i := range len(f.Name) {
		if !nameOctets[f.Name[i]] {
			return "a character that a name may not have"
		}
	}
	if !fieldValue(f.Value) {
		return "a control character in a value"
	}
	switch f.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return "a connection-level header" // §8.2.2
	}
	return ""
}

// fieldValue tells whether a value has no octet that would end it elsewhere (RFC 9113 §8.2.1).
func fieldValue(v string) bool {
	for i := range len(v) {
		if b := v[i]; b <= '\r' && (b == '\r' || b == '\n' || b == 0) {
			return false
		}
	}
	return true
}

// nameOctets are those that a regular field's name may have: visible ASCII without upper case and colon.
var nameOctets = func() (ok [256]bool) {
	for b := range ok {
		ok[b] = b > ' ' && b < 0x7f && (b < 'A' || b > 'Z') && b != ':'
	}
	return ok
}()
