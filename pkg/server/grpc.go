package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/credential"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
)

// GRPCConfig is what a gRPC server is built from.
type GRPCConfig struct {
	// Logger is required.
	Logger *slog.Logger
	// Registry gets the server's metrics. Required.
	Registry prometheus.Registerer
	// Keys are the API keys that calls must carry one of. Where there are none,
	// every call is Anonymous.
	Keys *credential.Keys
	// Anonymous is for whom calls are made where there are no keys.
	Anonymous tenant.Identity
	// Check gives the bounds that a request breaks. Required.
	Check func(proto.Message) []rpcerr.Violation
	// SelfValidating are full names of methods whose handlers check their own requests.
	SelfValidating []string
	// TracerProvider gets a span for each call. Defaults to no tracing.
	TracerProvider trace.TracerProvider
	// Codec marshals messages. Defaults to gRPC's own for protobuf.
	Codec encoding.CodecV2
	// TLS settings. Defaults to plain text.
	TLS *tls.Config
	// MaxReceiveBytes bounds a request. Defaults to 8 MiB: a thousand
	// interactions of 8 KiB.
	MaxReceiveBytes int
	// Timeout for unary calls that come without a deadline. Defaults to 30s.
	Timeout time.Duration
}

const (
	defaultMaxReceiveBytes = 8 << 20
	defaultTimeout         = 30 * time.Second
	// A dead peer is found within keepaliveTime + keepaliveTimeout.
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	// Clients may ping this often, also without calls in flight.
	keepaliveMinimum = 10 * time.Second
	maxStreams       = 1024 // of one connection
	handshakeTimeout = 10 * time.Second
)

// GRPC is a gRPC server.
type GRPC struct {
	cfg    GRPCConfig
	server *grpc.Server
	health *health.Server
	scopes map[string]tenant.Scopes // by full service name
	self   map[string]bool          // by full method name
	// stopping is closed once streams are to end.
	stopping chan struct{}
	stop     func()
}

// NewGRPC builds a server with health and reflection. It serves nothing until
// services are registered and Serve is called.
func NewGRPC(cfg GRPCConfig) (*GRPC, error) {
	if cfg.Logger == nil || cfg.Registry == nil || cfg.Check == nil {
		return nil, errors.New("gRPC server: Logger, Registry and Check are required")
	}
	if cfg.MaxReceiveBytes == 0 {
		cfg.MaxReceiveBytes = defaultMaxReceiveBytes
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	g := &GRPC{cfg: cfg, health: health.NewServer(), scopes: map[string]tenant.Scopes{}, self: map[string]bool{}}
	for _, m := range cfg.SelfValidating {
		g.self[m] = true
	}
	g.stopping = make(chan struct{})
	g.stop = sync.OnceFunc(func() { close(g.stopping) })
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, err
	}
	opts := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(m.recoverUnary(cfg.Logger), m.unary, g.mapUnary, g.authUnary, g.validateUnary),
		grpc.ChainStreamInterceptor(m.recoverStream(cfg.Logger), m.stream, g.mapStream, g.authStream, g.validateStream),
		grpc.MaxRecvMsgSize(cfg.MaxReceiveBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinimum, PermitWithoutStream: true}),
	}
	if cfg.TracerProvider != nil {
		opts = append(opts, grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(cfg.TracerProvider))))
	}
	if cfg.Codec != nil {
		opts = append(opts, grpc.ForceServerCodecV2(cfg.Codec))
	}
	if cfg.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(cfg.TLS)))
	}
	g.server = grpc.NewServer(opts...)
	healthv1.RegisterHealthServer(g.server, g.health)
	reflection.Register(g.server)
	g.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	return g, nil
}

// Registrar registers services whose calls need the scope.
func (g *GRPC) Registrar(scope tenant.Scopes) grpc.ServiceRegistrar {
	return scopedRegistrar{g: g, scope: scope}
}

type scopedRegistrar struct {
	g     *GRPC
	scope tenant.Scopes
}

// RegisterService implements grpc.ServiceRegistrar.
func (r scopedRegistrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	r.g.scopes[desc.ServiceName] = r.scope
	r.g.health.SetServingStatus(desc.ServiceName, healthv1.HealthCheckResponse_NOT_SERVING)
	r.g.server.RegisterService(desc, impl)
}

// Serve answers calls until Stop. It takes the listener over.
func (g *GRPC) Serve(lis net.Listener) error {
	if err := g.server.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve gRPC on %s: %w", lis.Addr(), err)
	}
	return nil
}

// Ready says SERVING for every service.
func (g *GRPC) Ready() {
	g.health.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	for name := range g.scopes {
		g.health.SetServingStatus(name, healthv1.HealthCheckResponse_SERVING)
	}
}

// NotServing says NOT_SERVING for every service from now on, so that load
// balancers send calls elsewhere. Those that come are still answered.
func (g *GRPC) NotServing() { g.health.Shutdown() }

// Drain says NOT_SERVING for every service and ends streams with STOPPING.
// Unary calls are still answered.
func (g *GRPC) Drain() {
	g.NotServing()
	g.stop()
}

// Stopping is closed by Drain.
func (g *GRPC) Stopping() <-chan struct{} { return g.stopping }

// Stop drains, lets calls in flight finish until ctx is done, and then cuts
// them off. No handler runs once it returns.
func (g *GRPC) Stop(ctx context.Context) {
	g.Drain()
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.server.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		g.server.Stop()
		<-done
	}
}
