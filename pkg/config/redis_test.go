package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/config"
)

func TestRedisLayers(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		env        []string
		want       string // seeds user:password/db tls mode
		warnings   []string
	}{
		{name: "host and port", env: []string{"REDIS_HOST=h", "REDIS_PORT=1", "REDIS_PASSWORD=p"}, want: "h:1 :p/0 false standalone"},
		{name: "an IPv6 host", env: []string{"REDIS_HOST=[fdaa::9]"}, want: "[fdaa::9]:6379 :/0 false standalone"},
		{name: "URL", env: []string{"REDIS_URL=rediss://u:p%40%2F@h:1/3"}, want: "h:1 u:p@//3 true standalone"},
		{name: "URL with defaults", env: []string{"REDIS_URL=redis://h"}, want: "h:6379 :/0 false standalone"},
		{name: "URL for clients that need a hint", env: []string{"REDIS_URL=redis://[fdaa::9]:1?family=6"}, want: "[fdaa::9]:1 :/0 false standalone"},
		{
			name: "REDIS_URL beats REDIS_HOST and its kin",
			env:  []string{"REDIS_URL=redis://a:x@h:1", "REDIS_HOST=other", "REDIS_PORT=1", "REDIS_USERNAME=b", "REDIS_PASSWORD=y"},
			want: "h:1 a:x/0 false standalone",
			warnings: []string{
				"REDIS_HOST: registry.redis.host: not used: REDIS_URL is set too, says otherwise, and wins",
				"REDIS_USERNAME: registry.redis.username: not used: REDIS_URL is set too, says otherwise, and wins",
				"REDIS_PASSWORD: registry.redis.password: not used: REDIS_URL is set too, says otherwise, and wins",
			},
		},
		{
			name: "a URL without a password is without one",
			env:  []string{"REDIS_URL=redis://h", "REDIS_PASSWORD=y"}, want: "h:6379 :/0 false standalone",
			warnings: []string{"REDIS_PASSWORD: registry.redis.password: not used: REDIS_URL is set too, says otherwise, and wins"},
		},
		{name: "they agree", env: []string{"REDIS_URL=redis://:p@h", "REDIS_HOST=h", "REDIS_PASSWORD=p"}, want: "h:6379 :p/0 false standalone"},
		{
			name: "shared names beat the file", file: "registry: {redis: {host: file, port: 7, db: 2}}",
			env: []string{"REDIS_HOST=h"}, want: "h:7 :/2 false standalone",
		},
		{
			name: "REDIS_URL beats the URL of the file", file: "registry: {redis: {url: 'redis://file:7/2'}}",
			env: []string{"REDIS_URL=redis://h"}, want: "h:6379 :/0 false standalone",
		},
		{
			name: "a password beside the file's URL", file: "registry: {redis: {url: 'redis://u@file:7/2'}}",
			env: []string{"REDIS_PASSWORD=p"}, want: "file:7 u:p/2 false standalone",
		},
		{
			name: "they lose to FLYPROXY_",
			env:  []string{"FLYPROXY_REGISTRY_REDIS_URL=redis://ours:1", "REDIS_URL=redis://h", "REDIS_HOST=h", "REDIS_PASSWORD=p"},
			want: "ours:1 :/0 false standalone",
		},
		{
			name: "a FLYPROXY_ part beats REDIS_URL",
			env:  []string{"FLYPROXY_REGISTRY_REDIS_PASSWORD=new", "REDIS_URL=redis://u:old@h/4"}, want: "h:6379 u:new/4 false standalone",
		},
		{
			name: "encryption is not lost without a word", file: "registry: {redis: {tls: true}}",
			env: []string{"REDIS_URL=redis://h"}, want: "h:6379 :/0 false standalone",
			warnings: []string{"flyproxy.yaml:1: registry.redis.tls: not used: REDIS_URL says redis://, which is without TLS"},
		},
		{
			name: "TLS settings without TLS", file: "registry: {redis: {ca_file: /ca.pem, server_name: n}}",
			env: []string{"REDIS_HOST=h"}, want: "h:6379 :/0 false standalone",
			warnings: []string{
				"flyproxy.yaml:1: registry.redis.ca_file: not used: TLS is off (registry.redis.tls, or a rediss:// URL)",
				"flyproxy.yaml:1: registry.redis.server_name: not used: TLS is off (registry.redis.tls, or a rediss:// URL)",
			},
		},
		{name: "cluster", file: "registry: {redis: {addresses: ['a:1', 'b:2']}}", want: "a:1,b:2 :/0 false cluster"},
		{
			name: "cluster of one", file: "registry: {redis: {addresses: ['a:1'], mode: cluster}}", env: []string{"REDIS_PASSWORD=p"},
			want: "a:1 :p/0 false cluster",
		},
		{
			name: "sentinel", file: "registry: {redis: {addresses: ['a:1', 'b:2'], db: 3, sentinel: {master: m}}}",
			want: "a:1,b:2 :/3 false sentinel",
		},
		{
			name: "a host of a higher layer beats addresses", file: "registry: {redis: {addresses: ['a:1', 'b:2']}}",
			env: []string{"REDIS_HOST=h"}, want: "h:6379 :/0 false standalone",
			warnings: []string{"flyproxy.yaml:1: registry.redis.addresses: not used: REDIS_HOST names a host, and wins"},
		},
		{
			name: "a URL beats addresses beside it", file: "registry: {redis: {addresses: ['a:1', 'b:2'], url: 'redis://h'}}",
			want:     "h:6379 :/0 false standalone",
			warnings: []string{"flyproxy.yaml:1: registry.redis.addresses: not used: flyproxy.yaml:1 names a host, and wins"},
		},
		{
			name: "addresses beat a host beside them", file: "registry: {redis: {addresses: ['a:1'],\n  host: h}}",
			want:     "a:1 :/0 false standalone",
			warnings: []string{"flyproxy.yaml:2: registry.redis.host: not used: flyproxy.yaml:1 names addresses, and wins"},
		},
		{
			name: "addresses of a higher layer beat a URL, whose password stays",
			env:  []string{"FLYPROXY_REGISTRY_REDIS_ADDRESSES=a:1", "REDIS_URL=redis://:p@h"}, want: "a:1 :p/0 false standalone",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := mustLoad(t, tt.file, append(tt.env, "FLYPROXY_SERVICE=s")...)
			r := cfg.Registry.Redis
			got := fmt.Sprintf("%s %s:%s/%d %t %s", strings.Join(r.Seeds(), ","), r.Username, r.Password, r.DB, r.TLS, r.Mode)
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			var warnings []string
			for _, w := range cfg.Warnings {
				warnings = append(warnings, w.String())
			}
			wantLines(t, warnings, tt.warnings)
		})
	}
}

