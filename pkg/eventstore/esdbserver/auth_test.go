package esdbserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/credential"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
)

func TestReadOnlyStreamsAreReadOnly(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{ReadOnly: func(stream string) bool { return strings.HasPrefix(stream, "acme.") }})
	_, err := f.store.Append(t.Context(), "acme.ticket-1", eventstore.NoStream, eventstore.NewRecord{ID: uuid.New(), Type: "t"})
	require.NoError(t, err)
	_, err = f.client.AppendToStream(f.ctx, "acme.ticket-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, event("x"))
	f.fails(err, esdb.ErrorCodeAccessDenied, "")
	_, err = f.client.DeleteStream(f.ctx, "acme.ticket-1", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
	f.fails(err, esdb.ErrorCodeAccessDenied, "")
	_, err = f.client.TombstoneStream(f.ctx, "acme.ticket-1", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}})
	f.fails(err, esdb.ErrorCodeAccessDenied, "")
	_, err = f.client.SetStreamMetadata(f.ctx, "acme.ticket-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, esdb.StreamMetadata{})
	f.fails(err, esdb.ErrorCodeAccessDenied, "")
	var trailer metadata.MD
	_, err = f.raw.Delete(f.ctx, &streams.DeleteReq{Options: &streams.DeleteReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("acme.ticket-1")},
		ExpectedStreamRevision: &streams.DeleteReq_Options_Any{},
	}}, grpc.Trailer(&trailer))
	require.Equal(t, codes.PermissionDenied, status.Code(err))
	require.Equal(t, []string{"access-denied"}, trailer.Get("exception"))
	require.Len(t, f.all(f.client.ReadStream(f.ctx, "acme.ticket-1", esdb.ReadStreamOptions{}, 9)), 1)
	f.append("acme", esdb.NoStream{}, event("not of it"))
}

// secure serves with TLS and users, and answers with the connection string but
// for the login.
func secure(t *testing.T, store eventstore.Store, users ...esdbserver.User) (url string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots = x509.NewCertPool()
	roots.AddCert(cert)
	url = esdbservertest.Start(t, esdbserver.Config{Store: store, Users: users},
		grpc.Creds(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12,
		})))
	return strings.TrimSuffix(url, "?tls=false"), roots
}

func (f *fixture) login(url string, roots *x509.CertPool, login string) *esdb.Client {
	f.Helper()
	settings, err := esdb.ParseConnectionString(strings.Replace(url, "esdb://", "esdb://"+login, 1))
	require.NoError(f, err)
	settings.RootCAs = roots
	settings.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(settings)
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, client.Close()) })
	return client
}

func TestUsers(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	url, roots := secure(t, store,
		esdbserver.User{Name: "ops", PasswordHash: credential.Hash("secret"), Write: true},
		esdbserver.User{Name: "reader", PasswordHash: credential.Hash("other")},
		esdbserver.User{Name: "acme", PasswordHash: credential.Hash("third"), Tenant: "acme", Write: true},
	)
	f := &fixture{TB: t, ctx: t.Context(), store: store}
	for name, login := range map[string]string{
		"nobody": "", "unknown": "who:secret@", "wrong password": "ops:other@", "no password": "ops:@",
	} {
		client := f.login(url, roots, login)
		_, err := client.AppendToStream(f.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, event("x"))
		require.Equal(t, codes.Unauthenticated, status.Code(cause(err)), "%s: %v", name, err)
		_, err = collect(client.ReadAll(f.ctx, esdb.ReadAllOptions{}, 1))
		f.fails(err, esdb.ErrorCodeUnauthenticated, "")
	}

	f.client = f.login(url, roots, "ops:secret@")
	for _, stream := range []string{"acme.a", "acme2.b", "globex.c", "acme"} {
		f.append(stream, esdb.NoStream{}, event(stream))
		var meta esdb.StreamMetadata
		meta.SetMaxCount(9)
		_, err := f.client.SetStreamMetadata(f.ctx, stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, meta)
		require.NoError(t, err)
	}
	link := func(to string) esdb.EventData {
		return esdb.EventData{EventID: uuid.New(), EventType: "$>", ContentType: esdb.ContentTypeBinary, Data: []byte("0@" + to)}
	}
	f.append("acme.links", esdb.NoStream{}, link("acme.a"), link("globex.c"))

	reader := f.login(url, roots, "reader:other@")
	require.Len(t, f.all(reader.ReadAll(f.ctx, esdb.ReadAllOptions{}, 100)), 10)
	_, err := reader.AppendToStream(f.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, event("x"))
	f.fails(err, esdb.ErrorCodeAccessDenied, "")

	acme := f.login(url, roots, "acme:third@")
	want := []string{
		"0 acme.a acme.a", `0 $$acme.a {"$maxCount":9}`, "0 acme.links 0@acme.a", "1 acme.links 0@globex.c",
	}
	require.Equal(t, want, f.texts(acme.ReadAll(f.ctx, esdb.ReadAllOptions{}, 100)))
	sub := f.subscribed(acme.SubscribeToAll(f.ctx, esdb.SubscribeToAllOptions{
		From: esdb.Start{}, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"acme", "globex"}},
	}))
	require.Equal(t, []string{want[0], want[2], want[3]}, sub.take(3))
	for _, stream := range []string{"globex.c", "acme", "acme2.b", "$$globex.c"} {
		_, err := collect(acme.ReadStream(f.ctx, stream, esdb.ReadStreamOptions{}, 1))
		f.fails(err, esdb.ErrorCodeAccessDenied, "")
		_, err = acme.AppendToStream(f.ctx, stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, event("x"))
		f.fails(err, esdb.ErrorCodeAccessDenied, "")
	}
	resolved := f.all(acme.ReadStream(f.ctx, "acme.links", esdb.ReadStreamOptions{ResolveLinkTos: true}, 9))
	require.Equal(t, "acme.a", resolved[0].Event.StreamID)
	require.Nil(t, resolved[1].Event, "it leads to another tenant")
	require.Equal(t, "acme.links", resolved[1].Link.StreamID)
}

