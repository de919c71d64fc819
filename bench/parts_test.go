package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHistogramQuantiles(t *testing.T) {
	var h, half histogram
	var all []time.Duration
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 20_000 {
		d := time.Duration(random.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		if i%2 == 0 {
			h.record(d)
		} else {
			half.record(d)
		}
	}
	h.add(&half)
	slices.Sort(all)
	for _, q := range []float64{0.5, 0.99, 0.999} {
		want := all[int(q*float64(len(all)))-1]
		if got := h.quantile(q); got < want || float64(got-want) > float64(want)/100 {
			t.Errorf("quantile %v is %v, want %v to within 1 %%", q, got, want)
		}
	}
}

func TestHistogramBuckets(t *testing.T) {
	for _, v := range []uint64{0, 1, 255, 256, 257, 511, 512, 1 << 20, 1<<20 + 12345, 1<<longest - 1} {
		i := bucketOf(v)
		if top := bucketTop(i); top < v || bucketOf(top) != i || bucketOf(top+1) != i+1 {
			t.Errorf("%d is in bucket %d, whose top is %d", v, i, top)
		}
	}
	var h histogram
	h.record(time.Hour) // more than it tells apart
	h.record(-1)
	if h.total != 2 {
		t.Errorf("counted %d of 2", h.total)
	}
}

func TestParseStatWithAnyName(t *testing.T) {
	got, err := parseStat([]byte("42 (a) b (c)) S 7 1 1 0 -1 4194304 100 0 0 0 11 22 33 44 20 0 5 0 1 1 1"))
	if want := (processStat{parent: 7, cpu: 110 * tick}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := parseStat([]byte("42 (a) S")); err == nil {
		t.Error("a line that is cut short is no error")
	}
}

func TestReadUsageOfOurselves(t *testing.T) {
	needHost(t)
	before, err := readUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < 5*time.Second; {
		now, err := readUsage(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if now.cpu >= before.cpu+3*tick && now.resident > 1<<20 {
			return
		}
	}
	t.Error("5 s of work took no CPU time")
}

// echoServer answers each connection with what it says until it says no more.
func echoServer(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	go acceptEchoes(lis)
	return lis.Addr().String()
}

func acceptEchoes(lis net.Listener) {
	for {
		c, err := lis.Accept()
		if err != nil {
			return
		}
		go echoBytes(c)
	}
}

func echoBytes(c net.Conn) {
	_, _ = io.Copy(c, c)
	_ = c.Close()
}

func TestDelayerHoldsBackEveryByteAndTheEnd(t *testing.T) {
	const roundTrip = 60 * time.Millisecond
	d, err := newDelayer(echoServer(t), roundTrip)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	c, err := net.Dial("tcp", d.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := bytes.Repeat([]byte("0123456789"), 100_000)
	began := time.Now()
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		written <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < roundTrip {
		t.Errorf("the first byte was back after %v", took)
	}
	rest, err := io.ReadAll(c)
	if err := errors.Join(err, <-written); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(first, rest...), sent) {
		t.Errorf("%d other bytes came back than the %d that were sent", len(rest)+1, len(sent))
	}
}

func TestDelayerCloseEndsOpenConnections(t *testing.T) {
	d, err := newDelayer(echoServer(t), time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", d.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil { // returns when its goroutines have ended
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is still open: %v", err)
	}
}

// someResults are two rounds with two proxies, of which one fails a cell.
func someResults() *results {
	r := &results{
		Plan: "reduced", Rounds: 2, Connections: 1, Subjects: []string{direct, "flyproxy-grpc", "haproxy"},
		Versions: map[string]string{"haproxy": "2.6"}, LeftOut: []string{"nginx: not installed"},
	}
	for round := 1; round <= 2; round++ {
		for i, id := range r.Subjects {
			for _, cell := range []string{"unary-64-100B", "unary-64-16KiB"} {
				s := sample{Cell: cell, Subject: id, Round: round, Calls: 1000, Took: time.Second,
					CPU: time.Duration(i*100*round) * time.Millisecond, P50: time.Millisecond}
				if id == "haproxy" && cell == "unary-64-16KiB" && round == 2 {
					s.Errors, s.Failure = 1, "broke"
				}
				r.Samples = append(r.Samples, s)
			}
		}
	}
	return r
}

func TestPageKeepsNotes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, pageName)
	if err := writePage(dir, someResults()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), noNotes) {
		t.Error("a new page has no place for notes")
	}
	edited := strings.Replace(string(text), noNotes, "\nIt lost because.\n", 1)
	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writePage(dir, someResults()); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != edited {
		t.Errorf("written anew from the same results, the page is another:\n%s", again)
	}
	if err := os.WriteFile(file, []byte("# Mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writePage(dir, someResults()); err == nil {
		t.Error("a page without the notes' place was overwritten")
	}
}

func TestPageShowsMediansAndFailures(t *testing.T) {
	text := string(page(newTable(someResults()), noNotes))
	for _, want := range []string{
		"This is a reduced run",
		"Left out: nginx: not installed.",
		// 100 and 200 ms for 1000 calls; 200 and 400 ms.
		"| flyproxy, engine grpc | – | – | 150.0 | – |",
		"| HAProxy | – | – | 300.0 | – |",
		"| HAProxy | – | – | failed | – |",
		"| Unary calls of 100 B, 64 at a time | – | 0.50 | – | 1.00 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
}

// CPU time comes in ticks: a figure made of one or two of them would be made of chance.
func TestTooLittleCPUIsNotTold(t *testing.T) {
	r := someResults()
	for i := range r.Samples {
		if r.Samples[i].Subject == "haproxy" {
			r.Samples[i].CPU = leastCPU - tick
		}
	}
	text := string(page(newTable(r), noNotes))
	for _, want := range []string{
		"| HAProxy | – | – | too little | – |",
		"| Unary calls of 100 B, 64 at a time | – | – | – | 1.00 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if svg := string(chart(newTable(r))); strings.Contains(svg, "NaN") {
		t.Errorf("the chart draws what is not known:\n%s", svg)
	}
}

func TestChartIsXML(t *testing.T) {
	svg := chart(newTable(someResults()))
	var texts []string
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v:\n%s", err, svg)
		}
		if chars, ok := token.(xml.CharData); ok {
			texts = append(texts, strings.TrimSpace(string(chars)))
		}
	}
	for _, want := range []string{"HAProxy", "flyproxy, engine grpc", "150.0", "300.0"} {
		if !slices.Contains(texts, want) {
			t.Errorf("the chart lacks %q: %q", want, texts)
		}
	}
}

