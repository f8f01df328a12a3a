package esdbserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"google.golang.org/grpc/metadata"

	"github.com/parleyhq/parley/pkg/credential"
)

// User may come in with name and password (Basic credentials).
type User struct {
	// Name is what clients log in with. It has no colon.
	Name string
	// PasswordHash is the password as credential.Hash makes it: `sha256:` and
	// 64 hexadecimal digits. It is made for passwords that cannot be guessed,
	// such as API keys.
	PasswordHash string
	// Tenant whose streams the user sees, `<tenant>.…` and their metadata, also
	// in $all. Empty: all streams.
	Tenant string
	// Write says that the user may append and delete.
	Write bool
}

// CheckUsers says all that is wrong with users.
func CheckUsers(users []User) error {
	_, err := checkUsers(users)
	return err
}

func checkUsers(users []User) (map[string]User, error) {
	byName := make(map[string]User, len(users))
	var errs []error
	for i, u := range users {
		digits, ok := strings.CutPrefix(u.PasswordHash, "sha256:")
		raw, err := hex.DecodeString(digits)
		switch {
		case u.Name == "" || strings.Contains(u.Name, ":"):
			errs = append(errs, fmt.Errorf("user %d (%q): the name must not be empty nor have a colon", i+1, u.Name))
		case !ok || err != nil || len(raw) != sha256.Size:
			errs = append(errs, fmt.Errorf("user %d (%q): password hash: want sha256: and 64 hexadecimal digits, as `parley key new` prints it", i+1, u.Name))
		case byName[u.Name].Name != "":
			errs = append(errs, fmt.Errorf("user %d (%q): another user has this name", i+1, u.Name))
		case u.Tenant != "":
			if err := credential.CheckTenant(u.Tenant); err != nil {
				errs = append(errs, fmt.Errorf("user %d (%q): %w", i+1, u.Name, err))
			}
		}
		u.PasswordHash = strings.ToLower(u.PasswordHash)
		byName[u.Name] = u
	}
	return byName, errors.Join(errs...)
}

// caller is on whose behalf a call is.
type caller struct {
	tenant string // empty: all
	write  bool
}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, ok := ctx.Value(callerKey{}).(caller)
	if !ok {
		// Nobody passed the interceptors.
		return stranger
	}
	return c
}

// stranger is a caller who owns nothing: no stream's name begins so.
var stranger = caller{tenant: "\x00"}

// owns says whether a stream, by its outside name, is a tenant's; everything is
// the empty tenant's.
func owns(tenant, name string) bool {
	if tenant == "" {
		return true
	}
	about, _ := subject(name)
	rest, ok := strings.CutPrefix(about, tenant)
	return ok && strings.HasPrefix(rest, ".")
}

func mayRead(ctx context.Context, name string) error {
	if !owns(callerOf(ctx).tenant, name) {
		return accessDenied("stream %q is not of the user's tenant", name)
	}
	return nil
}

func (s *Server) mayWrite(ctx context.Context, name string) error {
	c := callerOf(ctx)
	if !owns(c.tenant, name) {
		return accessDenied("stream %q is not of the user's tenant", name)
	}
	if !c.write {
		return accessDenied("the user may read only")
	}
	if about, _ := subject(name); s.cfg.ReadOnly != nil && s.cfg.ReadOnly(about) {
		return accessDenied("stream %q is read-only here: only Parley itself writes it", name)
	}
	return nil
}

// open are the methods that clients call before they log in.
var open = map[string]bool{
	gossip.Gossip_Read_FullMethodName:                                true,
	serverfeatures.ServerFeatures_GetSupportedMethods_FullMethodName: true,
}

// authenticate answers with the caller.
func (s *Server) authenticate(ctx context.Context, method string) (caller, error) {
	if len(s.users) == 0 {
		return caller{write: true}, nil
	}
	if open[method] {
		return stranger, nil
	}
	header := ""
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		if values := md.Get("authorization"); len(values) > 0 {
			header = values[0]
		}
	}
	name, password, ok := basic(header)
	if !ok {
		return caller{}, &replyError{reason: reasonUnauthenticated, message: "log in with name and password (Basic credentials; the official clients send them over TLS only)"}
	}
	user, known := s.users[name]
	if !known {
		// It takes as long, so that nobody learns which users there are.
		user.PasswordHash = noHash
	}
	if subtle.ConstantTimeCompare([]byte(credential.Hash(password)), []byte(user.PasswordHash)) != 1 {
		return caller{}, &replyError{reason: reasonUnauthenticated, message: "unknown user or wrong password"}
	}
	return caller{tenant: user.Tenant, write: user.Write}, nil
}

// noHash is no password's.
var noHash = "sha256:" + strings.Repeat("0", 2*sha256.Size)

// basic reads an Authorization header.
func basic(header string) (name, password string, ok bool) {
	const scheme = "basic "
	if len(header) <= len(scheme) || len(header) > 2*credential.MaxBytes || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "", "", false
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(header[len(scheme):]))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(raw), ":")
}
