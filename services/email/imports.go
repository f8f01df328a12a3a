package email

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/token"
	emailv1 "github.com/parleyhq/parley/proto/gen/parley/email/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// Service serves EmailService. It keeps nothing.
type Service struct {
	emailv1.UnimplementedEmailServiceServer
	intake *Intake
	// memory is apart from that of SMTP, which imports must not keep from its own.
	memory *memory
}

// NewService makes the service.
func NewService(intake *Intake) (*Service, error) {
	if intake == nil {
		return nil, errors.New("email service: an intake is required")
	}
	return &Service{intake: intake, memory: newMemory(intake.cfg.MaxBytesInFlight)}, nil
}

const (
	// importReaders mails of a stream are read and their blobs kept at a time:
	// most of that is waiting for the disk.
	importReaders = 8
	// importBatchEvents and importBatchBytes bound what is handed on at once.
	importBatchEvents = 256
	importBatchBytes  = 1 << 20
	// importWait is how long to wait for the recorder.
	importWait = time.Minute
)

// ImportMails implements EmailService. Mails are read several at a time, and
// handed on in their order, many at once, so that the threads of an import do
// not depend on chance.
func (s *Service) ImportMails(stream grpc.BidiStreamingServer[emailv1.ImportMailsRequest, emailv1.ImportMailsResponse]) error {
	caller, ok := tenant.From(stream.Context())
	switch {
	case !ok:
		return rpcerr.New(codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS, "no credential")
	case !caller.Scopes.Has(tenant.Record):
		return rpcerr.New(codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED, "the credential may not record interactions")
	}
	ctx, cancel := context.WithCancel(stream.Context())
	im := &importing{service: s, tenant: caller.Tenant, send: stream.Send, slots: make(chan struct{}, importReaders)}
	defer im.wait()
	defer cancel()
	jobs := make(chan *importJob, importReaders)
	received := make(chan error, 1)
	go func() {
		// The end of the call ends a Recv that waits.
		defer close(jobs)
		received <- im.receive(ctx, stream.Recv, jobs)
	}()
	// What came is answered before the error about what did not.
	if err := im.record(ctx, jobs); err != nil {
		return mapped(err)
	}
	return mapped(<-received)
}

// importing is one call.
type importing struct {
	service *Service
	tenant  string
	send    func(*emailv1.ImportMailsResponse) error
	// slots are taken by the mails that are being read.
	slots chan struct{}
}

// importJob is one mail of a call.
type importJob struct {
	number uint64
	// ready is closed once batch or err is there.
	ready chan struct{}
	batch *interactionv1.IngressBatch
	err   error
	size  int
}

