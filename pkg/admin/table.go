package admin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// column is one column of the table. The ones with a least width are shortened when the table is wider than the screen.
type column struct {
	title   string
	right   bool
	least   int // not below the title's
	cell    func(*Instance) string
	shorten func(s string, most int) string // nil: shorten
	width   int
}

// addressColumn is left out where even the shortened columns are too wide together: --json has the addresses.
const addressColumn = "ADDRESS"

func columns() []column {
	return []column{
		{title: "SERVICE", least: 7, cell: func(i *Instance) string { return i.Service }},
		{title: "ID", least: 8, cell: func(i *Instance) string { return i.ID }},
		{title: "REGION", cell: func(i *Instance) string { return i.Region }},
		{title: "STATE", cell: stateCell},
		{title: addressColumn, least: 11, shorten: shortenAddress, cell: func(i *Instance) string { return i.Address }},
		{title: "AGE", right: true, cell: func(i *Instance) string { return shortAge(i.AgeS) }},
		{title: "CPU", right: true, cell: loadCell(func(l *registry.Load) string { return fmt.Sprintf("%.0f%%", l.CPU*100) })},
		{title: "CALLS/S", right: true, cell: loadCell(func(l *registry.Load) string { return shortRate(l.CallsPerSecond) })},
		{title: "P99", right: true, cell: loadCell(latencyCell)},
		{title: "LOCAL", cell: localCell},
	}
}

// stateCell puts first what the registry's loss did: held says more than the serving of a record that is gone.
func stateCell(i *Instance) string {
	if i.Held {
		return "held"
	}
	return string(i.State)
}

// loadCell shows a dash where no load is known.
func loadCell(f func(*registry.Load) string) func(*Instance) string {
	return func(i *Instance) string {
		if i.Load == nil {
			return "-"
		}
		return f(i.Load)
	}
}

func latencyCell(l *registry.Load) string {
	if l.P99 == 0 {
		return "-"
	}
	return shortLatency(l.P99)
}

// localCell is our own view: our calls in flight there, and whether it is backed off.
func localCell(i *Instance) string {
	switch {
	case i.View.BackedOff && i.View.InFlight > 0:
		return fmt.Sprintf("backed off, %d", i.View.InFlight)
	case i.View.BackedOff:
		return "backed off"
	}
	return fmt.Sprint(i.View.InFlight)
}

func (r *renderer) table() {
	r.b.WriteByte('\n')
	if len(r.status.Instances) == 0 {
		r.b.WriteString("no instances are known\n")
		return
	}
	list := make([]*Instance, 0, len(r.status.Instances))
	for i := range r.status.Instances {
		list = append(list, &r.status.Instances[i])
	}
	own := r.status.Self.Region
	slices.SortStableFunc(list, func(a, b *Instance) int {
		switch {
		case own == "" || (a.Region == own) == (b.Region == own):
			return 0
		case a.Region == own:
			return -1
		}
		return 1
	})

	cols, gap := r.fit(columns(), list)
	r.b.WriteString(r.paint(dim, row("  ", cols, gap, func(c *column) string { return c.title })) + "\n")
	for _, i := range list {
		mark := "  "
		if i.Self {
			mark = "* "
		}
		text := row(mark, cols, gap, func(c *column) string { return visible(c.cell(i)) })
		r.b.WriteString(r.paint(rowColour(i), text) + "\n")
	}
	if slices.ContainsFunc(list, func(i *Instance) bool { return i.Self }) {
		r.b.WriteString(r.paint(dim, "* our own Machine") + "\n")
	}
}

func rowColour(i *Instance) string {
	switch {
	case i.View.BackedOff:
		return red
	case i.Held, i.State == registry.Draining:
		return yellow
	case i.Self:
		return bold
	}
	return ""
}

// fit gives each column its width. It takes from the widest column that can be shortened until the table fits, then from the gaps
// between columns, then the addresses.
func (r *renderer) fit(cols []column, list []*Instance) (fitted []column, gap int) {
	sum := 2 // the mark
	for n := range cols {
		c := &cols[n]
		c.width = width(c.title)
		for _, i := range list {
			c.width = max(c.width, width(visible(c.cell(i))))
		}
		sum += c.width
	}
	gap = 2
	if r.opts.Width <= 0 {
		return cols, gap
	}
	over := func() int { return sum + gap*(len(cols)-1) - r.opts.Width }
	for over() > 0 {
		widest := -1
		for n := range cols {
			c := &cols[n]
			if c.least > 0 && c.width > c.least && (widest < 0 || c.width > cols[widest].width) {
				widest = n
			}
		}
		switch {
		case widest >= 0:
			cols[widest].width--
			sum--
		case gap > 1:
			gap--
		default:
			n := slices.IndexFunc(cols, func(c column) bool { return c.title == addressColumn })
			if n < 0 {
				return cols, gap
			}
			sum -= cols[n].width
			cols = slices.Delete(cols, n, n+1)
		}
	}
	return cols, gap
}

func row(mark string, cols []column, gap int, cell func(*column) string) string {
	var b strings.Builder
	b.WriteString(mark)
	for n := range cols {
		c := &cols[n]
		cut := c.shorten
		if cut == nil {
			cut = shorten
		}
		text := cut(cell(c), c.width)
		pad := strings.Repeat(" ", c.width-width(text))
		if n > 0 {
			b.WriteString(strings.Repeat(" ", gap))
		}
		if c.right {
			b.WriteString(pad + text)
		} else {
			b.WriteString(text + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}
