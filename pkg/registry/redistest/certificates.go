package redistest

import (
	"crypto/tls"
	"path/filepath"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/tlsfiles/tlstest"
)

// ServerName is the name in the certificate of a server with TLS.
const ServerName = "redis.test"

// certificates writes an authority (ca.pem) and a certificate that it signed (server.pem, server.key) into dir, and gives what a
// client needs.
func certificates(t testing.TB, dir string) (client *tls.Config, caFile string) {
	t.Helper()
	authority := tlstest.NewAuthority(t, "redistest authority")
	cert, key := authority.Issue(ServerName, "127.0.0.1")
	caFile = filepath.Join(dir, "ca.pem")
	tlstest.Write(t, caFile, authority.PEM())
	tlstest.Write(t, filepath.Join(dir, "server.pem"), cert)
	tlstest.Write(t, filepath.Join(dir, "server.key"), key)
	return &tls.Config{RootCAs: authority.Pool(), ServerName: ServerName, MinVersion: tls.VersionTLS12}, caFile
}
