package redis_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/registry/redis"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string]redis.Config{
		"redis://localhost":                   {Addresses: []string{"localhost:6379"}},
		"redis://:pw@host:6380/":              {Addresses: []string{"host:6380"}, Password: "pw"},
		"redis://u:p%40w%2F@[fdaa::3]:6380/5": {Addresses: []string{"[fdaa::3]:6380"}, Username: "u", Password: "p@w/", DB: 5},
		"rediss://default:pw@fly.example":     {Addresses: []string{"fly.example:6379"}, Username: "default", Password: "pw", TLS: &redis.TLS{}},
	} {
		got, err := redis.ParseURL(in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read as %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", "localhost:6379", "http://host", "redis://", "redis://u:s3cret@host:0", "redis://u:s3cret@host:99999", "redis://u:s3cret@host/x",
		"redis://u:s3cret@host/-1", "redis://u:s3cret/@host", "redis://u:s3cret@host?db=3", "redis://u:s3cret%@host", "redis://u:s3cret@ho st",
	} {
		if got, err := redis.ParseURL(in); err == nil {
			t.Errorf("%q is read as %+v", in, got)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: the error shows the password: %v", in, err)
		}
	}
}
