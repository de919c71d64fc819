package api

import (
	"reflect"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// same is written out by hand; a field that the record gains must not be forgotten there.
func TestEveryFieldMakesADifference(t *testing.T) {
	fields := reflect.TypeFor[registry.Instance]()
	for i := range fields.NumField() {
		var a, b registry.Entry
		f := reflect.ValueOf(&b.Instance).Elem().Field(i)
		switch f.Interface().(type) {
		case time.Time:
			f.Set(reflect.ValueOf(time.Unix(1, 0)))
		case map[string]string:
			f.Set(reflect.ValueOf(map[string]string{"a": "b"}))
		case []string:
			f.Set(reflect.ValueOf([]string{"a"}))
		default:
			switch f.Kind() {
			case reflect.String:
				f.SetString("x")
			case reflect.Bool:
				f.SetBool(true)
			case reflect.Int:
				f.SetInt(1)
			case reflect.Uint32, reflect.Uint64:
				f.SetUint(1)
			default:
				t.Fatalf("field %s has a type that this test does not know: teach it, and same", fields.Field(i).Name)
			}
		}
		if same(&a, &b) {
			t.Errorf("two entries that differ in %s are taken for the same", fields.Field(i).Name)
		}
		c := b
		if !same(&b, &c) {
			t.Errorf("two entries with the same %s are taken for different", fields.Field(i).Name)
		}
	}
	if same(&registry.Entry{Held: true}, &registry.Entry{}) {
		t.Error("two entries that differ in Held are taken for the same")
	}
}
