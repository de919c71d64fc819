package flyconfig_test

// brokenImages are edits after which the image does not have what a group starts.
var brokenImages = []edit{
	{old: `build-target = "app"`, new: `build-target = "flyproxy"`, want: `build.build-target: target "flyproxy" has no supervisord, which group app starts; write build-target = "app"`},
	{old: `build-target = "app"`, new: ``, want: `build.build-target: target "flyproxy" has no supervisord, which group app starts; write build-target = "app"`, at: "[build]"},
	{old: `supervisord -c /etc/supervisord.conf`, new: `supervisord -c /etc/other.conf`, want: `processes.app: target "app" has no /etc/other.conf; write /etc/supervisord.conf`},
	{old: `supervisord -c /etc/supervisord.conf`, new: `supervisord --configuration=/etc/supervise.conf`, want: `processes.app: target "app" has no /etc/supervise.conf`},
	{old: `supervisord -c /etc/supervisord.conf`, new: `/opt/bin/flyproxy run -- app`, want: `processes.app: target "app" has no /opt/bin/flyproxy; copy or install it`},
}

// brokenContainerImages are edits of the file that names containers.
var brokenContainerImages = []edit{
	{old: `build-target = "app"`, new: `build-target = "flyproxy"`, want: `build.build-target: target "flyproxy" has no app, which container app starts; write build-target = "app"`},
	{old: `build-target = "app"`, new: ``, want: `has no app, which container app starts`, at: "[build]"},
}
