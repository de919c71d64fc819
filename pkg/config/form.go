package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// checkForm checks a text whose tag names a form.
func checkForm(form, s string) *bad {
	const letters = "write 1 to 128 of the characters A-Z a-z 0-9 . _ -"
	switch form {
	case "service":
		if strings.Contains(s, "/") {
			return &bad{"a service has no slash", letters}
		}
		if !nameLike(s, "") {
			return &bad{"not the name of a service", letters}
		}
	case "name":
		if !nameLike(s, "") {
			return &bad{"not a name", letters}
		}
	case "namespace": // it stands in the name of every key
		if !nameLike(s, "") || len(s) > 64 {
			return &bad{"not a namespace", "write 1 to 64 of the characters A-Z a-z 0-9 . _ -"}
		}
	case "id":
		if !nameLike(s, "/:[]%") {
			return &bad{"not an id", "write 1 to 128 of the characters A-Z a-z 0-9 . _ - / : [ ]"}
		}
	case "grpc":
		if !nameLike(s, "") || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") {
			return &bad{"not the full name of a gRPC service", "write package.Service, without slashes"}
		}
	case "method":
		service, method, ok := strings.Cut(strings.TrimPrefix(s, "/"), "/")
		if !ok || s[0] != '/' || checkForm("grpc", service) != nil || (method != "*" && !nameLike(method, "")) {
			return &bad{"not the full name of a gRPC method", "write /package.Service/Method, or /package.Service/* for all of that service"}
		}
	case "mode":
		if n, err := strconv.ParseUint(s, 8, 16); err != nil || n > 0o777 || len(s) < 3 {
			return &bad{"not the permissions of a file", "write three octal digits after a 0, such as 0660"}
		}
	}
	return nil
}

func nameLike(s, also string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-"+also, r) {
			return false
		}
	}
	return true
}

// A hostPort is an address in its parts. Host has no brackets.
type hostPort struct {
	host string
	port int
}

func (a hostPort) String() string { return net.JoinHostPort(a.host, strconv.Itoa(a.port)) }

// parseAddress reads host:port. Port 0, which lets the system choose, is taken only where anyPort says so.
func parseAddress(s string, anyPort bool) (hostPort, *bad) {
	const fix = "write host:port, an IPv6 address in brackets, such as 127.0.0.1:50051 or [::1]:50051"
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return hostPort{}, &bad{"not host:port", fix}
	}
	if b := checkHost(host); b != nil {
		return hostPort{}, b
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || (n == 0 && !anyPort) {
		return hostPort{}, &bad{fmt.Sprintf("%q is not a port", clip(redact(port))), "write a port from 1 to 65535"}
	}
	return hostPort{host, int(n)}, nil
}

// checkHost takes an IP address without brackets or what has the form of a host name.
func checkHost(host string) *bad {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if len(host) > 253 {
		return &bad{"a host name longer than 253 bytes", "write a host name or an IP address"}
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if !nameLike(label, "") || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return &bad{fmt.Sprintf("%q is not a host", clip(redact(host))), "write a host name or an IP address before the port"}
		}
	}
	return nil
}

// expandLocalhost gives the two addresses of localhost; any other address stays as it is.
func expandLocalhost(address string) []string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || !strings.EqualFold(host, "localhost") {
		return []string{address}
	}
	return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}
}

// dialable turns an address that a server binds into one that reaches it from the same host.
func dialable(host string) string {
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsUnspecified() {
		return host
	}
	if ip.Is4() {
		return "127.0.0.1"
	}
	return "::1"
}

// loopback tells whether a listener on host is reachable from this host only.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
