package relay_test

import (
	"fmt"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"pgregory.net/rapid"
)

// modelSchedule is what a run does. Steps that make no sense when their turn comes, such as DATA behind END_STREAM, do nothing, so
// every schedule is one that RFC 9113 allows.
type modelSchedule struct {
	Clients, Peers []modelManner
	Calls          []modelCallPlan
	Steps          []modelStep
}

// modelManner is how an end behaves throughout.
type modelManner struct {
	Settings []http2.Setting // its first ones
	// Cut is how many octets it writes at a time; 0 means all at once.
	Cut int
	// Opens says that in the end it gives streams room by SETTINGS, not by WINDOW_UPDATE.
	Opens bool
	// Buffer is the size of the engine's send buffer, for clients, or of the own receive buffer, for peers; 0: the system's.
	Buffer int
}

// modelCallPlan is what is fixed of a call.
type modelCallPlan struct {
	Client int
	// Late calls are opened by a step, the others before the first one.
	Late    bool
	Request []hpack.HeaderField // beyond the pseudo-headers
	Status  string
}

type modelKind uint8

// The steps. Those on a call are done by the end that its name begins with.
const (
	clientOpens modelKind = iota
	clientSends
	clientEnds
	clientResets
	peerInterim
	peerHeaders
	peerSends
	peerTrailers
	peerEnds // END_STREAM on DATA
	peerResets
	peerRefuses
	sendsSettings
	givesCredit
	givesStreamCredit
	sendsPing
	sendsNoise
	stopsReading
	reads
	awaitsPings
	awaitsArrival
	peerGoesAway
	peerDies
	clientDies
	modelKinds
)

var modelKindNames = [modelKinds]string{
	"clientOpens", "clientSends", "clientEnds", "clientResets", "peerInterim", "peerHeaders", "peerSends", "peerTrailers", "peerEnds",
	"peerResets", "peerRefuses", "sendsSettings", "givesCredit", "givesStreamCredit", "sendsPing", "sendsNoise", "stopsReading", "reads",
	"awaitsPings", "awaitsArrival", "peerGoesAway", "peerDies", "clientDies",
}

// modelStep is one thing that one end does.
type modelStep struct {
	Kind modelKind
	// Call is the call, End the connection: clients come first, then peers' connections. Both are taken modulo how many there are.
	Call, End int
	Size      int // of DATA or of credit
	Piece     int // the largest DATA frame
	Pad       int
	Code      http2.ErrCode
	Must      bool // of awaitsArrival: there is nothing that holds the call up
	Fields    []hpack.HeaderField
	Settings  []http2.Setting
	Style     modelStyle
}

// modelStyle is how a header block is framed.
type modelStyle struct {
	Pieces   int // HEADERS and CONTINUATION frames, about
	Pad      int
	Priority bool
}

// GoString prints a step with what its kind uses.
func (s modelStep) GoString() string {
	var b strings.Builder
	b.WriteString(modelKindNames[s.Kind])
	switch s.Kind {
	case clientSends, peerSends:
		fmt.Fprintf(&b, "(call %d, %d octets, frames of %d, pad %d)", s.Call, s.Size, s.Piece, s.Pad)
	case clientResets, peerResets:
		fmt.Fprintf(&b, "(call %d, %v)", s.Call, s.Code)
	case sendsSettings:
		fmt.Fprintf(&b, "(end %d, %v)", s.End, s.Settings)
	case givesCredit:
		fmt.Fprintf(&b, "(end %d, %d)", s.End, s.Size)
	case givesStreamCredit:
		fmt.Fprintf(&b, "(call %d, end %d, %d)", s.Call, s.End, s.Size)
	case sendsPing, sendsNoise, stopsReading, reads, peerGoesAway, peerDies, clientDies:
		fmt.Fprintf(&b, "(end %d)", s.End)
	case awaitsPings:
	default:
		fmt.Fprintf(&b, "(call %d)", s.Call)
	}
	return b.String()
}

func genModelSchedule(t *rapid.T) *modelSchedule {
	steps := rapid.SampledFrom([]int{5, 60, 30, 100}).Draw(t, "number of steps")
	calls := rapid.SampledFrom([]int{1, 6, 4, 2}).Draw(t, "number of calls")
	return &modelSchedule{
		Clients: rapid.SliceOfN(rapid.Custom(genModelManner), 1, 2).Draw(t, "clients"),
		Peers:   rapid.SliceOfN(rapid.Custom(genModelManner), 1, 2).Draw(t, "peers"),
		Calls:   rapid.SliceOfN(rapid.Custom(genModelCallPlan), calls, calls).Draw(t, "calls"),
		Steps:   rapid.SliceOfN(rapid.Custom(genModelStep), steps, steps).Draw(t, "steps"),
	}
}

func genModelManner(t *rapid.T) modelManner {
	m := modelManner{Cut: rapid.SampledFrom([]int{0, 0, 0, 1, 7, 100}).Draw(t, "cut"),
		Buffer: rapid.SampledFrom([]int{0, 0, 0, 4 << 10}).Draw(t, "buffer"),
		Opens:  rapid.Bool().Draw(t, "opens")}
	if rapid.Bool().Draw(t, "with settings") {
		m.Settings = genModelSettings(t)
	}
	return m
}

func genModelCallPlan(t *rapid.T) modelCallPlan {
	return modelCallPlan{
		Client:  rapid.IntRange(0, 1).Draw(t, "client"),
		Late:    rapid.Bool().Draw(t, "late"),
		Request: genModelFields(t),
		Status:  fmt.Sprint(rapid.IntRange(0, 16).Draw(t, "status")),
	}
}

