package proto_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	feedv1 "github.com/parleyhq/parley/proto/gen/parley/feed/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// A service records an interaction, then reads the customer with exactly that
// interaction in it.
func Example() {
	conn, err := grpc.NewClient("127.0.0.1:7300", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(visit(context.Background(), conn), conn.Close()); err != nil {
		log.Fatal(err)
	}
}

func visit(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	recorded, err := interactionv1.NewInteractionServiceClient(conn).Record(ctx, &interactionv1.RecordRequest{
		Interaction: &interactionv1.Interaction{
			SourceId:     "visit-4711", // makes a retry harmless
			OccurredTime: timestamppb.Now(),
			Channel:      "in_person",
			Direction:    eventv1.Direction_DIRECTION_INBOUND,
			Identifiers:  []*eventv1.Identifier{{Kind: "email", Value: "ada@example.org"}},
			Payload: &eventv1.Payload{Kind: &eventv1.Payload_ActivityLogged{
				ActivityLogged: &eventv1.ActivityLogged{Activity: "visit", Subject: "Tea tasting"},
			}},
		},
	})
	if err != nil {
		return fmt.Errorf("record the visit: %w", err)
	}

	found, err := customerv1.NewCustomerServiceClient(conn).LookupCustomer(ctx, &customerv1.LookupCustomerRequest{
		Kind:             "email",
		Value:            "ada@example.org",
		ConsistencyToken: recorded.GetConsistencyToken(), // read your own write
	})
	if err != nil {
		return fmt.Errorf("look up the visitor: %w", err)
	}
	for _, match := range found.GetMatches() {
		fmt.Println(match.GetCustomer().GetDisplayName(), match.GetCustomer().GetInteractionCount())
	}
	return nil
}

// A contact-centre tool follows the log and misses nothing: it keeps the last
// resume token and begins behind it when it comes back.
func Example_subscribe() {
	conn, err := grpc.NewClient("127.0.0.1:7300", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(follow(context.Background(), conn), conn.Close()); err != nil {
		log.Fatal(err)
	}
}

func follow(ctx context.Context, conn *grpc.ClientConn) error {
	request := &feedv1.SubscribeRequest{
		From:  &feedv1.SubscribeRequest_Start{Start: &feedv1.FromStart{}},
		Types: []string{"parley.call.*"},
	}
	for {
		stream, err := feedv1.NewEventServiceClient(conn).Subscribe(ctx, request, grpc.WaitForReady(true))
		if err != nil {
			return fmt.Errorf("follow the calls: %w", err)
		}
		for {
			item, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				log.Print("resuming: ", err)
				break
			}
			if event := item.GetEvent(); event != nil {
				fmt.Println(event.GetPosition(), event.GetEvent().GetType())
			}
			request.From = &feedv1.SubscribeRequest_ResumeToken{ResumeToken: item.GetResumeToken()}
		}
	}
}
