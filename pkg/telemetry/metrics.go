package telemetry

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Defaults of a [MetricsConfig]. Fly has some twenty regions, and an app rarely more than a few dozen methods.
const (
	DefaultMaxMethods  = 200
	DefaultMaxServices = 64
	DefaultMaxRegions  = 64
)

// maxScrapes is how many scrapes are answered at once; more get 503.
const maxScrapes = 4

// MetricsConfig is what a Metrics is made of.
type MetricsConfig struct {
	// Version and Revision are our own, for flyproxy_build_info.
	Version, Revision string
	// Mode is what this process is, for flyproxy_build_info: sidecar or gateway.
	Mode string
	// MaxMethods bounds the pairs of service and method with labels of their own; the rest counts as method "other". Names seen
	// only in calls that failed get the first half of the places. 0 means [DefaultMaxMethods].
	MaxMethods int
	// MaxServices bounds the services with a label of their own, in the same way. 0 means [DefaultMaxServices].
	MaxServices int
	// MaxRegions bounds the regions with a label of their own. 0 means [DefaultMaxRegions].
	MaxRegions int
	// RegistryErrorKind names the kind of a registry's error, from a small fixed set; an empty name means that it is no error to
	// be counted. Nil counts all as "other".
	RegistryErrorKind func(error) string
	// Logger is told of scrapes that failed; it may be nil.
	Logger *slog.Logger
}

// Metrics holds the metrics of one process in a registry of its own. All methods may be called concurrently.
type Metrics struct {
	cfg      MetricsConfig
	registry *prometheus.Registry
	calls    *calls
	window   *Window

	registryDuration *prometheus.HistogramVec
	registryErrors   *prometheus.CounterVec
}

// durationBuckets are for calls and for registry commands alike, in seconds, in steps of 2 to 2.5: a call inside a Machine or a
// region takes around 1 ms, one across the world up to 0.3 s plus the app's own time, and 10 s is the usual longest deadline.
// Below 0.5 ms it is the scheduler that is measured; beyond 10 s it is a stream, whose duration says little.
func durationBuckets() []float64 {
	return []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

// NewMetrics makes the metrics, with those of the Go runtime and of the process.
func NewMetrics(cfg MetricsConfig) *Metrics {
	if cfg.MaxMethods <= 0 {
		cfg.MaxMethods = DefaultMaxMethods
	}
	if cfg.MaxServices <= 0 {
		cfg.MaxServices = DefaultMaxServices
	}
	if cfg.MaxRegions <= 0 {
		cfg.MaxRegions = DefaultMaxRegions
	}
	if cfg.RegistryErrorKind == nil {
		cfg.RegistryErrorKind = func(error) string { return otherLabel }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Metrics{
		cfg:      cfg,
		registry: prometheus.NewRegistry(),
		calls:    newCalls(&cfg),
		window:   NewWindow(),
		registryDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flyproxy_registry_duration_seconds",
			Help:    "Time that one operation on the registry took, whether it failed or not.",
			Buckets: durationBuckets(),
		}, []string{"op"}),
		registryErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flyproxy_registry_errors_total",
			Help: "Operations on the registry that failed, by operation and kind of error.",
		}, []string{"op", "kind"}),
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "flyproxy_build_info",
		Help: "Always 1; the labels say which flyproxy this is.",
		ConstLabels: prometheus.Labels{
			"version": labelValue(cfg.Version), "revision": labelValue(cfg.Revision), "go_version": runtime.Version(),
			"mode": labelValue(cfg.Mode),
		},
	}, func() float64 { return 1 })
	inFlight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "flyproxy_calls_in_flight",
		Help: "Calls that are open now.",
	}, func() float64 { return float64(m.window.InFlight()) })
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.calls.total, m.calls.duration, m.registryDuration, m.registryErrors, build, inFlight,
	)
	return m
}

// CallStarted counts a call as open. Each is followed by exactly one CallEnded.
func (m *Metrics) CallStarted() { m.window.Started() }

// CallEnded counts a call that ended. Method is the full method (/package.Service/Method), code the gRPC status, peerRegion the
// region of the peer that answered, empty when there was none or it is not known. It allocates only when it sees names or a
// status for the first time.
func (m *Metrics) CallEnded(service, method string, code uint32, peerRegion string, d time.Duration) {
	m.window.Ended(d, code != 0)
	m.calls.ended(service, method, code, peerRegion, d)
}

// Window sums up the recent calls. Who sends heartbeats rolls it.
func (m *Metrics) Window() *Window { return m.window }

// ObserveRegistry counts one operation on the registry; op is one of a fixed set of names.
func (m *Metrics) ObserveRegistry(op string, d time.Duration, err error) {
	m.registryDuration.WithLabelValues(op).Observe(d.Seconds())
	if err == nil {
		return
	}
	if kind := m.cfg.RegistryErrorKind(err); kind != "" {
		m.registryErrors.WithLabelValues(op, kind).Inc()
	}
}

// Registry is where the metrics are registered; it is never Prometheus' default one.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler serves the metrics to Prometheus. What one collector fails to give does not keep back the rest.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            scrapeLog{m.cfg.Logger},
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	})
}

type scrapeLog struct{ log *slog.Logger }

func (l scrapeLog) Println(v ...any) {
	l.log.Warn("scrape of our metrics failed", "error", fmt.Sprint(v...))
}
