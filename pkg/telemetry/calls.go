package telemetry

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// calls are the metrics of each call. The usual path takes one immutable table by an atomic load, finds the call's series by
// two map look-ups, and adds to atomics; a name that is seen for the first time makes a new table.
type calls struct {
	maxServices, maxMethods, maxRegions int

	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec

	table atomic.Pointer[callTable]
	// mu serialises the making of new tables.
	mu sync.Mutex
}

// callKey names a series by what the engine said, not by labels. A method of the table's own begins with a slash, so "other"
// cannot be one.
type callKey struct{ service, method string }

// callTable is immutable; its series are shared with the tables that follow it.
type callTable struct {
	series   map[callKey]*callSeries
	services map[string]struct{}
	// methods is how many series have a method of their own. Counting pairs of service and method bounds the number of series
	// by the sum of the limits and not by their product.
	methods int
	// regions gives each region its place in callSeries.regions; place 0 is "other".
	regions map[string]int
}

type callSeries struct {
	labels   callKey
	duration prometheus.Observer
	regions  []atomic.Pointer[regionSeries]
}

// regionSeries has one counter for each code, made when it is first needed; the last one is for codes that gRPC does not define.
type regionSeries struct {
	label string
	codes [len(codeNames) + 1]atomic.Pointer[prometheus.Counter]
}

func newCalls(cfg *MetricsConfig) *calls {
	c := &calls{
		maxServices: cfg.MaxServices,
		maxMethods:  cfg.MaxMethods,
		maxRegions:  cfg.MaxRegions,
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flyproxy_calls_total",
			Help: "Calls that ended, by service, full method, gRPC status and the region of the peer that answered.",
		}, []string{"service", "method", "status", "peer_region"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flyproxy_call_duration_seconds",
			Help:    "Time from the arrival of a call to its end, as the caller sees it; a stream counts with its whole life.",
			Buckets: durationBuckets(),
		}, []string{"service", "method"}),
	}
	c.table.Store(&callTable{series: map[callKey]*callSeries{}, services: map[string]struct{}{}, regions: map[string]int{}})
	return c
}

func (c *calls) ended(service, method string, code uint32, region string, d time.Duration) {
	if service == "" {
		service = unknownLabel
	}
	if region == "" {
		region = unknownLabel
	}
	s := c.find(service, method, code == 0)
	s.duration.Observe(d.Seconds())
	c.counter(s, region, code).Inc()
}

// find gives the series of a call. Proven says that the call went well: what never did may be no more than a slip or a scan.
func (c *calls) find(service, method string, proven bool) *callSeries {
	t := c.table.Load()
	if s := t.series[callKey{service, method}]; s != nil {
		return s
	}
	if s := t.series[c.place(t, service, method, proven)]; s != nil {
		return s
	}
	return c.grow(service, method, proven)
}

// place decides under which key a call counts that has no series under its own names yet.
func (c *calls) place(t *callTable, service, method string, proven bool) callKey {
	if _, known := t.services[service]; !known && !(labelForm(service) && room(len(t.services), c.maxServices, proven)) {
		return callKey{otherLabel, otherLabel}
	}
	if !methodForm(method) || !room(t.methods, c.maxMethods, proven) {
		method = otherLabel
	}
	return callKey{service, method}
}

// room tells whether one more name may have a place. Names that no call has proven get the first half of the places only, so
// whatever is sent to the port, the real ones find one.
func room(used, limit int, proven bool) bool {
	if !proven {
		limit = (limit + 1) / 2
	}
	return used < limit
}

func (c *calls) grow(service, method string, proven bool) *callSeries {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.table.Load()
	key := c.place(old, service, method, proven)
	if s := old.series[key]; s != nil {
		return s
	}
	// The names may be parts of a buffer that is much larger than they are.
	key = callKey{strings.Clone(key.service), strings.Clone(key.method)}
	labels := callKey{key.service, strings.TrimPrefix(key.method, "/")}
	s := &callSeries{
		labels:   labels,
		duration: c.duration.WithLabelValues(labels.service, labels.method),
		regions:  make([]atomic.Pointer[regionSeries], c.maxRegions+1),
	}
	t := *old
	t.series = maps.Clone(old.series)
	t.series[key] = s
	if _, known := old.services[key.service]; !known && key.service != otherLabel {
		t.services = maps.Clone(old.services)
		t.services[key.service] = struct{}{}
	}
	if key.method != otherLabel {
		t.methods++
	}
	c.table.Store(&t)
	return s
}

func (c *calls) counter(s *callSeries, region string, code uint32) prometheus.Counter {
	i := c.regionPlace(region)
	r := s.regions[i].Load()
	if r == nil {
		r = &regionSeries{label: otherLabel}
		if i > 0 {
			r.label = strings.Clone(region)
		}
		// Who comes second uses what the first one stored. Even two of them would count into the same metrics.
		if !s.regions[i].CompareAndSwap(nil, r) {
			r = s.regions[i].Load()
		}
	}
	code = min(code, uint32(len(codeNames)))
	n := r.codes[code].Load()
	if n == nil {
		status := otherLabel
		if code < uint32(len(codeNames)) {
			status = codeNames[code]
		}
		made := c.total.WithLabelValues(s.labels.service, s.labels.method, status, r.label)
		n = &made
		r.codes[code].Store(n)
	}
	return *n
}

func (c *calls) regionPlace(region string) int {
	t := c.table.Load()
	i, known := t.regions[region]
	if known || len(t.regions) >= c.maxRegions || !labelForm(region) {
		return i
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.table.Load()
	if i, known := old.regions[region]; known || len(old.regions) >= c.maxRegions {
		return i
	}
	grown := *old
	grown.regions = maps.Clone(old.regions)
	grown.regions[strings.Clone(region)] = len(grown.regions) + 1
	c.table.Store(&grown)
	return grown.regions[region]
}
