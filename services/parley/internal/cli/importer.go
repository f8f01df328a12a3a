package cli

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/rpcerr"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/web"
)

const (
	// A batch has at most importBatch interactions and about importBytes.
	importBatch = 500
	importBytes = 1 << 20
	// importInFlight batches are on their way at a time.
	importInFlight = 4
	// importPatience is how long a batch is tried again.
	importPatience = 2 * time.Minute
	importRetry    = 500 * time.Millisecond
	maxImportRetry = 15 * time.Second
	// maxLine is the longest line that is read at all; calls end at 32 KiB.
	maxLine = 1 << 20
)

// importer reads lines, gathers them into batches and records those, several
// at a time.
type importer struct {
	importReport
	client  *client
	service interactionv1.InteractionServiceClient
	mapper  *web.Mapper
	key     web.Key
	stdin   io.Reader

	// Guarded by the report's mu.
	result   importResult
	position uint64 // of result's token
}

// pending is a batch with the line that each of its interactions came from.
type pending struct {
	request *interactionv1.RecordBatchRequest
	places  []place
	size    int
}

type place struct {
	file string
	line int64
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

func (im *importer) run(ctx context.Context, files []string) (importResult, error) {
	im.measure(files)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	batches := make(chan *pending)
	var senders sync.WaitGroup
	for range importInFlight {
		senders.Go(func() {
			for b := range batches {
				if err := im.send(ctx, b); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	stopProgress := im.progress()
	err := im.files(ctx, files, batches)
	close(batches)
	senders.Wait()
	stopProgress()
	if err == nil || ctx.Err() != nil {
		// What ended the context says more than that it ended.
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
	}
	return im.result, im.ended(err)
}

func (im *importer) files(ctx context.Context, files []string, batches chan<- *pending) error {
	for _, name := range files {
		r := im.stdin
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				return fmt.Errorf("import: %w", err)
			}
			defer func() { _ = f.Close() }() // it was only read
			r = f
		}
		if err := im.file(ctx, name, r, batches); err != nil {
			return err
		}
	}
	return nil
}

func (im *importer) file(ctx context.Context, name string, r io.Reader, batches chan<- *pending) error {
	const bufferSize = 256 << 10
	lines := bufio.NewReaderSize(counted{r, &im.read}, bufferSize)
	if magic, err := lines.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		unpacked, err := gzip.NewReader(lines)
		if err != nil {
			return fmt.Errorf("import %s: unpack: %w", name, err)
		}
		lines = bufio.NewReaderSize(unpacked, bufferSize)
	}
	batch := &pending{request: &interactionv1.RecordBatchRequest{}}
	flush := func() error {
		if len(batch.places) == 0 {
			return nil
		}
		select {
		case batches <- batch:
		case <-ctx.Done():
			return ctx.Err()
		}
		batch = &pending{request: &interactionv1.RecordBatchRequest{}}
		return nil
	}
	for at := (place{file: name, line: 1}); ; at.line++ {
		line, tooLong, last, err := readLine(lines)
		if err != nil {
			return fmt.Errorf("import %s: read line %d: %w", name, at.line, err)
		}
		switch {
		case tooLong:
			im.count(func(r *importResult) { r.Lines++; r.BadLines++ })
			im.problem(at, fmt.Sprintf("is longer than %d bytes", maxLine))
		case len(strings.TrimSpace(string(line))) > 0:
			im.add(batch, at, line)
		}
		if len(batch.places) >= importBatch || batch.size >= importBytes || last {
			if err := flush(); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
	}
}

// readLine reads one line, which may be the last one; of one that is too long
// nothing is kept.
func readLine(r *bufio.Reader) (line []byte, tooLong, last bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if !tooLong {
			line = append(line, part...)
		}
		if len(line) > maxLine {
			line, tooLong = nil, true
		}
		switch {
		case err == nil:
			return line, tooLong, false, nil
		case errors.Is(err, io.EOF):
			return line, tooLong, true, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, false, false, err
		}
	}
}

// add reads a line into the batch, or reports it.
func (im *importer) add(batch *pending, at place, line []byte) {
	events, violations := im.mapper.ParseLine(line, im.key, im.app.Now())
	im.count(func(r *importResult) {
		r.Lines++
		if len(violations) > 0 {
			r.BadLines++
		}
	})
	if len(violations) > 0 {
		texts := make([]string, len(violations))
		for i, v := range violations {
			texts[i] = v.String()
		}
		im.problem(at, strings.Join(texts, "; "))
		return
	}
	for _, ev := range events {
		in := interactionOf(ev)
		batch.request.Interactions = append(batch.request.Interactions, in)
		batch.places = append(batch.places, at)
		batch.size += proto.Size(in)
	}
}

// interactionOf gives of an event what InteractionService takes. The server
// makes the event's id of the credential's source and the source's own id;
// that of the cause is not known here, so it is left out. A line that said no
// time says none here either: importing it again then is the same content.
func interactionOf(ev *eventv1.Event) *interactionv1.Interaction {
	in := &interactionv1.Interaction{
		SourceId: ev.GetSourceId(), Channel: ev.GetChannel(), Direction: ev.GetDirection(), Conversation: ev.GetConversation(),
		SourceSequence: ev.GetSourceSequence(), Identifiers: ev.GetIdentifiers(), Actor: ev.GetActor(), Backfill: true, Payload: ev.GetPayload(),
		ContextJson: ev.GetContextJson(),
	}
	if ev.GetTimeQuality() != eventv1.TimeQuality_TIME_QUALITY_RECEIVED {
		in.OccurredTime = ev.GetOccurredTime()
	}
	return in
}

// send records a batch, again and again while the server cannot take it.
func (im *importer) send(ctx context.Context, b *pending) error {
	wait := importRetry
	giveUp := time.Now().Add(importPatience)
	for {
		callCtx, cancel := context.WithTimeout(ctx, im.client.timeout)
		resp, err := im.service.RecordBatch(callCtx, b.request)
		cancel()
		if err == nil {
			return im.answered(b, resp)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if im.done.Load() == 0 && rpcerr.ReasonOf(err) == 0 && rpcerr.CodeOf(err) == codes.Unavailable {
			return err // nobody was ever there
		}
		if !importRetryable(err) || time.Now().After(giveUp) {
			return err
		}
		if e, ok := rpcerr.Parse(err); ok && e.RetryAfter > wait {
			wait = e.RetryAfter
		}
		im.say("parley: %s; trying again in %s", clean(strings.ReplaceAll(explain(err), "\n", " ")), wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, maxImportRetry)
	}
}

func importRetryable(err error) bool {
	switch rpcerr.CodeOf(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Aborted:
		return true
	default:
		return false
	}
}

// answered counts what became of a batch.
func (im *importer) answered(b *pending, resp *interactionv1.RecordBatchResponse) error {
	if len(resp.GetResults()) != len(b.places) {
		return fmt.Errorf("the server answered for %d interactions of %d", len(resp.GetResults()), len(b.places))
	}
	for i, r := range resp.GetResults() {
		switch r.GetOutcome() {
		case interactionv1.RecordOutcome_RECORD_OUTCOME_RECORDED:
			im.count(func(r *importResult) { r.Recorded++ })
		case interactionv1.RecordOutcome_RECORD_OUTCOME_DUPLICATE:
			im.count(func(r *importResult) { r.Duplicates++ })
		case interactionv1.RecordOutcome_RECORD_OUTCOME_QUARANTINED:
			im.count(func(r *importResult) { r.Quarantined++ })
			im.problem(b.places[i], "in quarantine: "+r.GetReason())
		case interactionv1.RecordOutcome_RECORD_OUTCOME_REFUSED, interactionv1.RecordOutcome_RECORD_OUTCOME_UNSPECIFIED:
			im.count(func(r *importResult) { r.Refused++ })
			im.problem(b.places[i], "refused: "+r.GetReason())
		}
		im.mu.Lock()
		if r.GetPosition() >= im.position && resp.GetConsistencyToken() != "" {
			im.position, im.result.ConsistencyToken = r.GetPosition(), resp.GetConsistencyToken()
		}
		im.mu.Unlock()
	}
	im.done.Add(int64(len(b.places)))
	return nil
}

func (im *importer) count(f func(*importResult)) {
	im.mu.Lock()
	defer im.mu.Unlock()
	f(&im.result)
}
