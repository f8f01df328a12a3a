package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/credential"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/server"
	"github.com/parleyhq/parley/pkg/tenant"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// customers is a service whose answers the test chooses.
type customers struct {
	customerv1.UnimplementedCustomerServiceServer
	get   func(context.Context, *customerv1.GetCustomerRequest) (*customerv1.GetCustomerResponse, error)
	watch func(*customerv1.WatchCustomerRequest, grpc.ServerStreamingServer[customerv1.WatchCustomerResponse]) error
}

func (c *customers) GetCustomer(ctx context.Context, r *customerv1.GetCustomerRequest) (*customerv1.GetCustomerResponse, error) {
	return c.get(ctx, r)
}

func (c *customers) WatchCustomer(r *customerv1.WatchCustomerRequest, s grpc.ServerStreamingServer[customerv1.WatchCustomerResponse]) error {
	return c.watch(r, s)
}

// check wants an id of at least one character.
func check(m proto.Message) []rpcerr.Violation {
	if r, ok := m.(interface{ GetCustomerId() string }); ok && r.GetCustomerId() == "" {
		return []rpcerr.Violation{{Field: "customer_id", Rule: "string.min_len", Message: "must not be empty"}}
	}
	return nil
}

type fixture struct {
	server   *server.GRPC
	registry *prometheus.Registry
	addr     string
	conn     *grpc.ClientConn
	client   customerv1.CustomerServiceClient
}

