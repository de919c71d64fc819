package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

func valid() registry.Instance {
	return registry.Instance{
		Service: "echo", ID: "m1", Incarnation: "one", Schema: registry.SchemaVersion, App: "app", Region: "ams",
		Address: "[fdaa:0:1::2]:50051", GRPCPort: 50051, IsFly: true, Weight: 100, State: registry.Serving,
		StartedAt: time.Unix(1_700_000_000, 0).UTC(),
	}
}

func TestRecordKeepsItsForm(t *testing.T) {
	// Other versions of flyproxy read this: names may be added, never changed.
	const want = `{"service":"echo","id":"m1","incarnation":"one","schema":1,"app":"app","region":"ams",` +
		`"address":"[fdaa:0:1::2]:50051","grpc_port":50051,"is_fly":true,"weight":100,"state":"serving",` +
		`"started_at":"2023-11-14T22:13:20Z"}`
	got, err := (&registry.Codec{}).Encode(valid())
	if err != nil || string(got) != want {
		t.Errorf("the record is\n%s, %v, want\n%s", got, err, want)
	}
	ranked := valid()
	ranked.ClaimedAt = 1_700_000_000_000_001
	got, err = (&registry.Codec{}).Encode(ranked)
	if want := strings.Replace(want, `"one",`, `"one","claimed_at":1700000000000001,`, 1); err != nil || string(got) != want {
		t.Errorf("the record is\n%s, %v, want\n%s", got, err, want)
	}
}

func TestDecodeSaysWhichCheckFailed(t *testing.T) {
	for _, c := range []struct {
		name   string
		field  string
		change func(map[string]any)
		is     error
	}{
		{"no slash in the key", "echo", nil, registry.ErrMalformed},
		{"no service in the key", "/m1", nil, registry.ErrMalformed},
		{"no id in the key", "echo/", nil, registry.ErrMalformed},
		{"another key", "echo/m2", nil, registry.ErrMalformed},
		{"slash in the service", "a/b/c", func(r map[string]any) { r["service"], r["id"] = "a/b", "c" }, registry.ErrMalformed},
		{"no incarnation", "", func(r map[string]any) { delete(r, "incarnation") }, registry.ErrMalformed},
		{"no schema", "", func(r map[string]any) { delete(r, "schema") }, registry.ErrMalformed},
		{"negative schema", "", func(r map[string]any) { r["schema"] = -1 }, registry.ErrMalformed},
		{"no state", "", func(r map[string]any) { delete(r, "state") }, registry.ErrMalformed},
		{"unknown state", "", func(r map[string]any) { r["state"] = "tired" }, registry.ErrMalformed},
		{"negative weight", "", func(r map[string]any) { r["weight"] = -1 }, registry.ErrMalformed},
		{"weight too large for its type", "", func(r map[string]any) { r["weight"] = 1e12 }, registry.ErrMalformed},
		{"number for a name", "", func(r map[string]any) { r["region"] = 5 }, registry.ErrMalformed},
		{"list for labels", "", func(r map[string]any) { r["labels"] = []string{"a"} }, registry.ErrMalformed},
		{"large", "", func(r map[string]any) { r["app"] = strings.Repeat("x", registry.DefaultMaxRecordBytes) }, registry.ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := (&registry.Codec{}).Decode(field(c.field), record(t, c.change))
			if !errors.Is(err, c.is) {
				t.Errorf("the error is %v, want %v", err, c.is)
			}
		})
	}
	for _, raw := range []string{"", "null", "[]", "7", `"x"`, "{", "{}x", "\xff", `{"service":"` + "\xff" + `"}`} {
		if _, err := (&registry.Codec{}).Decode("echo/m1", []byte(raw)); !errors.Is(err, registry.ErrMalformed) {
			t.Errorf("of %q the error is %v", raw, err)
		}
	}
}

func field(s string) string {
	if s == "" {
		return "echo/m1"
	}
	return s
}