func TestUsageFaults(t *testing.T) {
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"-subjects", "traefik"}, `-subjects: there is no "traefik"; there are direct,`},
		{[]string{"-cells", "unary"}, `-cells: there is no "unary"`},
		{[]string{"-connections", "0"}, "1 to 100"},
		{[]string{"now"}, `unexpected argument "now"`},
		{[]string{"-fast"}, "flag provided but not defined"},
	} {
		var said strings.Builder
		if code := start(tc.args, &said); code != 64 || !strings.Contains(said.String(), tc.says) {
			t.Errorf("%q: exit code %d, said %q, want 64 and %q", tc.args, code, said.String(), tc.says)
		}
	}
}

// A choice of cells does not replace a whole page by a part of one, unless told where to write.
func TestPartsAreNotPublished(t *testing.T) {
	for _, tc := range []struct {
		args []string
		out  string
	}{
		{nil, "docs"},
		{[]string{"-reduced"}, "docs"},
		{[]string{"-cells", "bulk"}, "-"},
		{[]string{"-cells", "bulk", "-out", "x"}, "x"},
		{[]string{"-short"}, "-"},
	} {
		o, err := parse(tc.args, io.Discard)
		if err != nil || o.out != tc.out {
			t.Errorf("%q: writes to %q, %v; want %q", tc.args, o.out, err, tc.out)
		}
	}
}
