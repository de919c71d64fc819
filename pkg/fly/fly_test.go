package fly_test

import (
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/fly"
)

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
}

func machine() fly.Environment {
	return fly.Detect(lookup(map[string]string{
		"FLY_APP_NAME": "shop", "FLY_MACHINE_ID": "148e", "FLY_REGION": "fra", "FLY_PRIVATE_IP": "fdaa:0:1::2",
		"FLY_PROCESS_GROUP": "app", "PRIMARY_REGION": "ams", "FLY_IMAGE_REF": "img:1", "FLY_MACHINE_VERSION": "01J", "FLY_VM_MEMORY_MB": "512",
	}))
}

func TestDetect(t *testing.T) {
	want := fly.Environment{
		OnFly: true, App: "shop", MachineID: "148e", Region: "fra", PrivateIP: netip.MustParseAddr("fdaa:0:1::2"),
		ProcessGroup: "app", PrimaryRegion: "ams", ImageRef: "img:1", MachineVersion: "01J", MemoryMB: 512,
	}
	if got := machine(); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := fly.Detect(lookup(nil)); got != (fly.Environment{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestOnFlyNeedsAppAndMachine(t *testing.T) {
	for _, env := range []map[string]string{
		{"FLY_APP_NAME": "shop"},
		{"FLY_MACHINE_ID": "148e"},
		{"FLY_APP_NAME": "shop", "FLY_MACHINE_ID": ""},
		{"FLY_REGION": "fra", "FLY_PRIVATE_IP": "fdaa::1"},
	} {
		e := fly.Detect(lookup(env))
		if e.OnFly {
			t.Errorf("%v counts as Fly", env)
		}
		if !e.Forced(true).OnFly {
			t.Errorf("%v cannot be forced", env)
		}
	}
	if machine().Forced(false).OnFly {
		t.Error("a Machine cannot be forced off Fly")
	}
}

func TestUnreadableValuesAreAbsent(t *testing.T) {
	e := fly.Detect(lookup(map[string]string{"FLY_PRIVATE_IP": "fly-local-6pn", "FLY_VM_MEMORY_MB": "-1"}))
	if e.PrivateIP.IsValid() || e.MemoryMB != 0 {
		t.Errorf("%+v", e)
	}
}

func TestAddress(t *testing.T) {
	place := fly.Place{InstanceID: "i-1", Region: "fra", Host: "10.0.0.7", Port: 50051}
	six := place
	six.Host = "fd00::7"
	for _, tt := range []struct {
		form  string
		place fly.Place
		want  string
	}{
		{fly.PrivateIPForm, place, "[fdaa:0:1::2]:50051"},
		{fly.MachineDNSForm, place, "148e.vm.shop.internal:50051"},
		{fly.HostForm, place, "10.0.0.7:50051"},
		{fly.HostForm, six, "[fd00::7]:50051"},
		{"[{host}]:{port}", six, "[fd00::7]:50051"},
		{"[{private_ip}]:1", place, "[fdaa:0:1::2]:1"},
		{"{instance_id}.internal:{port}", place, "i-1.internal:50051"},
		{"{machine_id}-{region}.{app}.example:{port}", place, "148e-fra.shop.example:50051"},
		{"app.example:7", place, "app.example:7"},
	} {
		if got, err := machine().Address(tt.form, tt.place); err != nil || got != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.form, got, err, tt.want)
		}
	}
}

func TestAddressErrors(t *testing.T) {
	for _, tt := range []struct {
		form string
		env  fly.Environment
		want error
		text string
	}{
		{
			"{machine}:1", machine(), fly.ErrPlaceholder,
			"unknown placeholder {machine}: known are {instance_id}, {machine_id}, {app}, {region}, {private_ip}, {port}, {host}",
		},
		{fly.PrivateIPForm, fly.Environment{}, fly.ErrNoValue, "nothing to put in for {private_ip}: FLY_PRIVATE_IP is not set, or not an IP address"},
		{fly.MachineDNSForm, fly.Environment{}, fly.ErrNoValue, "nothing to put in for {machine_id}: FLY_MACHINE_ID is not set"},
		{"a.{app}:1", fly.Environment{}, fly.ErrNoValue, "nothing to put in for {app}: FLY_APP_NAME is not set"},
		{"{instance_id}:1", machine(), fly.ErrNoValue, "nothing to put in for {instance_id}: the instance has no id"},
		{"{region}:1", machine(), fly.ErrNoValue, "nothing to put in for {region}: the region is not known"},
		{"{host}:1", machine(), fly.ErrNoValue, "nothing to put in for {host}: the host's address is not known"},
		{"a:{port}", machine(), fly.ErrNoValue, "nothing to put in for {port}: the app's port is not known"},
		{"{port:1", machine(), fly.ErrForm, `not host:port: "{port:1" has a { without its }`},
		{"nowhere", machine(), fly.ErrForm, `not host:port: "nowhere"`},
		{":1", machine(), fly.ErrForm, `not host:port: ":1"`},
		{"a:0", machine(), fly.ErrForm, `not host:port: "a:0" has no port from 1 to 65535`},
	} {
		_, err := tt.env.Address(tt.form, fly.Place{})
		if !errors.Is(err, tt.want) || err.Error() != tt.text {
			t.Errorf("%s: %v", tt.form, err)
		}
	}
}

func TestPrivateNetwork(t *testing.T) {
	n := fly.PrivateNetwork()
	if n.String() != "fdaa::/16" || !n.Contains(machine().PrivateIP) || n.Contains(netip.MustParseAddr("fdab::1")) {
		t.Errorf("%v", n)
	}
}

// The distances are those between the airports that name the regions, to within 1 %.
func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		km   float64
	}{
		{"fra", "ams", 366}, {"lhr", "ewr", 5563}, {"nrt", "syd", 7819}, {"gru", "jnb", 7432}, {"lax", "nrt", 8750}, {"sin", "bom", 3907},
	} {
		there, ok := fly.Distance(tt.a, tt.b)
		back, okBack := fly.Distance(strings.ToUpper(tt.b), tt.a)
		if !ok || !okBack || math.Abs(there-tt.km) > tt.km/100 || there != back {
			t.Errorf("%s to %s: %.0f km and back %.0f km, want about %.0f", tt.a, tt.b, there, back, tt.km)
		}
	}
	for _, tt := range []struct {
		a, b  string
		known bool
	}{{"fra", "fra", true}, {"hkg", "hkg", true}, {"fra", "hkg", false}, {"hkg", "fra", false}, {"", "", false}, {"", "fra", false}} {
		if km, known := fly.Distance(tt.a, tt.b); known != tt.known || km != 0 {
			t.Errorf("%q to %q: %v, %v", tt.a, tt.b, km, known)
		}
	}
}

func TestEveryRegionIsKnown(t *testing.T) {
	for code := range strings.FieldsSeq("ams arn bom cdg dfw ewr fra gru iad jnb lax lhr nrt ord sin sjc syd yyz") {
		km, known := fly.Distance(code, "ams")
		if !known || (km == 0) != (code == "ams") || km > 20_016 { // half the way round the Earth
			t.Errorf("%s is %v km from ams, known %v", code, km, known)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	for _, tt := range []struct {
		mb    int
		share float64
		want  int64
	}{
		{256, 0.25, 64 << 20}, {512, 1, 512 << 20}, {512, 2, 512 << 20}, {0, 0.25, math.MaxInt64}, {512, 0, math.MaxInt64},
		{512, -1, math.MaxInt64}, {512, math.NaN(), math.MaxInt64}, {math.MaxInt, 1, math.MaxInt64},
	} {
		if got := fly.MemoryLimit(tt.mb, tt.share); got != tt.want {
			t.Errorf("%d MB × %v: %d, want %d", tt.mb, tt.share, got, tt.want)
		}
	}
}
