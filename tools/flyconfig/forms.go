package flyconfig

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// duration reads a duration as fly does: text in Go's form, or a number in the unit of that key (patches.go: seconds for
// kill_timeout, milliseconds for checks).
func duration(v any, unit time.Duration) (time.Duration, error) {
	switch v := v.(type) {
	case string:
		d, err := time.ParseDuration(v)
		if err != nil {
			return 0, fmt.Errorf("%q is no duration", v)
		}
		return d, nil
	case int64:
		return time.Duration(v) * unit, nil
	case float64:
		return time.Duration(v) * unit, nil
	}
	return 0, fmt.Errorf("%v is no duration", v)
}

// sizes is a number and a unit, each unit 1,024 times the one before.
var sizes = regexp.MustCompile(`^(\d+(?:\.\d+)?) ?([bBkKmMgGtT]?)(?:i?[bB])?$`)

// megabytes reads an amount of memory as fly does: a number of MB, or text with a unit such as 512mb, 1gb, 2GiB.
func megabytes(v any) (int, error) {
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case int64:
		text = strconv.FormatInt(v, 10)
	default:
		return 0, fmt.Errorf("%v is no size", v)
	}
	if mb, err := strconv.Atoi(text); err == nil {
		return mb, nil
	}
	m := sizes.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is no size", text)
	}
	number, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no size", text)
	}
	exponent := max(0, strings.Index("bkmgt", strings.ToLower(m[2])))
	return int(number * math.Pow(1024, float64(exponent)) / (1 << 20)), nil
}

// words splits a command as a shell would, without expanding anything: fly starts processes so (google/shlex).
func words(command string) ([]string, error) {
	var all []string
	var word strings.Builder
	var quote rune
	inWord, escaped := false, false
	for _, c := range command {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if inWord {
				all = append(all, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("%q ends within a quotation", command)
	}
	if inWord {
		all = append(all, word.String())
	}
	return all, nil
}