// start serves the service until the test ends.
func start(t *testing.T, service *customers, change func(*server.GRPCConfig)) *fixture {
	t.Helper()
	f := &fixture{registry: prometheus.NewRegistry()}
	cfg := server.GRPCConfig{
		Logger: quiet(), Registry: f.registry, Check: check,
		Anonymous: tenant.Identity{Tenant: "default", Source: "grpc", Scopes: tenant.All},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	f.server, err = server.NewGRPC(cfg)
	require.NoError(t, err)
	customerv1.RegisterCustomerServiceServer(f.server.Registrar(tenant.Read), service)
	lis, err := server.Address{Flag: "grpc-listen", Addr: "127.0.0.1:0"}.Listen(t.Context())
	require.NoError(t, err)
	f.addr = lis.Addr().String()
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(lis) }()
	f.conn, err = grpc.NewClient(f.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	f.client = customerv1.NewCustomerServiceClient(f.conn)
	t.Cleanup(func() {
		require.NoError(t, f.conn.Close())
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		f.server.Stop(ctx)
		require.NoError(t, <-served)
	})
	f.server.Ready()
	return f
}

func (f *fixture) count(t *testing.T, code codes.Code) float64 {
	t.Helper()
	families, err := f.registry.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, family := range families {
		if family.GetName() != "parley_grpc_requests_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "code" && l.GetValue() == code.String() {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

func TestCallsWithoutKeysAreTheAnonymousTenants(t *testing.T) {
	t.Parallel()
	f := start(t, &customers{get: func(ctx context.Context, r *customerv1.GetCustomerRequest) (*customerv1.GetCustomerResponse, error) {
		id, ok := tenant.From(ctx)
		if !ok {
			return nil, errors.New("no identity")
		}
		if _, ok := ctx.Deadline(); !ok {
			return nil, errors.New("no deadline")
		}
		return &customerv1.GetCustomerResponse{Customer: &customerv1.Customer{CustomerId: r.GetCustomerId(), DisplayName: id.Tenant}}, nil
	}}, nil)
	resp, err := f.client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{CustomerId: "c"})
	require.NoError(t, err)
	require.Equal(t, "default", resp.GetCustomer().GetDisplayName())
	require.InDelta(t, 1, f.count(t, codes.OK), 0)
}

func TestErrorsComeBackTyped(t *testing.T) {
	t.Parallel()
	answer := map[string]error{
		"typed":   rpcerr.New(codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, "no such customer"),
		"store":   fmt.Errorf("read rows: %w", eventstore.ErrUnavailable),
		"unknown": errors.New("secret detail"),
	}
	f := start(t, &customers{get: func(_ context.Context, r *customerv1.GetCustomerRequest) (*customerv1.GetCustomerResponse, error) {
		if err := answer[r.GetCustomerId()]; err != nil {
			return nil, err
		}
		panic("out of range: secret detail")
	}}, nil)
	for _, tc := range []struct {
		id     string
		code   codes.Code
		reason errorv1.Reason
	}{
		{"typed", codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND},
		{"store", codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE},
		{"unknown", codes.Internal, errorv1.Reason_REASON_INTERNAL},
		{"panic", codes.Internal, errorv1.Reason_REASON_INTERNAL},
		{"", codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD},
	} {
		_, err := f.client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{CustomerId: tc.id})
		require.Equal(t, tc.code, rpcerr.CodeOf(err), tc.id)
		require.Equal(t, tc.reason, rpcerr.ReasonOf(err), tc.id)
		require.NotContains(t, err.Error(), "secret")
		if tc.id == "" {
			require.Equal(t, []rpcerr.Violation{{Field: "customer_id", Rule: "STRING_MIN_LEN", Message: "must not be empty"}}, rpcerr.ViolationsOf(err))
		}
	}
	require.InDelta(t, 2, f.count(t, codes.Internal), 0, "the panic counts too")
	require.NoError(t, testutil.GatherAndCompare(f.registry, strings.NewReader(`
# HELP parley_grpc_panics_total Handlers that panicked: each a defect.
# TYPE parley_grpc_panics_total counter
parley_grpc_panics_total 1
# HELP parley_grpc_requests_in_flight Calls being answered.
# TYPE parley_grpc_requests_in_flight gauge
parley_grpc_requests_in_flight{method="/parley.customer.v1.CustomerService/GetCustomer"} 0
`), "parley_grpc_panics_total", "parley_grpc_requests_in_flight"))
}

func TestKeys(t *testing.T) {
	t.Parallel()
	keys, err := credential.NewKeys([]credential.Key{
		{Name: "reader", Hash: credential.Hash("r"), Tenant: "acme", Scopes: []string{"read"}},
		{Name: "writer", Hash: credential.Hash("w"), Tenant: "acme", Scopes: []string{"record"}},
	})
	require.NoError(t, err)
	f := start(t, &customers{
		get: func(ctx context.Context, _ *customerv1.GetCustomerRequest) (*customerv1.GetCustomerResponse, error) {
			id, _ := tenant.From(ctx)
			return &customerv1.GetCustomerResponse{Customer: &customerv1.Customer{DisplayName: id.Tenant + "/" + id.Credential}}, nil
		},
		watch: func(*customerv1.WatchCustomerRequest, grpc.ServerStreamingServer[customerv1.WatchCustomerResponse]) error {
			return nil
		},
	}, func(c *server.GRPCConfig) { c.Keys = keys })
	for name, tc := range map[string]struct {
		headers []string
		code    codes.Code
		reason  errorv1.Reason
	}{
		"right":     {[]string{"Bearer r"}, codes.OK, errorv1.Reason_REASON_UNSPECIFIED},
		"none":      {nil, codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS},
		"wrong":     {[]string{"Bearer x"}, codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS},
		"no scheme": {[]string{"r"}, codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS},
		"two":       {[]string{"Bearer r", "Bearer w"}, codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS},
		"scope":     {[]string{"Bearer w"}, codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED},
	} {
		ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{"authorization": tc.headers})
		resp, err := f.client.GetCustomer(ctx, &customerv1.GetCustomerRequest{CustomerId: "c"})
		require.Equal(t, tc.code, rpcerr.CodeOf(err), name)
		require.Equal(t, tc.reason, rpcerr.ReasonOf(err), name)
		if err == nil {
			require.Equal(t, "acme/reader", resp.GetCustomer().GetDisplayName())
		}
		stream, err := f.client.WatchCustomer(ctx, &customerv1.WatchCustomerRequest{CustomerId: "c"})
		require.NoError(t, err)
		_, err = stream.Recv()
		if tc.code == codes.OK {
			require.ErrorIs(t, err, io.EOF, name)
		} else {
			require.Equal(t, tc.code, rpcerr.CodeOf(err), name)
		}
	}
	_, err = healthv1.NewHealthClient(f.conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err, "health needs no key")
}

