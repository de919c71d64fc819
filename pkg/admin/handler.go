package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// The paths.
const (
	PathHealth  = "/health"
	PathReady   = "/ready"
	PathStatus  = "/cluster/status"
	PathMetrics = "/metrics"
)

var paths = [...]struct{ path, what string }{
	{PathHealth, "200 while the process is alive"},
	{PathReady, "200 once calls can be taken, else 503; says what is degraded, and why"},
	{PathStatus, "the cluster as this flyproxy sees it (JSON)"},
	{PathMetrics, "metrics for Prometheus"},
}

// Handler answers all paths. Only GET and HEAD are allowed: nothing here changes anything.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", s.serveIndex)
	mux.HandleFunc(PathHealth, s.serveHealth)
	mux.HandleFunc(PathReady, s.serveReady)
	mux.HandleFunc(PathStatus, s.serveStatus)
	mux.Handle(PathMetrics, s.cfg.Metrics)
	mux.HandleFunc("/", s.serveNotFound)
	return readOnly{mux}
}

type readOnly struct{ next http.Handler }

func (h readOnly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD: nothing here changes anything", http.StatusMethodNotAllowed)
		return
	}
	h.next.ServeHTTP(w, r)
}

func (s *Server) serveIndex(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "flyproxy\n\n"+index())
}

func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "ok\n")
}

func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	ready := s.readiness()
	code := http.StatusOK
	if !ready.Ready {
		code = http.StatusServiceUnavailable
	}
	s.writeJSON(w, code, ready)
}

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.StatusTimeout)
	defer cancel()
	status := s.cfg.Status(ctx)
	status.Readiness = s.readiness()
	if status.Instances == nil {
		status.Instances = []Instance{}
	}
	s.writeJSON(w, http.StatusOK, status)
}

func (s *Server) serveNotFound(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.Header.Get("Accept"), "application/json") {
		writeText(w, http.StatusNotFound, "not found; there are:\n"+index())
		return
	}
	body := struct {
		Error string   `json:"error"`
		Paths []string `json:"paths"`
	}{Error: "not found"}
	for _, p := range paths {
		body.Paths = append(body.Paths, p.path)
	}
	s.writeJSON(w, http.StatusNotFound, body)
}

func (s *Server) readiness() Readiness {
	ready := s.cfg.Ready()
	if ready.Reasons == nil {
		ready.Reasons = []string{}
	}
	return ready
}

func index() string {
	var b strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&b, "%-16s %s\n", p.path, p.what)
	}
	return b.String()
}

func writeText(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(body)) // a reader that went away is no fault of ours
}

func (s *Server) writeJSON(w http.ResponseWriter, code int, body any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	// It is encoded whole before the first byte goes out, so a failure can still be told.
	if err := e.Encode(body); err != nil {
		s.cfg.Logger.Error("admin answer cannot be encoded", "error", err)
		writeText(w, http.StatusInternalServerError, "the answer cannot be encoded: "+err.Error()+"\n")
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // as above
}
