package flyconfig

import "testing"

// What an image has is told only where it is certain.
func TestImageHas(t *testing.T) {
	const compile = "FROM golang:1.26 AS build\nRUN go build -o /out/flyproxy ./cmd && go build -o /out/app .\n"
	for name, tc := range map[string]struct {
		dockerfile string
		program    string
		want       verdict
	}{
		"copied":               {compile + "FROM scratch\nCOPY --from=build /out/flyproxy /usr/local/bin/", "flyproxy", present},
		"copied as a name":     {compile + "FROM scratch\nCOPY --from=build /x /usr/local/bin/app", "app", present},
		"another is copied":    {compile + "FROM scratch\nCOPY --from=build /out/flyproxy /usr/local/bin/", "supervisord", absent},
		"a directory":          {compile + "FROM scratch\nCOPY --from=build /out /usr/local/bin/", "app", unknown},
		"a directory above":    {compile + "FROM scratch\nCOPY --from=build /rootfs /", "app", unknown},
		"not on the path":      {compile + "FROM scratch\nCOPY --from=build /out/app /opt/", "app", absent},
		"on a path of its own": {compile + "FROM scratch\nENV PATH=/opt:$PATH\nCOPY --from=build /out/app /opt/", "app", present},
		"by its whole path":    {compile + "FROM scratch\nCOPY --from=build /out/app /opt/", "/opt/app", present},
		"in a list":            {"FROM scratch\nCOPY [\"app\", \"/bin/\"]", "app", present},
		"in the workdir":       {"FROM scratch\nWORKDIR /bin\nCOPY app .", "app", present},
		"installed":            {"FROM debian:12\nRUN apt-get update && \\\n  # why\n  apt-get install -y supervisor", "supervisord", present},
		"not installed":        {"FROM debian:12\nRUN apt-get update && apt-get install -y redis", "supervisord", absent},
		"a script":             {"FROM debian:12\nRUN ./install.sh", "supervisord", unknown},
		"an argument":          {"ARG P=supervisor\nFROM debian:12\nRUN apt-get install -y $P", "supervisord", unknown},
		"another base":         {"FROM example.com/base\nRUN apt-get update", "supervisord", unknown},
		"a base in an ARG":     {"FROM ${BASE}", "flyproxy", unknown},
		"a base's program":     {"FROM debian:12", "sh", unknown},
		"from another stage":   {"FROM debian:12 AS a\nRUN apt-get install -y supervisor\nFROM a AS b", "supervisord", present},
		"here-document":        {"FROM debian:12\nRUN <<EOF\napt-get install -y supervisor\nEOF", "supervisord", unknown},
		"unpacked":             {"FROM scratch\nADD root.tar.gz /", "app", unknown},
	} {
		t.Run(name, func(t *testing.T) {
			if got := images(tc.dockerfile)[""].program(tc.program); got != tc.want {
				t.Errorf("%s: %d, want %d", tc.program, got, tc.want)
			}
		})
	}
}

// So with files, of which packages bring some.
func TestImageHasFile(t *testing.T) {
	for name, tc := range map[string]struct {
		dockerfile, file string
		want             verdict
	}{
		"copied":           {"FROM debian:12\nCOPY supervisord.conf /etc/", "/etc/supervisord.conf", present},
		"copied elsewhere": {"FROM debian:12\nCOPY supervisord.conf /opt/", "/etc/supervisord.conf", absent},
		"renamed":          {"FROM debian:12\nCOPY --chown=0:0 conf/prod.conf /etc/supervisord.conf", "/etc/supervisord.conf", present},
		"in a directory":   {"FROM debian:12\nCOPY etc /etc", "/etc/supervisord.conf", unknown},
		"Alpine's":         {"FROM alpine:3\nRUN apk add supervisor", "/etc/supervisord.conf", unknown},
		"Debian's":         {"FROM debian:12\nRUN apt-get install -y supervisor", "/etc/supervisor/supervisord.conf", unknown},
		"by an argument":   {"FROM debian:12\nARG TO\nCOPY supervisord.conf $TO", "/etc/supervisord.conf", unknown},
	} {
		t.Run(name, func(t *testing.T) {
			if got := images(tc.dockerfile)[""].file(tc.file); got != tc.want {
				t.Errorf("%s: %d, want %d", tc.file, got, tc.want)
			}
		})
	}
}
