package config

import (
	"reflect"
	"strings"
	"time"
)

// kind is how a key's value is written and read.
type kind uint8

const (
	group kind = iota // keys below it
	items             // a list of groups
	text
	flag
	integer
	number
	duration
	size
	texts // a list of text
)

// String says it for people.
func (k kind) String() string {
	switch k {
	case items:
		return "list of objects"
	case text:
		return "text"
	case flag:
		return "true or false"
	case integer, number:
		return "number"
	case duration:
		return "duration"
	case size:
		return "size"
	case texts:
		return "list of text"
	}
	return "group"
}

// field is one key, as its struct tag describes it.
type field struct {
	name string
	// path is the whole key; an item of a list is written apps[].
	path string
	kind kind
	typ  reflect.Type

	def        string
	hasDefault bool
	auto       string
	oneof      []string
	alias      string
	min, max   string
	form       string
	need       bool
	secret     string
	usage      string

	// fields are the keys of a group, or of one item of a list.
	fields []*field
}

// schema derives the table of keys from the structs. It is made anew on each call, so nobody can change it for others.
func schema() *field {
	root := &field{kind: group, typ: reflect.TypeFor[Config]()}
	root.fields = fieldsOf(root.typ, "")
	return root
}

func fieldsOf(t reflect.Type, prefix string) []*field {
	var all []*field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, ok := sf.Tag.Lookup("key")
		if !ok {
			continue
		}
		all = append(all, newField(sf, name, prefix))
	}
	return all
}

func newField(sf reflect.StructField, name, prefix string) *field {
	f := &field{
		name: name, path: prefix + name, typ: sf.Type,
		auto: sf.Tag.Get("auto"), min: sf.Tag.Get("min"), max: sf.Tag.Get("max"), form: sf.Tag.Get("form"),
		need: sf.Tag.Get("need") != "", secret: sf.Tag.Get("secret"), usage: sf.Tag.Get("usage"),
		alias: sf.Tag.Get("alias"), oneof: list(sf.Tag.Get("oneof"), "|"),
	}
	f.def, f.hasDefault = sf.Tag.Lookup("default")
	switch sf.Type {
	case reflect.TypeFor[time.Duration]():
		f.kind = duration
		return f
	case reflect.TypeFor[Size]():
		f.kind = size
		return f
	}
	switch sf.Type.Kind() {
	case reflect.Struct:
		f.kind, f.fields = group, fieldsOf(sf.Type, f.path+".")
	case reflect.Slice:
		f.kind = texts
		if sf.Type.Elem().Kind() == reflect.Struct {
			f.kind, f.fields = items, fieldsOf(sf.Type.Elem(), f.path+"[].")
		}
	case reflect.String:
		f.kind = text
	case reflect.Bool:
		f.kind = flag
	case reflect.Int:
		f.kind = integer
	case reflect.Float64:
		f.kind = number
	default:
		panic("config: no kind for the type of " + f.path)
	}
	return f
}

// list splits s; an empty s is an empty list.
func list(s, sep string) []string {
	if s == "" {
		return nil
	}
	parts := strings.Split(s, sep)
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// env is the name of the environment variable that sets the key; keys below a list have none.
func (f *field) env() string {
	return "FLYPROXY_" + strings.ToUpper(strings.ReplaceAll(f.path, ".", "_"))
}

// child finds a key of a group or of an item.
func (f *field) child(name string) *field {
	for _, c := range f.fields {
		if c.name == name {
			return c
		}
	}
	return nil
}

// leaves are all keys that have a value of their own, lists of objects included and what is below them not, in the order of
// the file.
func (f *field) leaves() []*field {
	var all []*field
	for _, c := range f.fields {
		if c.kind == group {
			all = append(all, c.leaves()...)
		} else {
			all = append(all, c)
		}
	}
	return all
}

// every is every key, groups and keys of list items included.
func (f *field) every() []*field {
	var all []*field
	for _, c := range f.fields {
		all = append(append(all, c), c.every()...)
	}
	return all
}

// A sharedName is a variable that other programs use too, and the key that it sets.
type sharedName struct{ variable, path string }

func sharedNames() []sharedName {
	return []sharedName{
		{"REDIS_URL", "registry.redis.url"},
		{"REDIS_HOST", "registry.redis.host"},
		{"REDIS_PORT", "registry.redis.port"},
		{"REDIS_USERNAME", "registry.redis.username"},
		{"REDIS_PASSWORD", "registry.redis.password"},
	}
}

// A Key describes one key of the configuration.
type Key struct {
	// Path is the key as in the file, its parts joined by dots; a key of a list's items has [] after the list's name.
	Path string
	// Env is the environment variable that sets it; empty for the keys of a list's items, which are set with their list.
	Env string
	// Default is the value where nothing is said, in the form of an environment variable.
	Default string
	// Auto says in words where the default comes from when it depends on the surroundings.
	Auto string
	// OneOf are the accepted values where they are few.
	OneOf []string
	// Aliases are other names of those, in the same order; empty where there are none.
	Aliases []string
	// Min and Max bound the value, in the form of an environment variable; empty where there is no bound.
	Min, Max string
	// Kind says in words what a value is: text, list of text, number, true or false, duration, size, list of objects.
	Kind string
	// Shared are the variables that other programs use too and that set this key, such as REDIS_URL.
	Shared []string
	Secret bool
	// Needed tells that an item of a list must have the key.
	Needed bool
	Usage  string
	// List tells that the value is a list of objects: YAML or JSON in the environment variable.
	List bool
}

// Keys lists every key that has a value, in the order of the file.
func Keys() []Key {
	var all []Key
	for _, f := range schema().every() {
		if f.kind == group {
			continue
		}
		k := Key{
			Path: f.path, Default: f.def, Auto: f.auto, OneOf: f.oneof, Secret: f.secret != "", Usage: f.usage,
			List: f.kind == items, Kind: f.kind.String(), Min: f.min, Max: f.max, Needed: f.need,
		}
		for _, v := range f.oneof {
			if f.alias != "" {
				k.Aliases = append(k.Aliases, camel(v)+f.alias)
			}
		}
		for _, n := range sharedNames() {
			if n.path == f.path {
				k.Shared = append(k.Shared, n.variable)
			}
		}
		if !strings.Contains(f.path, "[]") {
			k.Env = f.env()
		}
		all = append(all, k)
	}
	return all
}
