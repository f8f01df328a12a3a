package customer_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// callers is how many calls are under way at once, over one connection.
const callers = 16

// BenchmarkGetCustomer is GetCustomer over a loopback connection, beside its
// yardstick: a grpc-go server that does nothing and answers the same message.
// Both have the same interceptor chain: none but the one that names the tenant.
func BenchmarkGetCustomer(b *testing.B) {
	h := newHouse(b)
	var tok string
	for i := range 40 {
		p := page(fmt.Sprint("/products/", i))
		if i%8 == 2 {
			p = traits("firstName", `"Ada"`, "lastName", `"Lovelace"`, "plan", `"pro"`, "visits", fmt.Sprint(i))
		}
		if i%8 == 5 {
			p = order(fmt.Sprint("o-", i), eur(39, 90))
		}
		tok = h.record(said{at: i, ids: []string{"anonymous_id", "laptop", "user_id", "u1", "email", "ada@example.com"}, payload: p})
	}
	c := h.get("user_id", "u1", tok)
	want := &customerv1.GetCustomerResponse{Customer: c}
	idle := grpc.NewServer()
	customerv1.RegisterCustomerServiceServer(idle, &doNothing{answer: want})
	yardstick := customerv1.NewCustomerServiceClient(dial(b, listen(b, idle)))

	// No deadline: what a timer costs is not what is compared.
	ctx := metadata.AppendToOutgoingContext(context.Background(), "tenant", "acme")
	get := func(b *testing.B, client customerv1.CustomerServiceClient, id string) {
		b.Helper()
		b.ReportMetric(float64(proto.Size(want)), "B/answer")
		b.SetParallelism(callers / 2) // times GOMAXPROCS, which is 2 where speeds are stated
		b.RunParallel(func(pb *testing.PB) {
			req := &customerv1.GetCustomerRequest{CustomerId: id}
			for pb.Next() {
				if _, err := client.GetCustomer(ctx, req); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	answer, err := yardstick.GetCustomer(ctx, &customerv1.GetCustomerRequest{})
	require.NoError(b, err)
	require.True(b, proto.Equal(want, answer))
	b.Run("customer id", func(b *testing.B) { get(b, h.client, c.GetCustomerId()) })
	b.Run("yardstick", func(b *testing.B) { get(b, yardstick, c.GetCustomerId()) })
	b.Run("profile id", func(b *testing.B) { get(b, h.client, h.profile("email", "ada@example.com")) })
}

type doNothing struct {
	customerv1.UnimplementedCustomerServiceServer

	answer *customerv1.GetCustomerResponse
}

func (d *doNothing) GetCustomer(context.Context, *customerv1.GetCustomerRequest) (*customerv1.GetCustomerResponse, error) {
	return d.answer, nil
}
