package esdb_test

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
)

// follower is a node that knows the leader and answers nothing else.
type follower struct {
	serverfeatures.UnimplementedServerFeaturesServer
	streams.UnimplementedStreamsServer

	addr    string
	version string

	mu     sync.Mutex
	leader string // empty: there is none
	asked  int    // calls that were for the leader only
}

func startFollower(t testing.TB, leader string) *follower {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &follower{addr: listener.Addr().String(), leader: leader, version: "24.10.0"}
	server := grpc.NewServer()
	gossip.RegisterGossipServer(server, gossiping{f: f})
	serverfeatures.RegisterServerFeaturesServer(server, f)
	streams.RegisterStreamsServer(server, f)
	var served sync.WaitGroup
	served.Go(func() {
		if err := server.Serve(listener); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		server.Stop()
		served.Wait()
	})
	return f
}

func (f *follower) elect(leader string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leader = leader
}

func member(addr string, state gossip.MemberInfo_VNodeState, alive bool) *gossip.MemberInfo {
	host, text, _ := net.SplitHostPort(addr)
	port, _ := strconv.ParseUint(text, 10, 16)
	return &gossip.MemberInfo{State: state, IsAlive: alive, HttpEndPoint: &gossip.EndPoint{Address: host, Port: uint32(port)}}
}

func (f *follower) members() *gossip.ClusterInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	info := &gossip.ClusterInfo{Members: []*gossip.MemberInfo{
		member(f.addr, gossip.MemberInfo_Follower, true),
		// A node that led before it died.
		member("127.0.0.1:1", gossip.MemberInfo_Leader, false),
	}}
	if f.leader != "" {
		info.Members = append(info.Members, member(f.leader, gossip.MemberInfo_Leader, true))
	}
	return info
}

// gossiping is the other service that has a Read.
type gossiping struct {
	gossip.UnimplementedGossipServer
	f *follower
}

func (g gossiping) Read(context.Context, *shared.Empty) (*gossip.ClusterInfo, error) {
	return g.f.members(), nil
}

func (f *follower) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	return &serverfeatures.SupportedMethods{EventStoreServerVersion: f.version}, nil
}

func (f *follower) Append(stream streams.Streams_AppendServer) error { return f.refuse(stream) }

func (f *follower) Read(_ *streams.ReadReq, stream streams.Streams_ReadServer) error {
	return f.refuse(stream)
}

func (f *follower) refuse(stream grpc.ServerStream) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if md, _ := metadata.FromIncomingContext(stream.Context()); len(md.Get("requires-leader")) == 1 {
		f.asked++
	}
	if host, port, err := net.SplitHostPort(f.leader); err == nil {
		stream.SetTrailer(metadata.Pairs("exception", "not-leader", "leader-endpoint-host", host, "leader-endpoint-port", port))
	}
	return status.Error(codes.NotFound, "Leader info available")
}

// A node that is not the leader says who is, and everything goes there.
func TestANodeThatDoesNotLead(t *testing.T) {
	t.Parallel()
	behind := memory(t)
	leader := esdbservertest.NewRestartable(t, esdbserver.Config{Store: behind})
	leader.Start()
	node := startFollower(t, leader.Addr())
	store := open(t, esdb.Config{URL: config.Secret("esdb://" + node.addr + "?tls=false")})
	_, err := store.Append(deadline(t), "acme.a", eventstore.NoStream, record("a"))
	require.NoError(t, err)
	require.Len(t, all(t, behind, eventstore.ReadAllOptions{Filter: eventstore.Filter{StreamPrefixes: []string{"acme."}}}), 1)
	require.Positive(t, node.asked, "calls say that they are for the leader")
}

// The leader goes, and another one is found by gossip: appends and
// subscriptions go on there.
func TestTheLeaderChanges(t *testing.T) {
	t.Parallel()
	behind := memory(t)
	first := esdbservertest.NewRestartable(t, esdbserver.Config{Store: behind})
	first.Start()
	second := esdbservertest.NewRestartable(t, esdbserver.Config{Store: behind})
	second.Start()
	a, b := startFollower(t, first.Addr()), startFollower(t, first.Addr())
	store := open(t, esdb.Config{URL: config.Secret("esdb://" + a.addr + "," + b.addr + ",127.0.0.1:1?tls=false")})
	ctx := deadline(t)
	sub, err := store.Subscribe(ctx, eventstore.SubscribeOptions{})
	require.NoError(t, err)
	defer func() { require.NoError(t, sub.Close()) }()
	var want, got []string
	at := eventstore.NoStream
	write := func(text string) {
		appended, err := store.Append(ctx, "acme.a", at, record(text))
		require.NoError(t, err)
		at = appended.Revision
		want = append(want, text)
	}
	write("under the first")
	for round, leader := range []*esdbservertest.Restartable{first, second, first} {
		old, next := first, second
		if leader == second {
			old, next = second, first
		}
		a.elect("")
		b.elect("")
		old.Kill()
		a.elect(next.Addr())
		b.elect(next.Addr())
		write("under another " + strconv.Itoa(round))
		old.Start()
	}
	for len(got) < len(want) {
		batch, err := sub.Next(ctx)
		require.NoError(t, err)
		for _, r := range batch.Records {
			got = append(got, string(r.Data))
		}
	}
	require.Equal(t, want, got)
}

func TestAVersionThatIsTooOld(t *testing.T) {
	t.Parallel()
	node := startFollower(t, "")
	node.version = "22.10.5.0"
	_, err := esdb.Open(deadline(t), esdb.Config{URL: config.Secret("esdb://" + node.addr + "?tls=false"), Patience: time.Hour})
	require.ErrorIs(t, err, esdb.ErrUnfit)
	require.ErrorContains(t, err, "22.10.5.0")
}