func TestRedisURLFaults(t *testing.T) {
	const form = "write redis://[user[:password]@]host[:port][/db], rediss:// for TLS"
	for _, tt := range []struct{ url, want string }{
		{"http://u:hunter2@h", `"http://u:********@h": not a Redis URL; ` + form},
		{"h:6379", `"********": not a Redis URL; ` + form},
		{"redis://", `"********": the URL names no host; ` + form},
		{
			"redis://u:hunter2/x@h:1",
			`"********": not a URL; ` + form + "; in a password, / ? # % @ : are written %2F %3F %23 %25 %40 %3A",
		},
		{"redis://u:1/hunter2@h:1", `"********": the URL's path is not the number of a database; ` + form},
		{"redis://u:1#hunter2@h:1", `"********": the URL has a # part; ` + form + "; in a password, # is written %23"},
		{
			"redis://h:1?password=hunter2",
			`"redis://h:1?…": the URL has parameters; ` + form + "; what they say has keys of its own below registry.redis",
		},
		{"redis://u:hunter2@h:0", `"redis://u:********@h:0": the URL's port is not one from 1 to 65535; ` + form},
		{"redis://hunter2@h/x", `"redis://********@h/x": the URL's path is not the number of a database; ` + form},
	} {
		got := faults(t, "", "FLYPROXY_SERVICE=s", "REDIS_URL="+tt.url)
		wantLines(t, got, []string{"REDIS_URL: registry.redis.url = " + tt.want})
	}
}

// Wherever a secret is put, rightly or wrongly, nothing that is shown has it.
func TestSecretsAreNeverShown(t *testing.T) {
	const secret = "hunter2"
	for _, tt := range []struct {
		file string
		env  []string
	}{
		{env: []string{"REDIS_URL=redis://u:hunter2@h"}},
		{env: []string{"REDIS_URL=redis://u:x@h", "REDIS_PASSWORD=hunter2"}},
		{env: []string{"REDIS_URL=redis://hunter2@h"}},
		{env: []string{"REDIS_URL=redis://u:a/hunter2@h"}},
		{env: []string{"REDIS_URL=redis://u:a#hunter2@h"}},
		{env: []string{"REDIS_URL=redis://u:a?hunter2@h"}},
		{env: []string{"REDIS_URL=redis://u:%zzhunter2@h"}},
		{env: []string{"REDIS_URL=u:hunter2@h"}},
		{env: []string{"REDIS_URL=hunter2"}},
		{env: []string{"REDIS_HOST=redis://u:hunter2@h"}},
		{env: []string{"REDIS_HOST=h", "REDIS_PORT=redis://u:hunter2@h"}},
		{env: []string{"FLYPROXY_REGISTRY_REDIS_ADDRESSES=redis://u:hunter2@h:1"}},
		{env: []string{"REDIS_HOST=h", "FLYPROXY_REGISTRY_REDIS_PASWORD=hunter2"}},
		{env: []string{"REDIS_HOST=h", "FLYPROXY_REGISTRY_SIGNING_KEY=hunter2", "FLYPROXY_REGISTRY_REDIS_SENTINEL_PASSWORD=hunter2"}},
		{file: "registry: {redis: {pasword: hunter2}}"},
		{file: "registry: {redis: {password: *hunter2}}"},
		{file: "registry: {redis: {password: [hunter2]}}"},
		{file: "registry: {redis: 'redis://:hunter2@h'}"},
		{file: "registry: 'redis://:hunter2@h'"},
		{file: "'redis://:hunter2@h'"},
		{file: "registry:\n  redis:\n    password: \"hunter2\n"},
		{file: "registry:\n  redis:\n    password: %hunter2\n"},
		{file: "registry:\n  redis:\n    password: @hunter2\n"},
		{file: "registry:\n  redis:\n    password: !hunter2 x\n"},
		{file: "registry:\n  redis:\n    password: hunter1: hunter2\n"},
	} {
		var shown strings.Builder
		cfg, err := load(tt.file, append(tt.env, "FLYPROXY_SERVICE=s")...)
		if err != nil {
			shown.WriteString(err.Error())
		} else if err := cfg.Print(&shown); err != nil {
			t.Fatal(err)
		}
		if err := config.WriteCheck(&shown, cfg, err); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(shown.String(), secret) {
			t.Errorf("%q %q shows\n%s", tt.file, tt.env, shown.String())
		}
	}
}
