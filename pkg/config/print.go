package config

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Print writes every key in the order of the file: its value in force and where that comes from, in columns. Secrets are masked.
func (c *Config) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tVALUE\tFROM")
	c.print(t, schema(), reflect.ValueOf(c).Elem(), "")
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the configuration: %w", err)
	}
	return nil
}

func (c *Config) print(w io.Writer, f *field, v reflect.Value, path string) {
	for _, child := range f.fields {
		value := fieldByKey(v, child.name)
		at := join(path, child.name)
		switch {
		case child.kind == group:
			c.print(w, child, value, at)
		case child.kind == items && value.Len() > 0:
			for i := range value.Len() {
				c.print(w, child, value.Index(i), at+"["+strconv.Itoa(i)+"]")
			}
		default:
			source := c.Source(at)
			if source == "" {
				source = "default"
			}
			shown := printable(child, value.Interface())
			if at == redisKeys+"username" && c.Registry.Redis.userAlone(c.origins) {
				shown = mask
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", at, shown, source)
		}
	}
}

// printable is a value for people: nothing is a dash, and what could break the columns is quoted.
func printable(f *field, v any) string {
	if reflect.ValueOf(v).IsZero() && (f.kind == text || f.kind == texts || f.kind == items) {
		return "-"
	}
	s := format(v)
	switch {
	case f.kind == items || s == "":
		return "-"
	case f.secret != "":
		return show(f, s)
	}
	if quoted := strconv.Quote(s); quoted != `"`+s+`"` {
		return quoted
	}
	return s
}

// fieldByKey is the struct's field with that key.
func fieldByKey(v reflect.Value, name string) reflect.Value {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("key") == name {
			return v.Field(i)
		}
	}
	panic("config: no field for key " + name)
}

// fieldAt is the value of the key with that path, which leads through groups only.
func fieldAt(c *Config, path string) any {
	v := reflect.ValueOf(c).Elem()
	for name := range strings.SplitSeq(path, ".") {
		v = fieldByKey(v, name)
	}
	return v.Interface()
}

// WriteCheck writes what Load found for people: that all is good, or every fault, and the warnings either way. It takes both
// results of Load.
func WriteCheck(w io.Writer, c *Config, loadErr error) error {
	var text strings.Builder
	var warnings []Warning
	var faulty *Error
	switch {
	case errors.As(loadErr, &faulty):
		warnings = faulty.Warnings
		text.WriteString(faulty.Error() + "\n")
	case loadErr != nil:
		text.WriteString(loadErr.Error() + "\n")
	default:
		from := "no file, the environment"
		if c.File != "" {
			from = c.File + ", the environment"
		}
		warnings = c.Warnings
		text.WriteString("The configuration is good (" + from + ").\n")
	}
	for _, warning := range warnings {
		text.WriteString("  warning: " + warning.String() + "\n")
	}
	if _, err := io.WriteString(w, text.String()); err != nil {
		return fmt.Errorf("write the check of the configuration: %w", err)
	}
	return nil
}

// PrintKeys writes every key, the variable that sets it, its default and what it is, in columns.
func PrintKeys(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tVARIABLE\tDEFAULT\tMEANING")
	for _, k := range Keys() {
		def := k.Default
		switch {
		case def == "" && k.Auto != "":
			def = "(" + k.Auto + ")"
		case def == "":
			def = "-"
		case k.Auto != "":
			def += " (" + k.Auto + ")"
		}
		env := k.Env
		if env == "" {
			env = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", k.Path, env, def, k.Usage)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the keys: %w", err)
	}
	return nil
}
