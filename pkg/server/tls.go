package server

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificateCheck is how often certificate files are looked at for a renewed
// one; certificates are renewed days before they lapse.
const certificateCheck = time.Minute

// TLSFiles are a certificate and its key as PEM files, with the flags that
// named them. Both empty is no TLS.
type TLSFiles struct {
	CertFlag, Cert string
	KeyFlag, Key   string
}

// Enabled says whether TLS is configured at all.
func (f TLSFiles) Enabled() bool { return f.Cert != "" || f.Key != "" }

// Config loads the files; nil where there are none. Renewed files are picked up
// within a minute; where a renewed one cannot be loaded the old one stays.
func (f TLSFiles) Config(now func() time.Time) (*tls.Config, error) {
	switch {
	case !f.Enabled():
		return nil, nil
	case f.Cert == "":
		return nil, fmt.Errorf("--%s needs --%s with the certificate", f.KeyFlag, f.CertFlag)
	case f.Key == "":
		return nil, fmt.Errorf("--%s needs --%s with the private key", f.CertFlag, f.KeyFlag)
	}
	c := &certificate{files: f, now: now}
	if err := c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

// certificate is the newest one that could be loaded.
type certificate struct {
	files TLSFiles
	now   func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	changed time.Time
	checked time.Time
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.checked) >= certificateCheck {
		c.checked = now
		if changed, err := c.modified(); err == nil && !changed.Equal(c.changed) {
			// A pair that is half written fails and is tried again a minute later.
			_ = c.load()
		}
	}
	return c.current, nil
}

func (c *certificate) load() error {
	changed, err := c.modified()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("--%s %s, --%s %s: %w; want a certificate and its private key as PEM",
			c.files.CertFlag, c.files.Cert, c.files.KeyFlag, c.files.Key, err)
	}
	c.current, c.changed, c.checked = &pair, changed, c.now()
	return nil
}

// modified is when either file changed last.
func (c *certificate) modified() (time.Time, error) {
	cert, err := os.Stat(c.files.Cert)
	if err != nil {
		return time.Time{}, fmt.Errorf("--%s: %w", c.files.CertFlag, err)
	}
	key, err := os.Stat(c.files.Key)
	if err != nil {
		return time.Time{}, fmt.Errorf("--%s: %w", c.files.KeyFlag, err)
	}
	if key.ModTime().After(cert.ModTime()) {
		return key.ModTime(), nil
	}
	return cert.ModTime(), nil
}
