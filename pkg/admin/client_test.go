package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
)

func TestFetchGivesWhatWasServed(t *testing.T) {
	ready := admin.Readiness{Ready: true, Degraded: true, Reasons: []string{"the app is not healthy"}}
	addr := start(t, admin.Config{
		Status: func(context.Context) admin.Status { return cluster() },
		Ready:  func() admin.Readiness { return ready },
	})
	_, port, _ := net.SplitHostPort(addr)
	want := cluster()
	want.Readiness = ready
	for _, form := range []string{
		addr, ":" + port, "0.0.0.0:" + port, "[::]:" + port, "localhost:" + port, "http://" + addr, "http://" + addr + "/",
	} {
		got, err := admin.FetchStatus(t.Context(), form)
		if err != nil {
			t.Errorf("%s: %v", form, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", form, got, want)
		}
	}
}

// A newer flyproxy may say more.
func TestFetchIgnoresUnknownMembers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"self":{"version":"9.0.0","mood":"good"},"weather":{}}`)
	}))
	defer srv.Close()
	s, err := admin.FetchStatus(t.Context(), srv.URL)
	if err != nil || s.Self.Version != "9.0.0" {
		t.Errorf("%+v, %v", s.Self, err)
	}
}

func TestFetchErrorsSayWhatToDo(t *testing.T) {
	leakCheck(t)
	l := listen(t)
	closed := l.Addr().String()
	_ = l.Close()

	silent := listen(t)
	defer silent.Close()

	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hello") }))
	defer page.Close()
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for chunk := make([]byte, 1<<20); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer endless.Close()

	for _, c := range []struct{ name, addr, want string }{
		{"nothing there", closed, "no flyproxy admin listener at " + closed + ": is it running? (admin.listen, --addr)"},
		{"silent", silent.Addr().String(), "no answer from " + silent.Addr().String() + " in time"},
		{"another server", other.URL, "404 Not Found: is it flyproxy's admin listener?"},
		{"a web page", page.URL, "is no status of flyproxy"},
		{"without end", endless.URL, "larger than 64 MiB"},
		{"unknown name", "no-such-host.invalid:9052", "cannot be resolved"},
		{"no port", "localhost", `"localhost" is no address of an admin listener: it has the form host:port`},
		{"no address", "::1:9052", "is no address of an admin listener"},
		{"another scheme", "redis://localhost:6379", "is no address of an admin listener"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wait := 5 * time.Second
			if c.name == "silent" {
				wait = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			_, err := admin.FetchStatus(ctx, c.addr)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to say %q", err, c.want)
			}
			if c.addr == closed && !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v does not wrap its cause", err)
			}
		})
	}
}
