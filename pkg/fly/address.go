package fly

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// The named forms of an address. Every other form is a template, in which {placeholders} are replaced.
const (
	// PrivateIPForm is [FLY_PRIVATE_IP]:port.
	PrivateIPForm = "private-ip"
	// MachineDNSForm is <machine>.vm.<app>.internal:port, a name that Fly's resolver answers for the whole life of the Machine.
	MachineDNSForm = "machine-dns"
	// HostForm is the template for where there is no Fly.
	HostForm = "{host}:{port}"
)

// The reasons for which an address cannot be formed.
var (
	ErrPlaceholder = errors.New("unknown placeholder")
	ErrNoValue     = errors.New("nothing to put in")
	ErrForm        = errors.New("not host:port")
)

// A Place is what an address form may speak of beside the Environment.
type Place struct {
	// InstanceID is the sidecar's instance id.
	InstanceID string
	// Region replaces {region}. It is here because the configuration may set it otherwise than Fly does.
	Region string
	// Host is the name or the IP address (without brackets) by which others reach this host.
	Host string
	// Port is where the app listens.
	Port int
}

// placeholders are those that a template may name, in the order in which errors list them.
func placeholders() []string {
	return []string{"instance_id", "machine_id", "app", "region", "private_ip", "port", "host"}
}

// Address gives host:port in the form that is asked for: [PrivateIPForm], [MachineDNSForm], or a template such as
// "{instance_id}.internal:{port}". An IPv6 address gets its brackets where the template does not write them. The error wraps
// [ErrPlaceholder], [ErrNoValue] (the environment does not have what the form needs) or [ErrForm].
func (e Environment) Address(form string, p Place) (string, error) {
	switch form {
	case PrivateIPForm:
		form = "{private_ip}:{port}"
	case MachineDNSForm:
		form = "{machine_id}.vm.{app}.internal:{port}"
	}
	var b strings.Builder
	for rest := form; rest != ""; {
		literal, after, found := strings.Cut(rest, "{")
		b.WriteString(literal)
		if !found {
			break
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed {
			return "", fmt.Errorf("%w: %q has a { without its }", ErrForm, form)
		}
		value, err := e.placeholder(name, p, strings.HasSuffix(literal, "["))
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		rest = tail
	}
	address := b.String()
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return "", fmt.Errorf("%w: %q", ErrForm, address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%w: %q has no port from 1 to 65535", ErrForm, address)
	}
	return address, nil
}

func (e Environment) placeholder(name string, p Place, bracketed bool) (string, error) {
	value, from := "", ""
	switch name {
	case "instance_id":
		value, from = p.InstanceID, "the instance has no id"
	case "machine_id":
		value, from = e.MachineID, "FLY_MACHINE_ID is not set"
	case "app":
		value, from = e.App, "FLY_APP_NAME is not set"
	case "region":
		value, from = p.Region, "the region is not known"
	case "private_ip":
		if e.PrivateIP.IsValid() {
			value = e.PrivateIP.String()
		}
		from = "FLY_PRIVATE_IP is not set, or not an IP address"
	case "port":
		if p.Port > 0 {
			value = strconv.Itoa(p.Port)
		}
		from = "the app's port is not known"
	case "host":
		value, from = p.Host, "the host's address is not known"
	default:
		return "", fmt.Errorf("%w {%s}: known are {%s}", ErrPlaceholder, name, strings.Join(placeholders(), "}, {"))
	}
	if value == "" {
		return "", fmt.Errorf("%w for {%s}: %s", ErrNoValue, name, from)
	}
	if name == "private_ip" || name == "host" {
		if ip, err := netip.ParseAddr(value); err == nil && ip.Is6() && !bracketed {
			return "[" + value + "]", nil
		}
	}
	return value, nil
}