func TestDrainEndsStreamsAndHealth(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	f := start(t, &customers{watch: func(_ *customerv1.WatchCustomerRequest, s grpc.ServerStreamingServer[customerv1.WatchCustomerResponse]) error {
		close(started)
		<-s.Context().Done()
		return s.Context().Err()
	}}, nil)
	health := healthv1.NewHealthClient(f.conn)
	status := func() healthv1.HealthCheckResponse_ServingStatus {
		resp, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "parley.customer.v1.CustomerService"})
		require.NoError(t, err)
		return resp.GetStatus()
	}
	require.Equal(t, healthv1.HealthCheckResponse_SERVING, status())

	stream, err := f.client.WatchCustomer(t.Context(), &customerv1.WatchCustomerRequest{CustomerId: "c"})
	require.NoError(t, err)
	<-started
	f.server.Drain()
	_, err = stream.Recv()
	require.Equal(t, errorv1.Reason_REASON_STOPPING, rpcerr.ReasonOf(err))
	require.Equal(t, healthv1.HealthCheckResponse_NOT_SERVING, status())
}

func TestStopCutsOffWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	f := start(t, &customers{get: func(ctx context.Context, _ *customerv1.GetCustomerRequest) (*customerv1.GetCustomerResponse, error) {
		close(started)
		<-ctx.Done() // until the connection is cut
		return nil, ctx.Err()
	}}, nil)
	got := make(chan error, 1)
	go func() {
		_, err := f.client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{CustomerId: "c"})
		got <- err
	}()
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	f.server.Stop(ctx)
	require.Error(t, <-got)
}

func TestStreamRequestsAreChecked(t *testing.T) {
	t.Parallel()
	f := start(t, &customers{watch: func(*customerv1.WatchCustomerRequest, grpc.ServerStreamingServer[customerv1.WatchCustomerResponse]) error {
		panic("never called")
	}}, nil)
	stream, err := f.client.WatchCustomer(t.Context(), &customerv1.WatchCustomerRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, errorv1.Reason_REASON_INVALID_FIELD, rpcerr.ReasonOf(err))
}

func TestReflectionNamesTheServices(t *testing.T) {
	t.Parallel()
	f := start(t, &customers{}, nil)
	stream, err := reflectionv1.NewServerReflectionClient(f.conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}))
	resp, err := stream.Recv()
	require.NoError(t, err)
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	require.Contains(t, names, "parley.customer.v1.CustomerService")
	require.NoError(t, stream.CloseSend())
}

func TestGarbageLeavesTheServerStanding(t *testing.T) {
	t.Parallel()
	f := start(t, &customers{get: func(context.Context, *customerv1.GetCustomerRequest) (*customerv1.GetCustomerResponse, error) {
		return &customerv1.GetCustomerResponse{}, nil
	}}, nil)
	for _, garbage := range []string{"\x00\xff\xfe", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 1000)} {
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "tcp", f.addr)
		require.NoError(t, err)
		_, err = conn.Write([]byte(garbage))
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	_, err := f.client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{CustomerId: "c"})
	require.NoError(t, err)
}

func TestNewGRPCWantsItsParts(t *testing.T) {
	t.Parallel()
	_, err := server.NewGRPC(server.GRPCConfig{})
	require.ErrorContains(t, err, "required")
	registry := prometheus.NewRegistry()
	cfg := server.GRPCConfig{Logger: slog.Default(), Registry: registry, Check: check}
	_, err = server.NewGRPC(cfg)
	require.NoError(t, err)
	_, err = server.NewGRPC(cfg)
	require.ErrorContains(t, err, "register gRPC metrics")
}
