package email_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	emailv1 "github.com/parleyhq/parley/proto/gen/parley/email/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/email"
)

// callerStream says whose a call is.
type callerStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s callerStream) Context() context.Context { return s.ctx }

// importTo serves a rig's EmailService to acme and begins a call.
func importTo(t *testing.T, r *rig, scopes tenant.Scopes) grpc.BidiStreamingClient[emailv1.ImportMailsRequest, emailv1.ImportMailsResponse] {
	t.Helper()
	service, err := email.NewService(r.Intake)
	require.NoError(t, err)
	srv := grpc.NewServer(grpc.StreamInterceptor(func(impl any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx := tenant.NewContext(ss.Context(), tenant.Identity{Tenant: "acme", Scopes: scopes})
		return rpcerr.FromError(handler(impl, callerStream{ss, ctx}))
	}))
	emailv1.RegisterEmailServiceServer(srv, service)
	lis := bufconn.Listen(1 << 20)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///import", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(func() {
		cancel()
		require.NoError(t, conn.Close())
		srv.Stop()
		require.NoError(t, <-ended)
	})
	stream, err := emailv1.NewEmailServiceClient(conn).ImportMails(ctx)
	require.NoError(t, err)
	return stream
}

// answers reads all answers, a line each, and the error at the end.
func answers(t *testing.T, stream grpc.BidiStreamingClient[emailv1.ImportMailsRequest, emailv1.ImportMailsResponse]) ([]string, error) {
	t.Helper()
	var lines []string
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		require.NotEmpty(t, resp.GetConsistencyToken())
		lines = append(lines, fmt.Sprintf("%d %s %s", resp.GetNumber(), strings.TrimPrefix(resp.GetOutcome().String(), "IMPORT_OUTCOME_"), resp.GetReason()))
	}
}

