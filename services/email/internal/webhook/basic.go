package webhook

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"github.com/parleyhq/parley/pkg/config"
)

// BasicAuth is user and password that a vendor puts into the URL of a webhook
// (https://user:password@host/…), and so into the Authorization header.
type BasicAuth struct {
	User     string
	Password config.Secret
}

// check compares digests in constant time, so that not even lengths show. Nil
// admits everybody: the URL is then the only secret. A password that is empty
// admits nobody.
func (b *BasicAuth) check(v Vendor, authorization string) error {
	if b == nil {
		return nil
	}
	if b.Password == "" {
		return &CredentialsError{Vendor: v, Reason: ReasonUnconfigured}
	}
	if authorization == "" {
		return &CredentialsError{Vendor: v, Reason: ReasonMissing}
	}
	r := http.Request{Header: http.Header{"Authorization": {authorization}}}
	user, password, ok := r.BasicAuth()
	if !ok {
		return &CredentialsError{Vendor: v, Reason: ReasonWrong}
	}
	gotUser, gotPassword := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(password))
	wantUser, wantPassword := sha256.Sum256([]byte(b.User)), sha256.Sum256([]byte(b.Password.Reveal()))
	same := subtle.ConstantTimeCompare(gotUser[:], wantUser[:]) & subtle.ConstantTimeCompare(gotPassword[:], wantPassword[:])
	if same != 1 {
		return &CredentialsError{Vendor: v, Reason: ReasonWrong}
	}
	return nil
}
