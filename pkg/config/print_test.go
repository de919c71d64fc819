package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/config"
)

func TestPrint(t *testing.T) {
	cfg := mustLoad(t, "drain: {timeout: 2m}\nregistration:\n  labels:\n  - {name: a.b, value: \"two words\\tand a tab\"}\n",
		flyEnv("FLYPROXY_INSTANCE_ID=i", "REDIS_URL=rediss://u:hunter2@h:1/2", "FLYPROXY_REGISTRY_SIGNING_KEY=k", "GRPC_PORT=6000")...)
	var b strings.Builder
	if err := cfg.Print(&b); err != nil {
		t.Fatal(err)
	}
	const want = `
KEY                                VALUE                         FROM
mode                               sidecar                       default
listen                             localhost:50052               default
listen_socket_mode                 0660                          default
engine                             relay                         default
service                            shop                          FLY_APP_NAME
instance_id                        i                             FLYPROXY_INSTANCE_ID
region                             fra                           FLY_REGION
apps[0].name                       app                           default
apps[0].address                    127.0.0.1:6000                GRPC_PORT
apps[0].service                    shop                          FLY_APP_NAME
apps[0].weight                     100                           default
apps[0].inbound                    auto                          default
apps[0].grpc_services              -                             default
apps[0].health.service             -                             default
apps[0].health.mode                auto                          default
apps[0].health.interval            2s                            default
apps[0].health.timeout             1s                            default
apps[0].health.rise                1                             default
apps[0].health.fall                3                             default
registration.enabled               true                          default
registration.address               auto                          default
registration.is_fly                auto                          default
registration.interval              5s                            default
registration.lease                 15s                           default
registration.weight                100                           default
registration.process_group         app                           FLY_PROCESS_GROUP
registration.app_version           img:1                         FLY_IMAGE_REF
registration.labels[0].name        a.b                           flyproxy.yaml:4
registration.labels[0].value       "two words\tand a tab"        flyproxy.yaml:4
registry.store                     redis                         default (auto)
registry.namespace                 default                       default
registry.allowed_networks          fdaa::/16                     default on Fly
registry.signing_key               ********                      FLYPROXY_REGISTRY_SIGNING_KEY
registry.max_record_bytes          64KiB                         default
registry.redis.url                 rediss://u:********@h:1/2     REDIS_URL
registry.redis.mode                standalone                    default (auto)
registry.redis.addresses           -                             default
registry.redis.host                h                             REDIS_URL
registry.redis.port                1                             REDIS_URL
registry.redis.username            u                             REDIS_URL
registry.redis.password            ********                      REDIS_URL
registry.redis.db                  2                             REDIS_URL
registry.redis.tls                 true                          REDIS_URL
`
	head, _, _ := strings.Cut(b.String(), "registry.redis.ca_file")
	wantLines(t, columns(head), columns(strings.TrimPrefix(want, "\n")))
	if !strings.Contains(b.String(), "drain.timeout                      2m                         flyproxy.yaml:1\n") {
		t.Errorf("the columns are not aligned, or drain.timeout is not there:\n%s", b.String())
	}
}

// columns makes each line's columns comparable without their widths.
func columns(s string) []string {
	var all []string
	for line := range strings.Lines(s) {
		all = append(all, strings.Join(strings.Fields(line), " "))
	}
	return all
}

func TestWriteCheck(t *testing.T) {
	check := func(file string, env ...string) string {
		cfg, err := load(file, env...)
		var b strings.Builder
		if err := config.WriteCheck(&b, cfg, err); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for _, tt := range []struct {
		file string
		env  []string
		want string
	}{
		{"", good(), "The configuration is good (no file, the environment).\n"},
		{
			"log: {level: warn}", good("REDIS_URL=redis://h"),
			"The configuration is good (flyproxy.yaml, the environment).\n" +
				"  warning: REDIS_HOST: registry.redis.host: not used: REDIS_URL is set too, says otherwise, and wins\n",
		},
		{
			"log: {level: loud}", good("REDIS_URL=redis://h"),
			"1 fault in the configuration:\n" +
				"  flyproxy.yaml:1: log.level = \"loud\": not a value of this key; write debug, info, warn or error\n" +
				"  warning: REDIS_HOST: registry.redis.host: not used: REDIS_URL is set too, says otherwise, and wins\n",
		},
	} {
		if got := check(tt.file, tt.env...); got != tt.want {
			t.Errorf("got\n%s\nwant\n%s", got, tt.want)
		}
	}
}

func TestPrintKeys(t *testing.T) {
	var b strings.Builder
	if err := config.PrintKeys(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != len(config.Keys())+1 {
		t.Errorf("%d lines for %d keys", len(lines), len(config.Keys()))
	}
	for _, line := range lines[1:] {
		if len(strings.Fields(line)) < 4 {
			t.Errorf("a column is missing: %s", line)
		}
	}
}

type brokenWriter struct{}

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestPrintTellsOfABrokenWriter(t *testing.T) {
	cfg := mustLoad(t, "", good()...)
	for name, err := range map[string]error{
		"Print": cfg.Print(brokenWriter{}), "PrintKeys": config.PrintKeys(brokenWriter{}),
		"WriteCheck": config.WriteCheck(brokenWriter{}, cfg, nil),
	} {
		if !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
