package esdbserver

import (
	"context"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"google.golang.org/grpc"
)

// protocolVersion is the EventStoreDB whose protocol this is; clients choose by
// it what they may ask for.
const protocolVersion = "23.10.0"

// features is ServerFeatures.
type features struct {
	serverfeatures.UnimplementedServerFeaturesServer
}

// GetSupportedMethods names what there is, in lower case as clients look for it.
func (features) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	out := &serverfeatures.SupportedMethods{EventStoreServerVersion: protocolVersion}
	add := func(service, method string, features ...string) {
		out.Methods = append(out.Methods, &serverfeatures.SupportedMethod{
			ServiceName: service, MethodName: method, Features: features,
		})
	}
	const streamsService = "event_store.client.streams.streams"
	add(streamsService, "read", "position", "events")
	add(streamsService, "append")
	// The deadline as a duration, not only as a time.
	add(streamsService, "batchappend", "deadline_duration")
	add(streamsService, "delete")
	add(streamsService, "tombstone")
	add("event_store.client.gossip.gossip", "read")
	add("event_store.client.server_features.serverfeatures", "getsupportedmethods")
	return out, nil
}

// gossiper is Gossip: a cluster of one.
type gossiper struct {
	gossip.UnimplementedGossipServer

	s *Server
}

// Read tells of this one node, which leads.
func (g gossiper) Read(context.Context, *shared.Empty) (*gossip.ClusterInfo, error) {
	now := g.s.cfg.Now()
	return &gossip.ClusterInfo{Members: []*gossip.MemberInfo{{
		InstanceId: structuredUUID(g.s.store.LogID()),
		// In ticks of 100 ns since 1970.
		TimeStamp:    now.UnixNano() / 100,
		State:        gossip.MemberInfo_Leader,
		IsAlive:      true,
		HttpEndPoint: &gossip.EndPoint{Address: g.s.host, Port: g.s.port},
	}}}, nil
}

// notOffered answers every method that there is none of.
func (s *Server) notOffered(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	return s.answer(stream.Context(), &replyError{reason: reasonUnimplemented, message: whatInstead(method)})
}
