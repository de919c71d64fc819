package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
)

// panels are the cells of the chart.
var panels = []struct{ cell, title string }{
	{"unary-1-100B", "100 B, one call at a time"},
	{"unary-64-100B", "100 B, 64 calls at a time"},
	{"unary-64-16KiB", "16 KiB, 64 calls at a time"},
}

// Measures of the chart in pixels.
const (
	chartWidth = 860
	barsFrom   = 200
	barsMost   = 560
	barHeight  = 20
	barStep    = 27
	panelHead  = 44
	chartHead  = 58
)

// bar is one line of the chart.
type bar struct {
	label string
	value float64
	own   bool
}

// chart draws the CPU time per call as an SVG image: a panel per cell, a bar per proxy, each panel in its own scale.
func chart(t *table) []byte {
	var body bytes.Buffer
	y := chartHead
	for _, p := range panels {
		var bars []bar
		most := 0.0
		for _, s := range t.subjects {
			if s.config == "" {
				continue
			}
			if m := t.medians(p.cell, s.id, cpuPerCall.values); m != nil && !math.IsNaN(m[0]) {
				bars = append(bars, bar{s.title, m[0], s.engine != ""})
				most = max(most, m[0])
			}
		}
		if most == 0 {
			continue
		}
		fmt.Fprintf(&body, `<text x="20" y="%d" class="panel">%s</text>`+"\n", y+26, escape(p.title))
		y += panelHead
		for _, b := range bars {
			drawBar(&body, y, b, most)
			y += barStep
		}
	}
	y += 20
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n",
		chartWidth, y, chartWidth, y)
	const title = "CPU time in the proxy per call, in µs"
	fmt.Fprintf(&b, "<title>%s</title>\n", escape(title))
	b.WriteString(`<style>
text { font: 14px "Helvetica Neue", Helvetica, Arial, "Liberation Sans", "DejaVu Sans", sans-serif; fill: #24292f }
.head { font-size: 19px; font-weight: bold }
.sub { font-size: 13px; fill: #57606a }
.panel { font-weight: bold }
.own { fill: #7c3aed }
.other { fill: #b8c0cc }
.bold { font-weight: bold }
</style>
`)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", chartWidth, y)
	fmt.Fprintf(&b, `<text x="20" y="30" class="head">%s</text>`+"\n", escape(title))
	m := t.results.Machine
	fmt.Fprintf(&b, `<text x="20" y="51" class="sub">%s</text>`+"\n", escape(fmt.Sprintf(
		"Less is better. Unary calls, medians of %d rounds (%s run), %d cores of %s, %s",
		t.results.Rounds, t.results.Plan, m.Cores, m.CPU, m.Date.Format("2006-01-02"))))
	b.Write(body.Bytes())
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func drawBar(w *bytes.Buffer, y int, b bar, most float64) {
	class, weight := "other", ""
	if b.own {
		class, weight = "own", ` class="bold"`
	}
	width := max(b.value/most*barsMost, 1)
	middle := y + barHeight/2 + 5
	fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="end"%s>%s</text>`, barsFrom-10, middle, weight, escape(b.label))
	fmt.Fprintf(w, `<rect x="%d" y="%d" width="%.1f" height="%d" class="%s"/>`, barsFrom, y, width, barHeight, class)
	fmt.Fprintf(w, `<text x="%.1f" y="%d"%s>%s</text>`+"\n", barsFrom+width+8, middle, weight, oneNumber(1)([]float64{b.value}))
}

func escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a bytes.Buffer takes everything
	return b.String()
}
