package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The smallest window that the server takes. The recorder knows duplicates over
// all time; a window here would only cost memory.
const duplicateWindow = 100 * time.Millisecond

// reconcilePatience is how long an answer about the stream may take.
const reconcilePatience = 3 * time.Second

// desired sets what we decide about the ingress stream and leaves the rest,
// such as placement, to whoever operates it.
func desired(have jetstream.StreamConfig, cfg Config) jetstream.StreamConfig {
	have.Name = StreamName
	if have.Description == "" {
		have.Description = "What Parley's gateways took in and the recorder has not yet recorded"
	}
	have.Subjects = []string{subjectWildcard}
	have.Retention = jetstream.LimitsPolicy
	have.Storage = jetstream.FileStorage
	have.Discard = jetstream.DiscardNew
	have.DiscardNewPerSubject = false
	have.MaxBytes = cfg.MaxIngressBytes
	have.MaxMsgs = -1
	have.MaxMsgsPerSubject = -1
	have.MaxAge = 0
	have.MaxMsgSize = -1
	have.MaxConsumers = -1
	have.NoAck = false
	have.Replicas = cfg.Replicas
	have.Duplicates = duplicateWindow
	return have
}

// same compares what we decide about.
func same(a, b jetstream.StreamConfig) bool {
	return a.Discard == b.Discard && a.DiscardNewPerSubject == b.DiscardNewPerSubject &&
		a.MaxBytes == b.MaxBytes && a.MaxMsgs == b.MaxMsgs && a.MaxMsgsPerSubject == b.MaxMsgsPerSubject &&
		a.MaxAge == b.MaxAge && a.MaxMsgSize == b.MaxMsgSize && a.NoAck == b.NoAck &&
		a.Replicas == b.Replicas && a.Duplicates == b.Duplicates && a.Description == b.Description
}

// differences lists what makes a stream of our name one that we can neither use
// nor change into ours without the risk of losing somebody's messages.
func differences(c jetstream.StreamConfig) []string {
	var d []string
	if !slices.Equal(c.Subjects, []string{subjectWildcard}) {
		d = append(d, fmt.Sprintf("its subjects are %q, not %q", c.Subjects, subjectWildcard))
	}
	if c.Retention != jetstream.LimitsPolicy {
		d = append(d, fmt.Sprintf("its retention is %v, not %v", c.Retention, jetstream.LimitsPolicy))
	}
	if c.Storage != jetstream.FileStorage {
		d = append(d, fmt.Sprintf("its storage is %v, not %v", c.Storage, jetstream.FileStorage))
	}
	if c.Mirror != nil || len(c.Sources) > 0 {
		d = append(d, "it copies other streams")
	}
	if c.SubjectTransform != nil {
		d = append(d, "it changes subjects")
	}
	if c.Sealed || c.DenyPurge || c.DenyDelete {
		d = append(d, "it forbids purging")
	}
	if c.MaxConsumers > 0 {
		d = append(d, fmt.Sprintf("it allows only %d consumers", c.MaxConsumers))
	}
	return d
}

// reconcile creates the ingress stream or brings its settings to what the
// configuration says. It repeats itself until ctx ends while JetStream cannot
// answer, for example because a cluster is electing. What was asked while there
// was no leader is never answered, so each attempt is bounded.
func (b *Bus) reconcile(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		bounded, cancel := context.WithTimeout(ctx, reconcilePatience)
		err := b.reconcileOnce(bounded)
		cancel()
		if err == nil || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("set up stream %s: %w: %w", StreamName, ErrUnavailable, err)
		case <-time.After(backoff(attempt, reconnectFirst, reconnectMost)):
		}
	}
}

func (b *Bus) reconcileOnce(ctx context.Context) error {
	if b.embedded != nil {
		// The embedded server must not be shut down in the midst of this: it
		// leaves open what it is just making.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), b.cfg.ConnectTimeout)
		defer cancel()
	}
	stream, err := b.js.Stream(ctx, StreamName)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = b.js.CreateStream(ctx, desired(jetstream.StreamConfig{}, b.cfg))
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			// Somebody else has just made it.
			stream, err = b.js.Stream(ctx, StreamName)
		}
	}
	if err != nil {
		return setupError(err)
	}
	if stream == nil {
		b.logger.Info("ingress stream created", "max_bytes", b.cfg.MaxIngressBytes, "replicas", b.cfg.Replicas)
		return nil
	}
	have := stream.CachedInfo().Config
	if d := differences(have); len(d) > 0 {
		return fmt.Errorf("%w: stream %s exists and is not Parley's: %s; rename or remove it", ErrIncompatible, StreamName, strings.Join(d, "; "))
	}
	want := desired(have, b.cfg)
	if same(have, want) {
		return nil
	}
	if _, err := b.js.UpdateStream(ctx, want); err != nil {
		return setupError(err)
	}
	b.logger.Info("ingress stream's settings changed", "max_bytes", want.MaxBytes, "replicas", want.Replicas)
	return nil
}

func setupError(err error) error {
	var code jetstream.ErrorCode
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		code = api.ErrorCode
	}
	switch code {
	case codeSubjectsOverlap:
		return fmt.Errorf("%w: another stream takes subjects under %s: %w", ErrIncompatible, subjectWildcard, err)
	case codeReplicasNotSupported:
		return fmt.Errorf("%w bus setting: this NATS is no cluster and keeps 1 replica only: %w", ErrInvalid, err)
	default:
		return fmt.Errorf("set up stream %s: %w", StreamName, err)
	}
}

// passing reports whether err may pass by itself.
func passing(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == 503 && api.ErrorCode != codeInsufficientResources || api.ErrorCode == codeNoPeers
	}
	return errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded) ||
		errors.Is(err, context.DeadlineExceeded)
}
