package tlsfiles

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// What can be wrong with the contents of the files.
var (
	// ErrNoCertificate says that a file has no certificate in PEM.
	ErrNoCertificate = errors.New("no certificate in PEM (-----BEGIN CERTIFICATE-----)")
	// ErrCertificate says that a certificate cannot be read.
	ErrCertificate = errors.New("broken certificate")
	// ErrNoKey says that a file has no private key in PEM.
	ErrNoKey = errors.New("no private key in PEM (-----BEGIN PRIVATE KEY-----)")
	// ErrKey says that a private key cannot be read.
	ErrKey = errors.New("broken private key")
	// ErrEncryptedKey says that a private key needs a passphrase, for which there is nobody to ask.
	ErrEncryptedKey = errors.New("private key with a passphrase")
	// ErrMismatch says that the private key is not the certificate's.
	ErrMismatch = errors.New("private key of another certificate")
	// ErrHalfPair says that there is a certificate without a private key, or the other way round.
	ErrHalfPair = errors.New("a certificate and its private key go together")
)

// OfKey tells whether an error of [Pair] is about the private key and not about the certificate. That the two do not fit counts as
// the key's fault.
func OfKey(err error) bool {
	return errors.Is(err, ErrNoKey) || errors.Is(err, ErrKey) || errors.Is(err, ErrEncryptedKey) || errors.Is(err, ErrMismatch)
}

// Authorities reads certificates in PEM, one at the least. Other blocks are skipped.
func Authorities(text []byte) (*x509.CertPool, error) {
	all, err := certificates(text)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range all {
		pool.AddCert(c)
	}
	return pool, nil
}

func certificates(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: number %d: %w", ErrCertificate, len(all)+1, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, ErrNoCertificate
	}
	return all, nil
}

// Pair reads a certificate, which intermediate ones may follow, and its private key, all in PEM.
func Pair(cert, key []byte) (tls.Certificate, error) {
	all, err := certificates(cert)
	if err != nil {
		return tls.Certificate{}, err
	}
	private, err := privateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	public, ok := all[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(private.Public()) {
		return tls.Certificate{}, ErrMismatch
	}
	pair := tls.Certificate{PrivateKey: private, Leaf: all[0]}
	for _, c := range all {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair, nil
}

// privateKey reads the first private key. Those of elliptic curves often stand behind a block of parameters, which is skipped.
func privateKey(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" { // RFC 5958 §3, RFC 1421 §4.6.1.3
			return nil, ErrEncryptedKey
		}
		return parseKey(block.Bytes)
	}
	return nil, ErrNoKey
}

// parseKey reads the three forms in which private keys are written: PKCS #8 (RFC 5958), PKCS #1 (RFC 8017) and SEC 1 (RFC 5915).
func parseKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err == nil {
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("%w: it cannot sign", ErrKey)
		}
		return signer, nil
	}
	if rsa, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return rsa, nil
	}
	if ec, err := x509.ParseECPrivateKey(der); err == nil {
		return ec, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrKey, err)
}
