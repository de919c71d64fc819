// Package tlsfiles keeps a TLS configuration in step with the files that it is made of: certificate authorities, a certificate and its
// private key, which somebody else renews while we run. [Client] is for who connects, [Server] for who accepts.
//
// Nothing watches the files. They are looked at when a handshake needs them, which is rare, and read again if they have changed.
// So there is no goroutine to end and no event to miss, and a file that is replaced by a rename, as most tools do, is no special
// case. What a handshake was begun with stays in force for its connection.
package tlsfiles

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// racy is how long after its last change a file is read again although it looks unchanged. A second change within one tick of the
// file system's clock leaves size and time as they are, and such a tick may be as long as 2 s.
const racy = 3 * time.Second

// watched are the files of one side, and what was last made of them. Its method TLS may be called concurrently.
type watched struct {
	log *slog.Logger
	// names are the files by the keys under which the log has them, in turns.
	names []any
	// make makes a configuration of what was read.
	make func(seen *[3]version) (*tls.Config, error)

	// mu guards the fields below and is held while the files are read, so that handshakes which follow a change have it.
	mu      sync.Mutex
	current *tls.Config
	seen    [3]version // of the authorities', the certificate's and the key's file, as they were last read
	trouble string     // the fault that was last logged, until the files are good again
}

// The places in watched.seen.
const (
	authorities = iota
	certificate
	key
)

// version is one state of a file.
type version struct {
	path  string
	info  os.FileInfo // nil when there is none: not read yet, or not there
	bytes []byte
}

// begin reads the files for the first time. Its error says which of them is not as it should be.
func (w *watched) begin(log *slog.Logger, caFile, certFile, keyFile string) error {
	w.log, w.seen = log, [3]version{{path: caFile}, {path: certFile}, {path: keyFile}}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if (certFile == "") != (keyFile == "") {
		return ErrHalfPair
	}
	if _, err := w.read(); err != nil {
		return err
	}
	made, err := w.make(&w.seen)
	if err != nil {
		return err
	}
	w.current = made
	return nil
}

// TLS gives the configuration for one handshake, which belongs to the caller. Files that have changed are read first. They are taken
// together or, as long as one of them is missing or does not fit the others, not at all: then the last good ones stay in force.
func (w *watched) TLS() *tls.Config {
	w.mu.Lock()
	said, err := w.refreshLocked()
	made := w.current.Clone()
	w.mu.Unlock()
	switch {
	case err != nil:
		w.log.Error("the TLS files have changed, and cannot be used; the ones from before stay in force until this is put right", "error", err)
	case said:
		w.log.Info("the TLS files have changed: new connections use the new ones", w.names...)
	}
	return made
}

// refreshLocked takes what has changed. It gives what is worth a line in the log: that something was taken, or why not.
func (w *watched) refreshLocked() (taken bool, worth error) {
	changed, err := w.read()
	if err == nil && !changed && w.trouble == "" {
		return false, nil
	}
	var made *tls.Config
	if err == nil {
		made, err = w.make(&w.seen)
	}
	if err != nil {
		if err.Error() == w.trouble {
			return false, nil
		}
		w.trouble = err.Error()
		return false, err
	}
	w.trouble = ""
	w.current = made
	return true, nil
}

// read reads the files that may have changed, and tells whether one has.
func (w *watched) read() (changed bool, err error) {
	for i := range w.seen {
		v := &w.seen[i]
		if v.path == "" {
			continue
		}
		one, readErr := v.read(time.Now())
		changed = changed || one
		if readErr != nil && err == nil {
			err = readErr
		}
	}
	return changed, err
}

// read reads the file again if it is not, or may not be, the one that was read last.
func (v *version) read(now time.Time) (changed bool, err error) {
	info, err := os.Stat(v.path)
	if err != nil {
		v.info = nil
		return false, err
	}
	if v.info != nil && os.SameFile(v.info, info) && v.info.Size() == info.Size() && v.info.ModTime().Equal(info.ModTime()) &&
		now.Sub(info.ModTime()).Abs() > racy {
		return false, nil
	}
	content, err := os.ReadFile(v.path)
	if err != nil {
		v.info = nil
		return false, err
	}
	changed = !bytes.Equal(content, v.bytes)
	v.info, v.bytes = info, content
	return changed, nil
}

// pair is the certificate that was read, with its key; an empty one where none is named.
func pair(seen *[3]version) (tls.Certificate, error) {
	cert, private := &seen[certificate], &seen[key]
	if cert.path == "" {
		return tls.Certificate{}, nil
	}
	made, err := Pair(cert.bytes, private.bytes)
	if OfKey(err) {
		return tls.Certificate{}, fmt.Errorf("%s: %w", private.path, err)
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", cert.path, err)
	}
	return made, nil
}
