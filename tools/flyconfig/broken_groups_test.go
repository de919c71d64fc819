package flyconfig_test

// brokenGroups are groups whose checks or commands cannot work, and what a check cannot ask.
var brokenGroups = []edit{
	{old: `app = "supervisord -c /etc/supervisord.conf"`, new: `app = "app"`, want: `checks.ready: port 9052 is flyproxy's, and group app starts app without it: the check never passes; start the app with flyproxy in front, as in app = "flyproxy run -- app"`, at: "[checks.ready]"},
	{old: `app = "supervisord -c /etc/supervisord.conf"`, new: `app = "/usr/local/bin/app -v"`, want: `metrics[0]: port 9052 is flyproxy's, and group app starts /usr/local/bin/app without it: nothing is scraped`, at: "[[metrics]]"},
	{old: `flyproxy serve --mode gateway`, new: `flyproxy serve`, want: `processes.gateway: group gateway starts a sidecar and no app: it registers none, and listens on localhost:50052, where no other Machine reaches it; write "flyproxy serve --mode gateway"`},
	{old: `flyproxy serve --mode gateway`, new: `flyproxy`, want: `processes.gateway: group gateway starts a sidecar and no app`},
	{old: `app = "supervisord -c /etc/supervisord.conf"`, new: `app = "flyproxy serve --mode sidecar"`, want: `processes.app: group app starts a sidecar and no app`},
	{old: `primary_region = "ams"`, new: `primary_region = "amsterdam"`, want: `primary_region: "amsterdam" is no region; write a code of three letters`},
	{old: `primary_region = "ams"`, new: `primary_region = "AMS"`, want: `primary_region: "AMS" is no region`},
	{old: `timeout = "2s"`, new: `timeout = "20s"`, want: `checks.ready.timeout: 20s is longer than the interval of 15s; write at most "15s"`},
	{old: `path = "/ready"`, new: "path = \"/ready\"\n  method = \"POST\"", want: "checks.ready.method: flyproxy answers /ready with GET and HEAD only, not with POST; write GET", at: "method"},
	{old: `path = "/ready"`, new: "path = \"/ready\"\n  protocol = \"https\"", want: "checks.ready.protocol: flyproxy's admin listener speaks no TLS; write http", at: "protocol"},
}
