package main

import (
	"math"
	"slices"
)

// none stands where there is no figure.
const none = "–"

// table looks up what the samples come to.
type table struct {
	results  *results
	subjects []subject // those that ran
	samples  map[[2]string][]*sample
}

func newTable(r *results) *table {
	t := &table{results: r, samples: make(map[[2]string][]*sample)}
	for _, s := range subjects("", "") {
		if slices.Contains(r.Subjects, s.id) {
			t.subjects = append(t.subjects, s)
		}
	}
	for i := range r.Samples {
		s := &r.Samples[i]
		key := [2]string{s.Cell, s.Subject}
		t.samples[key] = append(t.samples[key], s)
	}
	return t
}

func (t *table) has(cell, subject string) bool { return len(t.samples[[2]string{cell, subject}]) > 0 }

func (t *table) hasAny(g group) bool { return len(t.rows(g)) > 0 }

// rows are the subjects that took part in a group.
func (t *table) rows(g group) []subject {
	var all []subject
	for _, s := range t.subjects {
		if slices.ContainsFunc(g.cells, func(c cell) bool { return t.has(c.id, s.id) }) {
			all = append(all, s)
		}
	}
	return all
}

// medians are those of a figure's values over the rounds; none when there are no samples or one of them is broken, NaN when a
// round has nothing to tell.
func (t *table) medians(cell, subject string, values func(*sample) []float64) []float64 {
	var columns [][]float64
	for _, s := range t.samples[[2]string{cell, subject}] {
		if s.broken() != "" {
			return nil
		}
		for i, v := range values(s) {
			if i == len(columns) {
				columns = append(columns, nil)
			}
			columns[i] = append(columns[i], v)
		}
	}
	var all []float64
	for _, c := range columns {
		if slices.ContainsFunc(c, math.IsNaN) {
			all = append(all, math.NaN())
		} else {
			all = append(all, median(c))
		}
	}
	return all
}

// text is a figure of a cell in words.
func (t *table) text(cell string, s *subject, f figure) string {
	if !t.has(cell, s.id) || f.proxyOnly && s.config == "" {
		return none
	}
	medians := t.medians(cell, s.id, f.values)
	if medians == nil {
		return "failed"
	}
	if math.IsNaN(medians[0]) {
		return "too little"
	}
	return f.text(medians)
}

// columnsFor are the ids with which a subject is compared; the last is no proxy.
func (t *table) columnsFor(id string) []string {
	var all []string
	for _, o := range against {
		if o.id != id {
			all = append(all, o.id)
		}
	}
	return append(all, direct)
}

// ratio is one subject's median by another's; not ok when one of them has none.
func (t *table) ratio(cell, subject, other string, values func(*sample) []float64) (q float64, ok bool) {
	mine, others := t.medians(cell, subject, values), t.medians(cell, other, values)
	if mine == nil || others == nil {
		return 0, false
	}
	q = mine[0] / others[0]
	return q, !math.IsNaN(q) && !math.IsInf(q, 0)
}

// work is a sample's bytes if it has any, else its calls.
func work(s *sample) float64 {
	if s.Bytes > 0 {
		return perMiB(s)
	}
	return perCall(s)
}

func workCPU(s *sample) []float64  { return cpuPer(work)(s) }
func workRate(s *sample) []float64 { return rate(work)(s) }
