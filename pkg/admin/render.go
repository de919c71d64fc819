package admin

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// RenderOptions say how a status is shown.
type RenderOptions struct {
	// Width is the number of columns that there are; 0 means no limit.
	Width int
	// Color allows ANSI colours: set it for a terminal, unless NO_COLOR is set (https://no-color.org).
	Color bool
	// Now is the reader's clock, for how long the app's health has been as it is; zero leaves that out.
	Now time.Time
}

// RenderStatus shows a status to people: a head of a few lines, warnings with what to do, and a table of all instances, those
// of our own region first. What came from the registry cannot steer the terminal: other than printable characters are replaced.
func RenderStatus(w io.Writer, s Status, opts RenderOptions) error {
	r := renderer{status: &s, opts: opts}
	r.head()
	r.warnings()
	r.table()
	_, err := io.WriteString(w, r.b.String())
	return err
}

type renderer struct {
	b      strings.Builder
	status *Status
	opts   RenderOptions
}

func (r *renderer) head() {
	s := r.status
	who := []string{"flyproxy " + s.Self.Version}
	if len(s.Self.Services) > 0 {
		who = append(who, strings.Join(s.Self.Services, ", ")+"/"+s.Self.InstanceID)
	} else {
		who = append(who, s.Self.InstanceID)
	}
	who = append(who, s.Self.Mode, "engine "+s.Self.Engine, "region "+orUnknown(s.Self.Region), "up "+shortAge(s.Self.UptimeS))
	r.line("", who...)
	r.line("listen    ", s.Self.Listen...)

	reg := []string{s.Registry.Store, s.Registry.State}
	if s.Registry.Source != registry.FromNowhere {
		reg = append(reg, "view from "+string(s.Registry.Source))
	}
	if !s.Registry.ConfirmedAt.IsZero() {
		reg = append(reg, "confirmed "+shortAge(s.Registry.StalenessS)+" ago")
	}
	if s.Registry.LatencyMS > 0 {
		reg = append(reg, "latency "+shortLatency(s.Registry.LatencyMS))
	}
	r.line("registry  ", reg...)
	r.line("routing   ", s.Routing.Policy, picks(s.Routing.Picks), fmt.Sprintf("unroutable %d", s.Routing.Unroutable))
	for i := range s.Self.Apps {
		r.app(&s.Self.Apps[i])
	}
	r.line("instances ", counts(&s.Counts), regions(s.Counts.Regions))
}

func (r *renderer) app(a *App) {
	health := a.Health.State
	if a.Health.How != "" {
		health += " (" + a.Health.How + ")"
	}
	if !a.Health.Since.IsZero() && !r.opts.Now.IsZero() {
		health += " for " + shortAge(r.opts.Now.Sub(a.Health.Since).Seconds())
	}
	parts := []string{a.Name}
	if a.Service != a.Name {
		parts[0] += " of " + a.Service
	}
	parts = append(parts, a.Address, health, registration(a))
	if a.Inbound != "" {
		parts = append(parts, "inbound on "+a.Inbound)
	}
	r.line("app       ", parts...)
}

// line writes a label and its parts, those that are not empty, and breaks the line between parts where it would be too wide.
func (r *renderer) line(label string, parts ...string) {
	const between = "  "
	used := len(label)
	r.b.WriteString(r.paint(dim, label))
	first := true
	for _, p := range parts {
		if p == "" {
			continue
		}
		p = visible(p)
		if n := width(p); !first {
			if r.opts.Width > 0 && used+len(between)+n > r.opts.Width {
				r.b.WriteString("\n" + strings.Repeat(" ", 10))
				used = 10
			} else {
				r.b.WriteString(between)
				used += len(between)
			}
		}
		first = false
		r.b.WriteString(p)
		used += width(p)
	}
	r.b.WriteByte('\n')
}

func (r *renderer) warnings() {
	list := warnings(r.status)
	if len(list) > 0 {
		r.b.WriteByte('\n')
	}
	for _, text := range list {
		for i, l := range wrap(visible(text), r.opts.Width-2) {
			mark := "  "
			if i == 0 {
				mark = r.paint(red, "! ")
			}
			r.b.WriteString(mark + r.paint(yellow, l) + "\n")
		}
	}
}

// warnings tell what is wrong and what to do about it. What the reasons of the readiness say already is not said twice.
func warnings(s *Status) []string {
	var out []string
	if !s.Readiness.Ready {
		out = append(out, "not ready: "+PathReady+" answers 503")
	}
	out = append(out, s.Readiness.Reasons...)
	if len(s.Readiness.Reasons) == 0 {
		out = append(out, registryWarning(&s.Registry)...)
	}
	for i := range s.Self.Apps {
		a := &s.Self.Apps[i]
		if a.Registration == Registered || a.Reason == ReasonDraining || said(s.Readiness.Reasons, a.Reason) {
			continue
		}
		text := fmt.Sprintf("app %s gets no calls from peers: %s", a.Name, registration(a))
		for _, more := range []string{a.Reason, a.Health.Detail} {
			if more != "" && !strings.Contains(text, more) {
				text += "; " + more
			}
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	var rejected uint64
	for _, n := range s.Registry.Rejected {
		rejected += n
	}
	if rejected > 0 {
		out = append(out, fmt.Sprintf("%d records of the registry were ignored (%s): the log says which, and why", rejected,
			join(s.Registry.Rejected)))
	}
	if s.Counts.Held > 0 {
		out = append(out, fmt.Sprintf("%d held: the registry lost the record; calls still go there, until a lease has passed "+
			"without it registering again", s.Counts.Held))
	}
	if s.LoadsError != "" {
		out = append(out, "loads are not shown: "+s.LoadsError)
	}
	return out
}

// said tells whether one of the reasons gives this one already.
func said(reasons []string, reason string) bool {
	return reason != "" && slices.ContainsFunc(reasons, func(r string) bool { return strings.Contains(r, reason) })
}

func registration(a *App) string {
	if a.Registration == "" {
		return "not registered"
	}
	return a.Registration
}

func registryWarning(r *Registry) []string {
	var text string
	switch r.State {
	case StateConnecting:
		text = "the registry could not be read yet"
	case StateStale:
		text = fmt.Sprintf("the registry has confirmed nothing for %s: calls go by the last view", shortAge(r.StalenessS))
	default:
		return nil
	}
	if r.LastError != "" {
		text += "; " + r.LastError
	}
	return []string{text + "; check that it is up and that registry.* is right"}
}

func counts(c *Counts) string {
	text := fmt.Sprintf("%d known: %d serving", c.Known, c.Serving)
	for _, more := range []struct {
		n    int
		what string
	}{{c.Draining, "draining"}, {c.Held, "held"}, {c.BackedOff, "backed off"}} {
		if more.n > 0 {
			text += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	return text
}

func regions(m map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", orUnknown(name), m[name]))
	}
	return strings.Join(parts, ", ")
}

func picks(m map[string]uint64) string {
	var sum uint64
	for _, n := range m {
		sum += n
	}
	if sum == 0 {
		return "picks 0"
	}
	return fmt.Sprintf("picks %d (%s)", sum, join(m))
}

// join lists what is not 0, the largest first.
func join(m map[string]uint64) string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return map[bool]int{true: -1, false: 1}[m[a] > m[b]]
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, k := range keys {
		if m[k] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
		}
	}
	return strings.Join(parts, ", ")
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
