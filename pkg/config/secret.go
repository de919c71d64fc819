package config

import (
	"net/url"
	"strings"
)

const mask = "********"

// show is a value as it may be shown: a secret masked, credentials in what looks like a URL masked, long text cut.
func show(f *field, s string) string {
	if f != nil && f.secret != "" && s != "" {
		if f.secret == "url" {
			return maskURL(s)
		}
		return mask
	}
	return clip(redact(s))
}

// maskURL shows scheme, user, host and path of a URL. What cannot be parsed is not shown at all: nobody knows where in it the
// password stands.
func maskURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Opaque != "" || strings.Contains(u.Host+u.Path+u.RawQuery+u.Fragment, "@") {
		return mask
	}
	user := ""
	switch _, password := u.User.Password(); {
	case password:
		user = u.User.Username() + ":" + mask + "@"
	case u.User != nil: // a password put where the user stands is a usual mistake
		user = mask + "@"
	}
	shown := u.Scheme + "://" + user + u.Host + u.Path
	if u.RawQuery != "" || u.Fragment != "" {
		shown += "?…"
	}
	return shown
}

// redact masks everything before the last @ of a text, up to the :// that may precede it: someone may have put a URL with a
// password where only a host belongs.
func redact(s string) string {
	at := strings.LastIndex(s, "@")
	if at < 0 {
		return s
	}
	scheme := ""
	if i := strings.Index(s[:at], "://"); i >= 0 {
		scheme = s[:i+3]
	}
	return scheme + mask + s[at:]
}

// clip shortens what goes into a message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
