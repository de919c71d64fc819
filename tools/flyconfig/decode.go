package flyconfig

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// single are sections that Fly also takes as one table where its types have a list of them.
var single = regexp.MustCompile(`(?m)^([ \t]*)\[[ \t]*(metrics|vm|mounts|services)[ \t]*\]`)

// decode reads fly.toml strictly. Where it cannot be read, or has keys that Fly does not know, the report says so.
func decode(data []byte, r *report) *File {
	data = single.ReplaceAll(data, []byte("$1[[$2]]"))
	r.line = newLines(data).of
	var f File
	d := toml.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(&f)
	var unknown *toml.StrictMissingError
	var broken *toml.DecodeError
	switch {
	case err == nil:
		return &f
	case errors.As(err, &unknown):
		for _, e := range unknown.Errors {
			row, _ := e.Position()
			r.faults = append(r.faults, Fault{
				File: r.file, Line: row, Key: strings.Join(e.Key(), "."), Problem: "unknown key, which Fly ignores",
				Fix: suggest(e.Key()),
			})
		}
	case errors.As(err, &broken):
		row, _ := broken.Position()
		r.faults = append(r.faults, r.undecodable(row, strings.TrimPrefix(broken.Error(), "toml: ")))
		return nil
	default:
		r.fault("", "see https://toml.io", "%v", err)
		return nil
	}
	// The rest is checked all the same, so that everything is said at once.
	f = File{}
	if err := toml.Unmarshal(data, &f); err != nil {
		return nil // said already
	}
	return &f
}

// mismatch is what the decoder says of a value of a wrong type.
var mismatch = regexp.MustCompile(`cannot decode TOML (\w+) into struct field \S+ of type (\S+)`)

// undecodable makes a fault of what the decoder says of a line.
func (r *report) undecodable(line int, text string) Fault {
	f := Fault{File: r.file, Line: line, Problem: text, Fix: `it has to be TOML (https://toml.io): text stands in "quotes"`}
	if m := mismatch.FindStringSubmatch(text); m != nil {
		f.Problem, f.Fix = "a "+m[1]+" is not accepted", "write "+kindName(m[2])
	}
	return f
}

// kindName says for people what a Go type is.
func kindName(goType string) string {
	t := strings.TrimLeft(goType, "*")
	switch {
	case strings.HasPrefix(t, "int"), strings.HasPrefix(t, "uint"), strings.HasPrefix(t, "float"):
		return "a number, without quotes"
	case t == "bool":
		return "true or false, without quotes"
	case t == "string":
		return `text in "quotes"`
	case strings.HasPrefix(t, "[]"):
		return `a list, such as ["app"]`
	}
	return "a table"
}

// suggest says which key may have been meant.
func suggest(key toml.Key) string {
	return suggestOf(reflect.TypeFor[File](), "toml", key)
}

// suggestOf is suggest for a document that is decoded into t by the struct tag with that name.
func suggestOf(t reflect.Type, tag string, key []string) string {
	last := key[0]
	names := keysAt(t, tag, nil)
	for i := 1; i < len(key); i++ { // up to the first part that is unknown
		next := keysAt(t, tag, key[:i])
		if len(next) == 0 && !slices.Contains(names, last) {
			break
		}
		names, last = next, key[i]
	}
	best, most := "", 2 // letters that a typing error may change
	for _, name := range names {
		if d := distance(last, name); d <= most {
			best, most = name, d-1
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf("did you mean %s?", best)
	case len(names) > 0:
		return "known are " + strings.Join(names, ", ")
	}
	return "remove it"
}

// keysAt are the keys of the table with that path.
func keysAt(t reflect.Type, tag string, path []string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Map && len(path) > 0:
		return keysAt(t.Elem(), tag, path[1:])
	case t.Kind() != reflect.Struct:
		return nil
	}
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get(tag), ",")
		if len(path) > 0 && name == path[0] {
			return keysAt(t.Field(i).Type, tag, path[1:])
		}
		if name != "" {
			names = append(names, name)
		}
	}
	if len(path) > 0 {
		return nil // of a table that is itself unknown
	}
	return names
}

// distance is the number of letters to change, add or remove (Levenshtein's).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
