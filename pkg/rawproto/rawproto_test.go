package rawproto_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/rawproto"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service answers GetCustomer with encoded bytes, BatchGetCustomers as usual.
type service struct {
	customerv1.UnimplementedCustomerServiceServer

	stored []byte
}

func (s *service) getRaw(_ context.Context, req *customerv1.GetCustomerRequest) (*rawproto.Message, error) {
	switch req.GetCustomerId() {
	case "nobody":
		return nil, status.Error(codes.NotFound, "nobody")
	case "empty":
		return nil, nil
	}
	return new(rawproto.Message).Nested(1, s.stored), nil
}

func (s *service) BatchGetCustomers(_ context.Context, req *customerv1.BatchGetCustomersRequest) (*customerv1.BatchGetCustomersResponse, error) {
	return &customerv1.BatchGetCustomersResponse{MissingIds: req.GetCustomerIds()}, nil
}

func serve(t *testing.T, s *service, opts ...grpc.ServerOption) customerv1.CustomerServiceClient {
	t.Helper()
	desc, err := rawproto.Describe(customerv1.CustomerService_ServiceDesc, "GetCustomer",
		func() *customerv1.GetCustomerRequest { return &customerv1.GetCustomerRequest{} }, (*service).getRaw)
	require.NoError(t, err)
	server := grpc.NewServer(append(opts, grpc.ForceServerCodecV2(rawproto.Codec()))...)
	server.RegisterService(&desc, s)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		server.Stop()
		require.NoError(t, <-done)
	})
	return customerv1.NewCustomerServiceClient(conn)
}

func TestClientsSeeAnOrdinaryAnswer(t *testing.T) {
	t.Parallel()
	for name, summary := range map[string]string{"small": "short", "large": strings.Repeat("long ", 2000)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := &customerv1.Customer{CustomerId: "c1", RecentInteractions: []*customerv1.InteractionSummary{{Summary: summary}}}
			stored, err := proto.Marshal(want)
			require.NoError(t, err)
			client := serve(t, &service{stored: stored})
			got, err := client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{CustomerId: "c1"})
			require.NoError(t, err)
			require.True(t, proto.Equal(&customerv1.GetCustomerResponse{Customer: want}, got), "got %v", got)

			empty, err := client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{CustomerId: "empty"})
			require.NoError(t, err)
			require.True(t, proto.Equal(&customerv1.GetCustomerResponse{}, empty))

			_, err = client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{CustomerId: "nobody"})
			require.Equal(t, codes.NotFound, status.Code(err))

			batch, err := client.BatchGetCustomers(t.Context(), &customerv1.BatchGetCustomersRequest{CustomerIds: []string{"x"}})
			require.NoError(t, err)
			require.Equal(t, []string{"x"}, batch.GetMissingIds())
		})
	}
}

func TestInterceptorsRun(t *testing.T) {
	t.Parallel()
	var saw any
	client := serve(t, &service{stored: []byte{}}, grpc.UnaryInterceptor(
		func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if info.FullMethod != customerv1.CustomerService_GetCustomer_FullMethodName {
				return nil, status.Error(codes.Internal, info.FullMethod)
			}
			answer, err := next(ctx, req)
			saw = answer
			return answer, err
		}))
	_, err := client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{CustomerId: "c1"})
	require.NoError(t, err)
	require.IsType(t, &rawproto.Message{}, saw)
}

func TestMessageConcatenates(t *testing.T) {
	t.Parallel()
	one, err := proto.Marshal(&customerv1.Customer{CustomerId: "c1"})
	require.NoError(t, err)
	m := new(rawproto.Message).Nested(1, one).Nested(1, nil)
	require.NoError(t, m.Append(&customerv1.BatchGetCustomersResponse{MissingIds: []string{"x"}}))
	got := &customerv1.BatchGetCustomersResponse{}
	require.NoError(t, m.Decode(got))
	want := &customerv1.BatchGetCustomersResponse{Customers: []*customerv1.Customer{{CustomerId: "c1"}, {}}, MissingIds: []string{"x"}}
	require.True(t, proto.Equal(want, got), "got %v", got)
	require.Len(t, m.Bytes(), m.Size())
	require.Error(t, new(rawproto.Message).Nested(1, []byte("\xff")).Decode(got))
}

func TestCodec(t *testing.T) {
	t.Parallel()
	codec := rawproto.Codec()
	require.Equal(t, "proto", codec.Name())
	_, err := codec.Marshal("no message")
	require.Error(t, err)
	require.Error(t, codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer("\xff")}, &customerv1.Customer{}))
	kept := &rawproto.Message{}
	require.NoError(t, codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer("ab"), mem.SliceBuffer("c")}, kept))
	require.Equal(t, "abc", string(kept.Bytes()))
}

func TestDescribeRefusesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	_, err := rawproto.Describe(customerv1.CustomerService_ServiceDesc, "Nothing",
		func() *customerv1.GetCustomerRequest { return nil }, (*service).getRaw)
	require.ErrorContains(t, err, "no unary method Nothing")
}