func record(t *testing.T, change func(map[string]any)) []byte {
	t.Helper()
	raw, err := json.Marshal(valid())
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]any{}
	if err := json.Unmarshal(raw, &members); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(members)
	}
	if raw, err = json.Marshal(members); err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAddresses(t *testing.T) {
	fly := &registry.Codec{AllowedNetworks: []netip.Prefix{netip.MustParsePrefix("fdaa::/16"), netip.MustParsePrefix("10.0.0.0/8")}}
	anywhere := &registry.Codec{}
	for address, want := range map[string][2]error{ // anywhere, on Fly
		"[fdaa:0:1::2]:50051":          {},
		"10.1.2.3:1":                   {},
		"[::ffff:10.1.2.3]:65535":      {}, // IPv4 in the form of IPv6
		"m1.vm.app.internal:50051":     {}, // a name is checked by who resolves it
		"under_score.app.internal.:1":  {},
		"[fdaa::1%eth0]:50051":         {},
		"192.0.2.1:50051":              {nil, registry.ErrNetwork},
		"[2001:db8::1]:50051":          {nil, registry.ErrNetwork},
		"127.0.0.1:50051":              {nil, registry.ErrNetwork},
		"[::ffff:192.0.2.1]:50051":     {nil, registry.ErrNetwork},
		"":                             {registry.ErrAddress, registry.ErrAddress},
		"10.0.0.1":                     {registry.ErrAddress, registry.ErrAddress},
		"10.0.0.1:":                    {registry.ErrAddress, registry.ErrAddress},
		"10.0.0.1:0":                   {registry.ErrAddress, registry.ErrAddress},
		"10.0.0.1:65536":               {registry.ErrAddress, registry.ErrAddress},
		"10.0.0.1:-1":                  {registry.ErrAddress, registry.ErrAddress},
		"10.0.0.1:+1":                  {registry.ErrAddress, registry.ErrAddress},
		"10.0.0.1:http":                {registry.ErrAddress, registry.ErrAddress},
		"fdaa::1:50051":                {registry.ErrAddress, registry.ErrAddress},
		":50051":                       {registry.ErrAddress, registry.ErrAddress},
		"0.0.0.0:50051":                {registry.ErrAddress, registry.ErrAddress},
		"[::]:50051":                   {registry.ErrAddress, registry.ErrAddress},
		"[::ffff:0.0.0.0]:50051":       {registry.ErrAddress, registry.ErrAddress},
		"224.0.0.1:50051":              {registry.ErrAddress, registry.ErrAddress},
		"255.255.255.255:50051":        {registry.ErrAddress, registry.ErrAddress},
		"[ff02::1]:50051":              {registry.ErrAddress, registry.ErrAddress},
		"[::ffff:224.0.0.1]:50051":     {registry.ErrAddress, registry.ErrAddress},
		"unix:///run/app.sock:1":       {registry.ErrAddress, registry.ErrAddress},
		"a b:1":                        {registry.ErrAddress, registry.ErrAddress},
		"-a:1":                         {registry.ErrAddress, registry.ErrAddress},
		"a..b:1":                       {registry.ErrAddress, registry.ErrAddress},
		".:1":                          {registry.ErrAddress, registry.ErrAddress},
		strings.Repeat("a", 64) + ":1": {registry.ErrAddress, registry.ErrAddress},
		"user@host:1":                  {registry.ErrAddress, registry.ErrAddress},
	} {
		inst := valid()
		inst.Address = address
		for i, codec := range []*registry.Codec{anywhere, fly} {
			if _, err := codec.Encode(inst); !errors.Is(err, want[i]) {
				t.Errorf("%s (networks %v): the error is %v, want %v", address, codec.AllowedNetworks, err, want[i])
			}
		}
	}
}

func TestNewerRecordIsReadAsFarAsUnderstood(t *testing.T) {
	raw := record(t, func(r map[string]any) {
		r["schema"] = 7
		r["colour"] = map[string]any{"deep": []int{1}}
	})
	inst, err := (&registry.Codec{}).Decode("echo/m1", raw)
	if err != nil {
		t.Fatal(err)
	}
	want := valid()
	want.Schema = 7
	if !reflect.DeepEqual(inst, want) {
		t.Errorf("read as %+v", inst)
	}
}