func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	good := esdbserver.User{Name: "u", PasswordHash: credential.Hash("p")}
	for name, tc := range map[string]struct {
		cfg  esdbserver.Config
		want string
	}{
		"no store":     {esdbserver.Config{Advertise: "127.0.0.1:1"}, "no store"},
		"no address":   {esdbserver.Config{Store: store}, "host:port"},
		"no port":      {esdbserver.Config{Store: store, Advertise: "localhost"}, "host:port"},
		"port 0":       {esdbserver.Config{Store: store, Advertise: "localhost:0"}, "host:port"},
		"clear":        {esdbserver.Config{Users: []esdbserver.User{{Name: "u", PasswordHash: "secret"}}}, "parley key new"},
		"no name":      {esdbserver.Config{Users: []esdbserver.User{{PasswordHash: good.PasswordHash}}}, "name"},
		"colon":        {esdbserver.Config{Users: []esdbserver.User{{Name: "a:b", PasswordHash: good.PasswordHash}}}, "colon"},
		"twice":        {esdbserver.Config{Users: []esdbserver.User{good, good}}, "another user"},
		"odd tenant":   {esdbserver.Config{Users: []esdbserver.User{{Name: "u", PasswordHash: good.PasswordHash, Tenant: "A-B"}}}, "tenant"},
		"kept by us":   {esdbserver.Config{Users: []esdbserver.User{{Name: "u", PasswordHash: good.PasswordHash, Tenant: "operations"}}}, "kept"},
		"short digest": {esdbserver.Config{Users: []esdbserver.User{{Name: "u", PasswordHash: "sha256:00"}}}, "hash"},
	} {
		if len(tc.cfg.Users) > 0 {
			tc.cfg.Store, tc.cfg.Advertise = store, "127.0.0.1:1"
		}
		_, err := esdbserver.New(tc.cfg)
		require.ErrorContains(t, err, tc.want, name)
	}
}

func TestMalformedLogins(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{Users: []esdbserver.User{{Name: "u", PasswordHash: credential.Hash("p:q")}}})
	for header, want := range map[string]codes.Code{
		"":         codes.Unauthenticated,
		"Basic":    codes.Unauthenticated,
		"Basic !!": codes.Unauthenticated,
		"Bearer " + base64.StdEncoding.EncodeToString([]byte("u:p:q")): codes.Unauthenticated,
		"Basic " + base64.StdEncoding.EncodeToString([]byte("up")):     codes.Unauthenticated,
		"Basic " + strings.Repeat("A", 4096):                           codes.Unauthenticated,
		"basic " + base64.StdEncoding.EncodeToString([]byte("u:p:q")):  codes.OK,
	} {
		ctx := metadata.AppendToOutgoingContext(f.ctx, "authorization", header)
		var trailer metadata.MD
		call, err := f.raw.Read(ctx, readOptions(func(*streams.ReadReq_Options) {}), grpc.Trailer(&trailer))
		require.NoError(t, err)
		_, err = call.Recv()
		if want == codes.OK {
			require.ErrorContains(t, err, "EOF")
			continue
		}
		require.Equal(t, want, status.Code(err), header)
		require.Equal(t, []string{"not-authenticated"}, trailer.Get("exception"))
	}
}