// modelWeights has each kind of step as often as it says: those that end connections are rare, or little else would be seen. They
// are dealt round by round, since rapid draws what comes first more often.
var modelWeights = func() (kinds []modelKind) {
	weights := [modelKinds]int{
		clientOpens: 4, clientSends: 10, clientEnds: 3, clientResets: 1, peerInterim: 1, peerHeaders: 7, peerSends: 10, peerTrailers: 2,
		peerEnds: 1, peerResets: 1, peerRefuses: 3, sendsSettings: 7, givesCredit: 5, givesStreamCredit: 7, sendsPing: 2, sendsNoise: 2,
		stopsReading: 2, reads: 2, awaitsPings: 4, awaitsArrival: 4, peerGoesAway: 3, peerDies: 2, clientDies: 1,
	}
	for round := 10; round > 0; round-- {
		for k, n := range weights {
			if n >= round {
				kinds = append(kinds, modelKind(k))
			}
		}
	}
	return kinds
}()

func genModelStep(t *rapid.T) modelStep {
	s := modelStep{
		Kind: rapid.SampledFrom(modelWeights).Draw(t, "kind"),
		Call: rapid.IntRange(0, 5).Draw(t, "call"),
		End:  rapid.IntRange(0, 7).Draw(t, "end"),
	}
	switch s.Kind {
	case clientSends, peerSends:
		s.Size = rapid.OneOf(rapid.IntRange(0, 10), rapid.IntRange(0, 5000), rapid.IntRange(0, 100_000),
			rapid.SampledFrom([]int{16384, 65535, 65536, 300_000, 1_500_000})).Draw(t, "size")
		s.Piece = rapid.SampledFrom([]int{1 << 24, 1 << 24, 16384, 1000, 37, 1}).Draw(t, "piece")
		s.Piece = max(s.Piece, s.Size/2000) // frames are bounded, not to take seconds
		s.Pad = rapid.SampledFrom([]int{0, 0, 1, 20, 255}).Draw(t, "pad")
	case clientResets, peerResets:
		s.Code = rapid.SampledFrom([]http2.ErrCode{http2.ErrCodeNo, http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeEnhanceYourCalm,
			0x1234}).Draw(t, "code")
	case sendsSettings:
		s.Settings = genModelSettings(t)
	case givesCredit, givesStreamCredit:
		s.Size = rapid.OneOf(rapid.IntRange(1, 10), rapid.IntRange(1, 70_000), rapid.IntRange(1, 1<<29)).Draw(t, "credit")
	case peerInterim, peerHeaders, peerTrailers:
		s.Fields = genModelFields(t)
	}
	s.Style = modelStyle{
		Pieces:   rapid.SampledFrom([]int{1, 1, 2, 5, 20}).Draw(t, "pieces"),
		Pad:      rapid.SampledFrom([]int{0, 0, 1, 255}).Draw(t, "block pad"),
		Priority: rapid.Bool().Draw(t, "priority"),
	}
	return s
}

func genModelSettings(t *rapid.T) []http2.Setting {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) http2.Setting {
		id := rapid.SampledFrom([]http2.SettingID{http2.SettingInitialWindowSize, http2.SettingInitialWindowSize,
			http2.SettingHeaderTableSize, http2.SettingMaxFrameSize, http2.SettingMaxConcurrentStreams, 0x99}).Draw(t, "setting")
		var values []uint32
		switch id {
		case http2.SettingInitialWindowSize:
			values = []uint32{0, 1, 100, 16384, 65535, 1 << 20, 1 << 24}
		case http2.SettingHeaderTableSize:
			values = []uint32{0, 33, 64, 256, 4095, 4096, 65536}
		case http2.SettingMaxFrameSize:
			values = []uint32{16384, 20000, 1<<24 - 1}
		case http2.SettingMaxConcurrentStreams:
			values = []uint32{0, 1, 2, 100}
		default:
			values = []uint32{0, 1<<32 - 1}
		}
		return http2.Setting{ID: id, Val: rapid.SampledFrom(values).Draw(t, "value")}
	}), 1, 3).Draw(t, "settings")
}

// genModelFields draws metadata: repeated names, values that repeat from block to block and ones that do not, large ones, octets over
// 127, and never-indexed ones.
func genModelFields(t *rapid.T) []hpack.HeaderField {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) hpack.HeaderField {
		f := hpack.HeaderField{
			Name: rapid.SampledFrom([]string{"x-a", "x-a", "x-b", "x-c-bin", "user-agent", "cookie", "grpc-encoding",
				"x-" + strings.Repeat("n", 80)}).Draw(t, "name"),
			Sensitive: rapid.IntRange(0, 4).Draw(t, "never") == 0,
		}
		switch rapid.IntRange(0, 5).Draw(t, "value") {
		case 0:
			f.Value = strings.Repeat("~", rapid.SampledFrom([]int{100, 1000, 4000, 20_000}).Draw(t, "large"))
		case 1:
			f.Value = rapid.StringMatching(`[!-~]([ -~]{0,30}[!-~])?`).Draw(t, "text")
		case 2:
			f.Value = "\xc3\xa9\xff\x80"
		default:
			f.Value = rapid.SampledFrom([]string{"", "1", "two", "three, four"}).Draw(t, "usual")
		}
		return f
	}), 0, 5).Draw(t, "fields")
}
