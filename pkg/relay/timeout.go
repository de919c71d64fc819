package relay

import (
	"strconv"
	"time"
)

// maxTimeout is the longest deadline that is kept: beyond it there is none to speak of.
const maxTimeout = 10 * 365 * 24 * time.Hour

// parseTimeout reads grpc-timeout: up to 8 digits and a unit (gRPC over HTTP/2, "Timeout").
func parseTimeout(v string) (time.Duration, bool) {
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(v[:len(v)-1], 10, 63)
	if err != nil {
		return 0, false
	}
	var unit time.Duration
	switch v[len(v)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	if d := time.Duration(n); d <= time.Duration(1<<63-1)/unit {
		return d * unit, true
	}
	return 1<<63 - 1, true
}

func formatTimeout(d time.Duration) string {
	d = max(d, time.Nanosecond)
	for _, u := range []struct {
		unit time.Duration
		name byte
	}{{time.Nanosecond, 'n'}, {time.Microsecond, 'u'}, {time.Millisecond, 'm'}, {time.Second, 'S'}, {time.Minute, 'M'}, {time.Hour, 'H'}} {
		if n := d / u.unit; n < 1e8 {
			return strconv.FormatInt(int64(n), 10) + string(u.name)
		}
	}
	return "99999999H"
}