func send(t *testing.T, stream grpc.BidiStreamingClient[emailv1.ImportMailsRequest, emailv1.ImportMailsResponse], number uint64, parts ...string) {
	t.Helper()
	for i, part := range parts {
		err := stream.Send(&emailv1.ImportMailsRequest{Number: number, Data: []byte(part), Last: i == len(parts)-1})
		if err != nil {
			require.ErrorIs(t, err, io.EOF, "the answer says why")
		}
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	stream := importTo(t, r, tenant.Record)
	old := strings.Replace(plain("old@customer.example", "Long ago."), "13 Mar 2026", "12 Mar 2010", 1)
	send(t, stream, 7, old[:20], old[20:60], old[60:])
	send(t, stream, 8, strings.Replace(old, "Long", "Not so long", 1))
	send(t, stream, 9, old)
	require.NoError(t, stream.Send(&emailv1.ImportMailsRequest{
		Number: 10, Data: []byte("From: ada@customer.example\r\nX-Mail: nothing else\r\n\r\nNo date.\r\n"), Last: true,
		Mailbox: "support@acme.example", ReceivedTime: timestamppb.New(now.AddDate(-5, 0, 0)),
	}))
	for i := range 100 {
		send(t, stream, uint64(11+i), plain(fmt.Sprintf("%d@customer.example", i), "one of many"))
	}
	require.NoError(t, stream.CloseSend())
	lines, err := answers(t, stream)
	require.NoError(t, err)
	require.Equal(t, []string{"7 RECORDED ", "8 QUARANTINED content_differs: other content", "9 DUPLICATE ", "10 RECORDED ", "11 RECORDED "}, lines[:5])
	require.Len(t, lines, 104)
	events := r.publisher.events("acme")
	require.Len(t, events, 104)
	for i, ev := range events {
		require.True(t, ev.GetBackfill())
		require.Contains(t, ev.GetContextJson(), `"via":"import"`)
		if i >= 4 {
			require.Equal(t, fmt.Sprintf("%d@customer.example", i-4), ev.GetSourceId(), "in their order")
		}
	}
	require.Equal(t, 2010, events[0].GetOccurredTime().AsTime().Year())
	require.Equal(t, now.AddDate(-5, 0, 0), events[3].GetOccurredTime().AsTime())
	require.Equal(t, eventv1.TimeQuality_TIME_QUALITY_AS_SAID, events[3].GetTimeQuality())
	require.Equal(t, now, events[3].GetReceivedTime().AsTime())
	require.Equal(t, "support@acme.example", events[3].GetPayload().GetEmailReceived().GetMailbox())
	require.Equal(t, "support@acme.example", events[0].GetPayload().GetEmailReceived().GetMailbox(), "as its headers say")
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		send func(*testing.T, grpc.BidiStreamingClient[emailv1.ImportMailsRequest, emailv1.ImportMailsResponse])
		want string
	}{
		"two at once": {func(t *testing.T, s grpc.BidiStreamingClient[emailv1.ImportMailsRequest, emailv1.ImportMailsResponse]) {
			t.Helper()
			require.NoError(t, s.Send(&emailv1.ImportMailsRequest{Number: 2, Data: []byte("x")}))
			send(t, s, 3, "y")
		}, "mail 3 begins before mail 2 has ended"},
		"a gap": {func(t *testing.T, s grpc.BidiStreamingClient[emailv1.ImportMailsRequest, emailv1.ImportMailsResponse]) {
			t.Helper()
			send(t, s, 3, "y")
		}, "mail 3 follows mail 1"},
		"too large": {func(t *testing.T, s grpc.BidiStreamingClient[emailv1.ImportMailsRequest, emailv1.ImportMailsResponse]) {
			t.Helper()
			send(t, s, 2, strings.Repeat("x", 1<<20), "x")
		}, "mail 2 is over"},
		"no end": {func(t *testing.T, s grpc.BidiStreamingClient[emailv1.ImportMailsRequest, emailv1.ImportMailsResponse]) {
			t.Helper()
			require.NoError(t, s.Send(&emailv1.ImportMailsRequest{Number: 2, Data: []byte("x")}))
		}, "mail 2 has no last part"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			stream := importTo(t, r, tenant.Record)
			send(t, stream, 1, plain("good@customer.example", "good"))
			tc.send(t, stream)
			require.NoError(t, stream.CloseSend())
			lines, err := answers(t, stream)
			require.Equal(t, codes.InvalidArgument, rpcerr.CodeOf(err))
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, []string{"1 RECORDED "}, lines, "what came before is answered")
		})
	}
	_, err := answers(t, importTo(t, newRig(t, nil), tenant.Read))
	require.Equal(t, codes.PermissionDenied, rpcerr.CodeOf(err))
}

func TestImportNotNow(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		breakIt func(*rig)
		want    codes.Code
	}{
		"full":  {func(r *rig) { r.publisher.fail(bus.ErrFull) }, codes.ResourceExhausted},
		"away":  {func(r *rig) { r.publisher.fail(bus.ErrUnavailable) }, codes.Unavailable},
		"blobs": {func(r *rig) { r.blobs.err = blob.ErrUnavailable }, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			tc.breakIt(r)
			stream := importTo(t, r, tenant.Record)
			// The caller goes on sending, and does not end the call.
			send(t, stream, 1, plain("later@customer.example", "later"))
			lines, err := answers(t, stream)
			require.Equal(t, tc.want, rpcerr.CodeOf(err))
			require.Empty(t, lines)
			require.Empty(t, r.publisher.events("acme"))
		})
	}
}

func TestImportOfACallerWhoLeaves(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.publisher.wait = make(chan struct{})
	stream := importTo(t, r, tenant.Record)
	for i := range 20 {
		send(t, stream, uint64(i), plain(fmt.Sprintf("%d@customer.example", i), "never answered"))
	}
	// The test's end closes the connection while everything waits.
	require.Eventually(t, func() bool { return stream.Context().Err() == nil }, time.Second, time.Millisecond)
}