// receive puts mails together and has them read, until the stream ends.
func (im *importing) receive(ctx context.Context, recv func() (*emailv1.ImportMailsRequest, error), jobs chan<- *importJob) error {
	t := im.service.intake
	var p parcel
	defer func() { p.drop() }()
	for {
		req, err := recv()
		if errors.Is(err, io.EOF) {
			if p.begun {
				return rpcerr.InvalidField("last", fmt.Sprintf("mail %d has no last part", p.number))
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.add(ctx, im.service, req); err != nil {
			return err
		}
		if !req.GetLast() {
			continue
		}
		job := &importJob{number: p.number, ready: make(chan struct{}), size: len(p.data)}
		env := Envelope{
			Via: ViaImport, Tenant: im.tenant, Mailbox: req.GetMailbox(), ReceivedTime: t.deps.Now(), Backfill: true,
		}
		if at := req.GetReceivedTime(); at.IsValid() {
			env.MailboxTime = at.AsTime()
		}
		select {
		case im.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		raw, release := p.take()
		go func() {
			defer func() { <-im.slots }()
			defer release()
			defer close(job.ready)
			job.read(ctx, t, env, raw)
		}()
		select {
		case jobs <- job:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wait waits until no mail is being read, and none will be.
func (im *importing) wait() {
	for range cap(im.slots) {
		im.slots <- struct{}{}
	}
}

func (j *importJob) read(ctx context.Context, t *Intake, env Envelope, raw []byte) {
	began := t.deps.Now()
	deliveries, err := t.compose(ctx, env, raw)
	defer func() { t.metrics.taken(env.Via, outcomeOf(j.err), len(raw), t.deps.Now().Sub(began)) }()
	if err != nil {
		j.err = err
		return
	}
	j.batch = deliveries[0].batch
	j.size = proto.Size(j.batch)
}

// parcel is a mail of which parts have come.
type parcel struct {
	number uint64
	any    bool // a mail came before
	begun  bool
	data   []byte
	held   int64
	free   []func()
}

// add adds a part.
func (p *parcel) add(ctx context.Context, s *Service, req *emailv1.ImportMailsRequest) error {
	switch {
	case p.begun && req.GetNumber() != p.number:
		return rpcerr.InvalidField("number", fmt.Sprintf("mail %d begins before mail %d has ended", req.GetNumber(), p.number))
	case !p.begun && p.any && req.GetNumber() != p.number+1:
		return rpcerr.InvalidField("number", fmt.Sprintf("mail %d follows mail %d; numbers go up by one", req.GetNumber(), p.number))
	case int64(len(p.data)+len(req.GetData())) > s.intake.cfg.MaxBytes:
		return rpcerr.InvalidField("data", fmt.Sprintf("mail %d is over %d bytes", req.GetNumber(), s.intake.cfg.MaxBytes))
	}
	p.number, p.begun, p.any = req.GetNumber(), true, true
	size := int64(len(p.data) + len(req.GetData()))
	if size > freeBytes && size > p.held {
		// A mail of several parts may grow to the largest; taken in one piece no
		// two can wait for each other.
		want := s.intake.cfg.MaxBytes
		if req.GetLast() && p.held == 0 {
			want = size
		}
		free, err := s.memory.hold(ctx, want-p.held)
		if err != nil {
			return err
		}
		p.free, p.held = append(p.free, free), want
	}
	p.data = append(p.data, req.GetData()...)
	return nil
}

// take gives the whole mail and what gives its room back.
func (p *parcel) take() (data []byte, release func()) {
	data, free := p.data, p.free
	p.data, p.free, p.held, p.begun = nil, nil, 0, false
	return data, func() {
		for _, f := range free {
			f()
		}
	}
}

func (p *parcel) drop() {
	_, release := p.take()
	release()
}

// record hands on what was read, in the order of the mails, and answers. It
// ends with the jobs, or with the first mail that cannot be kept.
func (im *importing) record(ctx context.Context, jobs <-chan *importJob) error {
	var next *importJob
	for {
		job := next
		if next = nil; job == nil {
			var ok bool
			select {
			case job, ok = <-jobs:
			case <-ctx.Done():
				return ctx.Err()
			}
			if !ok {
				return nil
			}
		}
		<-job.ready
		if job.err != nil {
			return job.err
		}
		group := []*importJob{job}
		events, size := len(job.batch.GetEvents()), job.size
		// Whatever else has come goes along.
		for fits := true; fits; {
			select {
			case more, ok := <-jobs:
				if fits = ok; !ok {
					continue
				}
				<-more.ready
				if more.err != nil || events+len(more.batch.GetEvents()) > importBatchEvents || size+more.size > importBatchBytes {
					next, fits = more, false
					continue
				}
				group = append(group, more)
				events, size = events+len(more.batch.GetEvents()), size+more.size
			default:
				fits = false
			}
		}
		if err := im.handOn(ctx, group); err != nil {
			return err
		}
	}
}

// handOn hands on the mails of a group and answers each.
func (im *importing) handOn(ctx context.Context, group []*importJob) error {
	batch := &interactionv1.IngressBatch{}
	for _, j := range group {
		batch.Events = append(batch.Events, j.batch.GetEvents()...)
		batch.Quarantined = append(batch.Quarantined, j.batch.GetQuarantined()...)
	}
	waiting, cancel := context.WithTimeout(ctx, importWait)
	defer cancel()
	reply, err := im.service.intake.deps.Publisher.PublishAndWait(waiting, im.tenant, channel, batch)
	switch {
	case err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("wait for the recorder: %w: %w", bus.ErrUnavailable, err)
	case err != nil:
		return fmt.Errorf("hand on %d mails: %w", len(group), err)
	case len(reply.GetResults()) != len(batch.GetEvents()):
		return fmt.Errorf("the recorder answered about %d of %d events", len(reply.GetResults()), len(batch.GetEvents()))
	}
	im.service.intake.metrics.published(batch)
	consistency := ""
	if id, err := uuid.Parse(reply.GetLogId()); err == nil {
		consistency = token.NewConsistency(id, eventstore.Position(reply.GetPosition())).String()
	}
	results := reply.GetResults()
	for _, j := range group {
		n := len(j.batch.GetEvents())
		resp := importAnswer(j, results[:n])
		results = results[n:]
		resp.ConsistencyToken = consistency
		if err := im.send(resp); err != nil {
			return err
		}
	}
	return nil
}

// importAnswer says what became of a mail: of several events the worst.
func importAnswer(j *importJob, results []*interactionv1.RecordResult) *emailv1.ImportMailsResponse {
	resp := &emailv1.ImportMailsResponse{Number: j.number, Outcome: emailv1.ImportOutcome_IMPORT_OUTCOME_DUPLICATE}
	var reasons []string
	for _, q := range j.batch.GetQuarantined() {
		reasons = append(reasons, q.GetCode()+": "+q.GetReason())
	}
	for _, r := range results {
		if resp.EventId == "" {
			resp.EventId = r.GetEventId()
		}
		switch r.GetOutcome() {
		case interactionv1.RecordOutcome_RECORD_OUTCOME_RECORDED:
			resp.Outcome = emailv1.ImportOutcome_IMPORT_OUTCOME_RECORDED
		case interactionv1.RecordOutcome_RECORD_OUTCOME_DUPLICATE:
		default:
			reasons = append(reasons, r.GetReason())
		}
	}
	if len(reasons) > 0 {
		resp.Outcome, resp.Reason = emailv1.ImportOutcome_IMPORT_OUTCOME_QUARANTINED, strings.Join(reasons, "; ")
	}
	return resp
}

// mapped brings the gateway's own errors into the form that leaves the server;
// the others are rpcerr's.
func mapped(err error) error {
	const soon = time.Second
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errBusy):
		return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE, "too many large mails at a time",
			rpcerr.WithCause(err), rpcerr.WithRetryAfter(soon))
	case errors.Is(err, blob.ErrUnavailable), errors.Is(err, blob.ErrDenied), errors.Is(err, blob.ErrClosed):
		return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE, "the blob store cannot be reached",
			rpcerr.WithCause(err), rpcerr.WithRetryAfter(soon))
	default:
		return rpcerr.FromError(err)
	}
}
