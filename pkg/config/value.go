package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// bad says why a value is not taken, and what would be.
type bad struct{ problem, fix string }

type sizeUnit struct {
	name  string
	bytes Size
}

func sizeUnits() []sizeUnit {
	return []sizeUnit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}
}

// parse reads a scalar, or a comma-separated list of scalars, as this key takes it. The result has the type of the struct's
// field.
func (f *field) parse(s string) (any, *bad) {
	switch f.kind {
	case text:
		return f.parseText(s)
	case texts:
		parts := list(s, ",")
		for i, p := range parts {
			if p == "" {
				return nil, &bad{"an empty item in the list", "separate the items with single commas"}
			}
			if b := checkForm(f.form, p); b != nil {
				b.problem = fmt.Sprintf("item %d, %q: %s", i+1, show(f, p), b.problem)
				return nil, b
			}
		}
		if parts == nil {
			parts = []string{}
		}
		return parts, nil
	case flag:
		switch s {
		case "true", "True", "TRUE", "1":
			return true, nil
		case "false", "False", "FALSE", "0":
			return false, nil
		}
		return nil, &bad{"not true or false", "write true or false"}
	case integer:
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, &bad{"not a whole number", f.wanted("write a number")}
		}
		return n, f.bound(float64(n))
	case number:
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(n) {
			return nil, &bad{"not a number", f.wanted("write a number")}
		}
		return n, f.bound(n)
	case duration:
		d, err := time.ParseDuration(s)
		if err != nil {
			problem, fix := "not a duration", "write a number with a unit, such as 500ms, 5s or 2m"
			if _, err := strconv.ParseFloat(s, 64); err == nil {
				problem, fix = "a duration without its unit", fmt.Sprintf("write %ss for seconds or %sms for milliseconds", s, s)
			}
			return nil, &bad{problem, fix}
		}
		return d, f.bound(float64(d))
	case size:
		n, ok := parseSize(s)
		if !ok {
			return nil, &bad{"not a size", "write a number of bytes, or one with KiB, MiB or GiB, such as 64KiB"}
		}
		return n, f.bound(float64(n))
	}
	return nil, &bad{"not a value", ""}
}

func (f *field) parseText(s string) (any, *bad) {
	if f.oneof == nil {
		if s == "" && !f.need {
			return s, nil
		}
		return s, checkForm(f.form, s)
	}
	for _, v := range f.oneof {
		if s == v || f.alias != "" && s == camel(v)+f.alias {
			return v, nil
		}
	}
	fix := "write " + oneOf(f.oneof)
	if len(f.oneof) > 2 {
		words := f.oneof
		if f.alias != "" {
			for _, v := range f.oneof {
				words = append(words[:len(words):len(words)], camel(v)+f.alias)
			}
		}
		if near, ok := nearest(s, words); ok {
			fix = fmt.Sprintf("did you mean %q? It takes %s", near, oneOf(f.oneof))
		}
	}
	return nil, &bad{"not a value of this key", fix}
}

func parseSize(s string) (Size, bool) {
	unit := Size(1)
	for _, u := range sizeUnits() {
		if digits, ok := strings.CutSuffix(s, u.name); ok {
			s, unit = strings.TrimSpace(digits), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || Size(n) > math.MaxInt64/unit {
		return 0, false
	}
	return Size(n) * unit, true
}

// bound checks a value against min and max, all taken as plain numbers (a duration as nanoseconds, a size as bytes).
func (f *field) bound(n float64) *bad {
	if f.min != "" && n < f.plain(f.min) {
		return &bad{"below " + f.min, f.wanted("write a value")}
	}
	if f.max != "" && n > f.plain(f.max) {
		return &bad{"above " + f.max, f.wanted("write a value")}
	}
	return nil
}

func (f *field) plain(limit string) float64 {
	switch f.kind {
	case duration:
		d, _ := time.ParseDuration(limit)
		return float64(d)
	case size:
		n, _ := parseSize(limit)
		return float64(n)
	}
	n, _ := strconv.ParseFloat(limit, 64)
	return n
}

func (f *field) wanted(verb string) string {
	if f.min == "" || f.max == "" {
		return verb
	}
	return fmt.Sprintf("%s from %s to %s", verb, f.min, f.max)
}

// camel turns weighted_load into WeightedLoad.
func camel(s string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(s, "_") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// oneOf joins values as a sentence does: a, b or c.
func oneOf(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	last := len(values) - 1
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

// format is the reverse of parse: the value as it would be written in an environment variable.
func format(v any) string {
	switch v := v.(type) {
	case []string:
		return strings.Join(v, ",")
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case time.Duration:
		return formatDuration(v)
	}
	return fmt.Sprint(v)
}

// formatDuration leaves out the zeros that [time.Duration.String] appends: 5m, not 5m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