func TestSignatureCoversEveryByte(t *testing.T) {
	codec := &registry.Codec{SigningKey: []byte("key")}
	inst := valid()
	inst.App = "" // its length varies nothing else
	signed, err := codec.Encode(inst)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := codec.Decode("echo/m1", signed); err != nil || !reflect.DeepEqual(got, inst) {
		t.Errorf("its own record is read as %+v, %v", got, err)
	}
	for i := range signed {
		for _, bit := range []byte{1, 0x20} {
			tampered := slices.Clone(signed)
			tampered[i] ^= bit
			if _, err := codec.Decode("echo/m1", tampered); err == nil {
				t.Fatalf("byte %d was changed and the record is taken: %s", i, tampered)
			}
		}
		if _, err := codec.Decode("echo/m1", signed[:i]); err == nil {
			t.Fatalf("the first %d bytes alone are taken", i)
		}
	}
	plain, err := (&registry.Codec{}).Encode(inst)
	if err != nil {
		t.Fatal(err)
	}
	// A record that was signed may not be taken as the beginning of another.
	wrapped := append(append(slices.Clone(signed[:len(signed)-1]), `,"weight":9`...), '}')
	for name, raw := range map[string][]byte{"unsigned": plain, "appended": wrapped, "empty": {}, "only a tail": signed[len(signed)-75:]} {
		if _, err := codec.Decode("echo/m1", raw); !errors.Is(err, registry.ErrSignature) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	if _, err := (&registry.Codec{SigningKey: []byte("other")}).Decode("echo/m1", signed); !errors.Is(err, registry.ErrSignature) {
		t.Errorf("with another key the error is %v", err)
	}
	if _, err := (&registry.Codec{}).Decode("echo/m1", signed); err != nil {
		t.Errorf("without a key a signed record is refused: %v", err)
	}
}

func TestEncodeWritesNothingThatIsRefused(t *testing.T) {
	inst := valid()
	inst.Labels = map[string]string{"x": strings.Repeat("x", 300)}
	if _, err := (&registry.Codec{MaxRecordBytes: 300}).Encode(inst); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("the error is %v", err)
	}
	for name, change := range map[string]func(*registry.Instance){
		"service with a slash": func(i *registry.Instance) { i.Service = "a/b" },
		"service not UTF-8":    func(i *registry.Instance) { i.Service = "\xff" },
		"no id":                func(i *registry.Instance) { i.ID = "" },
		"no incarnation":       func(i *registry.Instance) { i.Incarnation = "" },
		"no state":             func(i *registry.Instance) { i.State = "" },
	} {
		inst := valid()
		change(&inst)
		if raw, err := (&registry.Codec{}).Encode(inst); !errors.Is(err, registry.ErrMalformed) {
			t.Errorf("%s: %s, %v", name, raw, err)
		}
	}
}

// text is any string that JSON carries unchanged.
func text() *rapid.Generator[string] { return rapid.StringN(1, 20, 200) }

func instances() *rapid.Generator[registry.Instance] {
	return rapid.Custom(func(t *rapid.T) registry.Instance {
		inst := registry.Instance{
			Service:      strings.ReplaceAll(text().Draw(t, "service"), "/", "|"),
			ID:           text().Draw(t, "id"),
			Incarnation:  text().Draw(t, "incarnation"),
			ClaimedAt:    rapid.Uint64().Draw(t, "claimed_at"),
			Schema:       registry.SchemaVersion,
			App:          text().Draw(t, "app"),
			Region:       rapid.SampledFrom([]string{"", "ams", "fra"}).Draw(t, "region"),
			ProcessGroup: text().Draw(t, "group"),
			GRPCPort:     rapid.IntRange(0, 65535).Draw(t, "grpc_port"),
			IsFly:        rapid.Bool().Draw(t, "is_fly"),
			Weight:       rapid.Uint32().Draw(t, "weight"),
			State:        rapid.SampledFrom([]registry.State{registry.Serving, registry.Draining}).Draw(t, "state"),
			StartedAt:    time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "started"), 0).UTC(),
		}
		address := netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")))
		if address.Unmap().IsMulticast() || address.Unmap().IsUnspecified() {
			address = netip.MustParseAddr("fdaa::1")
		}
		inst.Address = netip.AddrPortFrom(address, rapid.Uint16Range(1, 65535).Draw(t, "port")).String()
		if rapid.Bool().Draw(t, "more") {
			inst.Labels = rapid.MapOfN(text(), text(), 1, 5).Draw(t, "labels")
			inst.GRPCServices = rapid.SliceOfN(text(), 1, 5).Draw(t, "grpc_services")
		}
		return inst
	})
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		codec := &registry.Codec{SigningKey: rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "key")}
		want := instances().Draw(t, "instance")
		raw, err := codec.Encode(want)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		got, err := codec.Decode(want.Key().String(), raw)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("written %+v\nread    %+v, %v", want, got, err)
		}
		again, err := codec.Encode(got)
		if err != nil || string(again) != string(raw) {
			t.Fatalf("the record is not the same again: %s\n%s, %v", raw, again, err)
		}
	})
}

func TestKeysComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := registry.Key{Service: strings.ReplaceAll(text().Draw(t, "service"), "/", "|"), ID: text().Draw(t, "id")}
		if got, err := registry.ParseKey(want.String()); err != nil || got != want {
			t.Fatalf("%q is read as %+v, %v", want, got, err)
		}
		raw := rapid.String().Draw(t, "raw")
		if got, err := registry.ParseKey(raw); err == nil && got.String() != raw {
			t.Fatalf("%q is read as %+v", raw, got)
		}
	})
}

func TestAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ip := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ip")))
		prefix := netip.PrefixFrom(ip, rapid.IntRange(0, 32).Draw(t, "bits"))
		mapped := netip.AddrFrom16(ip.As16())
		if !registry.Allowed([]netip.Prefix{prefix}, ip) || !registry.Allowed([]netip.Prefix{prefix}, mapped) {
			t.Fatalf("%v is not in %v", ip, prefix)
		}
		if !registry.Allowed(nil, ip) {
			t.Fatal("no networks allow nobody")
		}
		if registry.Allowed([]netip.Prefix{netip.MustParsePrefix("fdaa::/16")}, mapped) {
			t.Fatalf("%v is in fdaa::/16", mapped)
		}
	})
}

func TestEffectiveWeight(t *testing.T) {
	for in, want := range map[uint32]uint32{0: registry.DefaultWeight, 1: 1, registry.MaxWeight: registry.MaxWeight, 1 << 31: registry.MaxWeight} {
		if got := (&registry.Instance{Weight: in}).EffectiveWeight(); got != want {
			t.Errorf("%d counts as %d, want %d", in, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	key := []byte("key")
	signed, err := (&registry.Codec{SigningKey: key}).Encode(valid())
	if err != nil {
		f.Fatal(err)
	}
	plain, err := (&registry.Codec{}).Encode(valid())
	if err != nil {
		f.Fatal(err)
	}
	for _, raw := range [][]byte{signed, plain, nil, []byte("{}"), []byte("null"), []byte(`{"sig":"` + strings.Repeat("0", 64) + `"}`)} {
		f.Add("echo/m1", raw)
	}
	f.Add("a", []byte("[[[["))
	f.Add("echo/m1", fmt.Appendf(nil, `{"service":"echo","id":"m1","ID":"m2","incarnation":"x","schema":1,"address":"a:1","state":"serving"}`))
	networks := []netip.Prefix{netip.MustParsePrefix("fdaa::/16")}
	f.Fuzz(func(t *testing.T, field string, raw []byte) {
		for _, codec := range []*registry.Codec{{}, {SigningKey: key}, {AllowedNetworks: networks}, {MaxRecordBytes: 100}} {
			inst, err := codec.Decode(field, raw)
			if err != nil {
				known := []error{registry.ErrTooLarge, registry.ErrMalformed, registry.ErrAddress, registry.ErrNetwork, registry.ErrSignature}
				if !slices.ContainsFunc(known, func(e error) bool { return errors.Is(err, e) }) {
					t.Errorf("an error of no kind: %v", err)
				}
				if len(err.Error()) > 1000 {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
				if !reflect.DeepEqual(inst, registry.Instance{}) {
					t.Errorf("with an error came %+v", inst)
				}
				continue
			}
			if inst.Key().String() != field {
				t.Errorf("under %q stands %q", field, inst.Key())
			}
			// What was taken is in turn written and taken.
			inst.Schema = registry.SchemaVersion
			plain := *codec
			plain.MaxRecordBytes = 1 << 20
			again, err := plain.Encode(inst)
			if err != nil {
				if inst.StartedAt.Year() > 9999 || inst.StartedAt.Year() < 0 {
					continue
				}
				t.Fatalf("%s is taken and cannot be written: %v", raw, err)
			}
			if back, err := plain.Decode(field, again); err != nil || back.Key() != inst.Key() || back.Address != inst.Address {
				t.Errorf("%+v became %+v, %v", inst, back, err)
			}
		}
	})
}
