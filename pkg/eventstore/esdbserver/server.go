package esdbserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rawproto"
)

// Config is what a Server is made from. Store and Advertise are required.
type Config struct {
	// Store that is served. Whoever opened it closes it, after Stop.
	Store eventstore.Store
	// ReadOnly says which streams, by the names that clients use, they may not
	// append to, delete or give metadata. It is called concurrently. Defaults
	// to none.
	ReadOnly func(stream string) bool
	// Users who may come in. Defaults to everybody, for everything: right on
	// loopback only.
	Users []User
	// Advertise is the host:port at which clients reach this server.
	Advertise string
	// MaxAppendBytes bounds the data, metadata and types of one append.
	// Defaults to 1 MiB, as EventStoreDB's. The store bounds a single event at
	// eventstore.MaxRecordBytes besides.
	MaxAppendBytes int
	// Logger gets failures. Defaults to none.
	Logger *slog.Logger
	// Metrics registers a few. Defaults to none.
	Metrics prometheus.Registerer
	// Now tells the age of events, for streams with $maxAge. Defaults to
	// time.Now.
	Now func() time.Time
}

const defaultMaxAppendBytes = 1 << 20

// Server serves a store. It is for one grpc.Server:
//
//	server, err := esdbserver.New(cfg)
//	grpcServer := grpc.NewServer(append(server.ServerOptions(), grpc.Creds(tls))...)
//	server.Register(grpcServer)
//	…
//	server.Stop()
//	grpcServer.GracefulStop()
type Server struct {
	streams.UnimplementedStreamsServer

	cfg     Config
	store   eventstore.Store
	log     *slog.Logger
	users   map[string]User
	host    string
	port    uint32
	states  *states
	metrics *metrics

	stopOnce sync.Once
	stopped  chan struct{}
}

// New checks the configuration. What is wrong with it is in the error.
func New(cfg Config) (*Server, error) {
	if cfg.Store == nil {
		return nil, errors.New("serve EventStoreDB's protocol: no store")
	}
	host, text, err := net.SplitHostPort(cfg.Advertise)
	port, portErr := strconv.ParseUint(text, 10, 16)
	if err != nil || portErr != nil || host == "" || port == 0 {
		return nil, fmt.Errorf("serve EventStoreDB's protocol: advertised address %q: want host:port", cfg.Advertise)
	}
	users, err := checkUsers(cfg.Users)
	if err != nil {
		return nil, fmt.Errorf("serve EventStoreDB's protocol: %w", err)
	}
	if cfg.MaxAppendBytes <= 0 {
		cfg.MaxAppendBytes = defaultMaxAppendBytes
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &Server{
		cfg: cfg, store: cfg.Store, log: cfg.Logger, users: users, host: host, port: uint32(port),
		states: newStates(cachedStates), metrics: m, stopped: make(chan struct{}),
	}, nil
}

// ServerOptions are what the grpc.Server must be made with, beside credentials
// for TLS: authentication, limits, the codec for events that are encoded
// already, and keep-alive for the official clients' pings (every 10 seconds,
// also without calls).
func (s *Server) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.callUnary),
		grpc.ChainStreamInterceptor(s.callStream),
		grpc.UnknownServiceHandler(s.notOffered),
		grpc.ForceServerCodecV2(rawproto.Codec()),
		// Room for an append that is too large to be told so.
		grpc.MaxRecvMsgSize(2*s.cfg.MaxAppendBytes + 4<<20),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
	}
}

// maxStreams bounds the calls and subscriptions of one connection.
const maxStreams = 1000

// Register registers the services.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	streams.RegisterStreamsServer(r, s)
	serverfeatures.RegisterServerFeaturesServer(r, features{})
	gossip.RegisterGossipServer(r, gossiper{s: s})
}

var errStopping = errors.New("stopping")

// Stop ends reads, subscriptions and batch appends with UNAVAILABLE, so that
// GracefulStop comes to an end as soon as clients have taken what was sent.
// Appends under way are answered. A second call does nothing.
func (s *Server) Stop() { s.stopOnce.Do(func() { close(s.stopped) }) }

// untilStopped is ctx, ended by Stop with errStopping as the cause.
func (s *Server) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-s.stopped:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

func structuredUUID(id uuid.UUID) *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits: int64(binary.BigEndian.Uint64(id[:8])), LeastSignificantBits: int64(binary.BigEndian.Uint64(id[8:])),
	}}}
}

// whatInstead says what to use instead of a method that is not offered.
func whatInstead(method string) string {
	instead := "it is not part of what Parley serves of EventStoreDB's protocol"
	for service, text := range map[string]string{
		"persistent_subscriptions": "use a catch-up subscription and keep its position",
		"projections":              "use Parley's read models and `parley projections`",
		"users":                    "users are given in Parley's configuration",
		"operations":               "use `parley` itself: the store needs no scavenging",
		"monitoring":               "use Parley's /metrics",
	} {
		if strings.Contains(method, "."+service+".") {
			instead = text
		}
	}
	return fmt.Sprintf("%s is not offered: %s", method, instead)
}
