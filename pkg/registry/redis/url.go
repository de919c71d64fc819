package redis

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// ParseURL reads redis://[user[:password]@]host[:port][/database], as hosting providers hand it out, or the same with rediss://
// for TLS. It fills Addresses, Username, Password, DB and TLS of the Config that it returns. Its errors show no password.
func ParseURL(s string) (Config, error) {
	u, err := url.Parse(s)
	if err != nil {
		// The error of net/url quotes the whole URL.
		return Config{}, errors.New("redis URL cannot be read; a password with special characters must be percent-encoded")
	}
	var cfg Config
	switch u.Scheme {
	case "redis":
	case "rediss":
		cfg.TLS = &TLS{}
	default:
		return Config{}, fmt.Errorf("redis URL begins with %q, want redis:// or rediss://", u.Scheme)
	}
	if u.Hostname() == "" {
		return Config{}, errors.New("redis URL has no host")
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Config{}, fmt.Errorf("redis URL has the port %q", port)
	}
	cfg.Addresses = []string{net.JoinHostPort(u.Hostname(), port)}
	if u.User != nil {
		cfg.Username = u.User.Username()
		cfg.Password, _ = u.User.Password()
	}
	if db := strings.Trim(u.Path, "/"); db != "" {
		n, err := strconv.Atoi(db)
		if err != nil || n < 0 {
			return Config{}, fmt.Errorf("redis URL has the database %q, want a number", db)
		}
		cfg.DB = n
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return Config{}, errors.New("redis URL has a query or fragment; options are keys of the configuration")
	}
	return cfg, nil
}
