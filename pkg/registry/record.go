package registry

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// DefaultMaxRecordBytes bounds a record; a usual one has 300 to 500 bytes.
const DefaultMaxRecordBytes = 64 << 10

// Codec turns instances into records and back. Its fields are read only after it is in use, so it may be shared.
type Codec struct {
	// MaxRecordBytes bounds a record in both directions; 0 means [DefaultMaxRecordBytes].
	MaxRecordBytes int
	// AllowedNetworks are where an address may lie; empty means anywhere. A DNS name is checked once it is resolved, by who dials.
	AllowedNetworks []netip.Prefix
	// SigningKey, when set, signs every record that is written and refuses every one that is not signed with it (HMAC-SHA256).
	// It shows that whoever wrote a record held the key; it does not stop an old record from being played back.
	SigningKey []byte
}

// The signature is the record's last member, over all bytes before it. So it covers members that this version does not know.
const (
	sigOpen  = `,"sig":"`
	sigClose = `"}`
	sigBytes = len(sigOpen) + 2*sha256.Size + len(sigClose)
)

func (c *Codec) limit() int {
	if c.MaxRecordBytes > 0 {
		return c.MaxRecordBytes
	}
	return DefaultMaxRecordBytes
}

// Encode gives the record of inst, after the same checks that a reader makes: nothing is written that others would refuse.
func (c *Codec) Encode(inst Instance) ([]byte, error) {
	inst.Schema = SchemaVersion
	record, err := json.Marshal(inst)
	if err != nil {
		return nil, fmt.Errorf("encode record of %s: %w", inst.Key(), err)
	}
	if len(c.SigningKey) > 0 {
		body := record[:len(record)-1]
		record = append(append(append(bytes.Clone(body), sigOpen...), c.sign(body)...), sigClose...)
	}
	if _, err := c.Decode(inst.Key().String(), record); err != nil {
		return nil, err
	}
	return record, nil
}

// Decode checks a record that was found under field (service/id) and gives its instance. The error wraps the one of this
// package's errors that says which check failed. A record of a newer schema is read as far as it is understood.
func (c *Codec) Decode(field string, record []byte) (Instance, error) {
	var inst Instance
	key, err := ParseKey(field)
	if err != nil {
		return inst, err
	}
	if len(record) > c.limit() {
		return inst, fmt.Errorf("%w: %d bytes, %d are allowed", ErrTooLarge, len(record), c.limit())
	}
	if !utf8.Valid(record) || !utf8.ValidString(field) {
		return inst, fmt.Errorf("%w: not UTF-8", ErrMalformed)
	}
	if len(c.SigningKey) > 0 && !c.signed(record) {
		return inst, ErrSignature
	}
	if err := json.Unmarshal(record, &inst); err != nil {
		return Instance{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	switch {
	case inst.Key() != key:
		return Instance{}, fmt.Errorf("%w: it says %q", ErrMalformed, clip(inst.Key().String()))
	case inst.Incarnation == "":
		return Instance{}, fmt.Errorf("%w: no incarnation", ErrMalformed)
	case inst.Schema < 1:
		return Instance{}, fmt.Errorf("%w: no schema", ErrMalformed)
	case inst.State != Serving && inst.State != Draining:
		return Instance{}, fmt.Errorf("%w: state %q", ErrMalformed, clip(string(inst.State)))
	}
	if err := c.checkAddress(inst.Address); err != nil {
		return Instance{}, err
	}
	return inst, nil
}

func (c *Codec) sign(body []byte) []byte {
	mac := hmac.New(sha256.New, c.SigningKey)
	mac.Write(body)
	return hex.AppendEncode(nil, mac.Sum(nil))
}

func (c *Codec) signed(record []byte) bool {
	at := len(record) - sigBytes
	if at < 1 || !bytes.HasPrefix(record[at:], []byte(sigOpen)) || !bytes.HasSuffix(record, []byte(sigClose)) {
		return false
	}
	sum := record[at+len(sigOpen) : len(record)-len(sigClose)]
	return hmac.Equal(sum, c.sign(record[:at]))
}

func (c *Codec) checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q is not host:port", ErrAddress, clip(address))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%w: port in %q", ErrAddress, clip(address))
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		if !hostName(host) {
			return fmt.Errorf("%w: host in %q", ErrAddress, clip(address))
		}
		return nil
	}
	// An IPv4 address may come in the form ::ffff:0.0.0.0, of which the questions below know nothing.
	if host := ip.Unmap(); host.IsUnspecified() || host.IsMulticast() || host == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return fmt.Errorf("%w: %q is no address of one host", ErrAddress, clip(address))
	}
	if !Allowed(c.AllowedNetworks, ip) {
		return fmt.Errorf("%w: %s", ErrNetwork, ip)
	}
	return nil
}

// Allowed tells whether ip lies in one of the networks; with no networks every address is allowed.
func Allowed(networks []netip.Prefix, ip netip.Addr) bool {
	if len(networks) == 0 {
		return true
	}
	ip = ip.Unmap().WithZone("")
	for _, n := range networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// hostName tells whether s has the form of a DNS host name (RFC 1123 §2.1, with underscores, which Fly's own names use).
func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
				return false
			}
		}
	}
	return true
}
