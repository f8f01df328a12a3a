package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/rpcerr"
	emailv1 "github.com/parleyhq/parley/proto/gen/parley/email/v1"
)

const (
	// mailPart is how much of a mail goes in one message, in bytes.
	mailPart = 256 << 10
	// mailsInFlight and mailBytesInFlight are on their way at a time, and kept
	// until they are answered.
	mailsInFlight     = 128
	mailBytesInFlight = 32 << 20
)

// mailResult is what an import of mails did.
type mailResult struct {
	// Mails read, and files that are none.
	Mails    int64 `json:"mails"`
	NotMails int64 `json:"notMails"`
	// What became of the mails.
	Recorded    int64 `json:"recorded"`
	Duplicates  int64 `json:"duplicates"`
	Refused     int64 `json:"refused"`
	Quarantined int64 `json:"quarantined"`
	// Token of a read that sees all of them.
	ConsistencyToken string `json:"consistencyToken,omitempty"`
}

func (r mailResult) failed() bool { return r.NotMails+r.Refused+r.Quarantined > 0 }

// mailImporter sends mails, many of them before the first is answered, and
// sends those anew that were not where the call breaks off.
type mailImporter struct {
	importReport
	service emailv1.EmailServiceClient
	mailbox string

	// Guarded by the report's mu.
	result mailResult
	// waiting are the mails that are not answered, in their order; first is the
	// number of the first.
	waiting []foundMail
	first   uint64
	bytes   int
	room    *sync.Cond // something was answered, or the call ended
	broken  bool       // the call ended
}

// importMails imports mails.
func (a *App) importMails(ctx context.Context, c *client, conn *grpc.ClientConn, files []string, stdin io.Reader, o importOptions) error {
	im := &mailImporter{
		importReport: importReport{app: a, what: "mails", bad: "bad mails", maxShown: int64(o.shown), began: time.Now()},
		service:      emailv1.NewEmailServiceClient(conn), mailbox: o.mailbox,
	}
	im.room = sync.NewCond(&im.mu)
	result, err := im.run(ctx, files, stdin)
	if err != nil {
		return err
	}
	if err := a.importTable(c, result, []importRow{
		{"mails read", result.Mails}, {"files that are no mails", result.NotMails}, {"mails recorded", result.Recorded},
		{"already there", result.Duplicates}, {"refused", result.Refused}, {"in quarantine", result.Quarantined},
	}); err != nil {
		return err
	}
	if result.failed() {
		return reportedError{}
	}
	return nil
}

func (im *mailImporter) run(ctx context.Context, files []string, stdin io.Reader) (mailResult, error) {
	im.measure(files)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mails := make(chan foundMail)
	read := make(chan error, 1)
	go func() {
		defer close(mails)
		read <- im.files(ctx, files, stdin, mails)
	}()
	stopProgress := im.progress()
	err := im.sendAll(ctx, mails)
	cancel()
	if readErr := <-read; err == nil || readErr != nil && !errors.Is(readErr, context.Canceled) {
		err = errors.Join(readErr)
	}
	stopProgress()
	return im.result, im.ended(err)
}

// files reads the mails of all files.
func (im *mailImporter) files(ctx context.Context, names []string, stdin io.Reader, mails chan<- foundMail) error {
	f := mailFiles{
		stdin: stdin,
		wrap:  func(r io.Reader) io.Reader { return counted{r, &im.read} },
		found: func(m foundMail) error {
			im.count(func(r *mailResult) { r.Mails++ })
			select {
			case mails <- m:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		other: func(m foundMail, why string) error {
			im.count(func(r *mailResult) { r.NotMails++ })
			im.problem(m, why)
			return ctx.Err()
		},
	}
	return f.walk(names)
}

func (im *mailImporter) count(f func(*mailResult)) {
	im.mu.Lock()
	defer im.mu.Unlock()
	f(&im.result)
}

// sendAll sends all mails, again and again while the server cannot take them.
func (im *mailImporter) sendAll(ctx context.Context, mails <-chan foundMail) error {
	wait := importRetry
	giveUp := time.Now().Add(importPatience)
	for {
		before := im.done.Load()
		err := im.call(ctx, mails)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if im.done.Load() > before {
			wait, giveUp = importRetry, time.Now().Add(importPatience)
		}
		switch {
		case err == nil:
			return nil
		case rpcerr.CodeOf(err) == codes.InvalidArgument && im.refuseFirst(err):
			continue
		case im.done.Load() == 0 && rpcerr.ReasonOf(err) == 0 && rpcerr.CodeOf(err) == codes.Unavailable:
			return err // nobody was ever there
		case !importRetryable(err) || time.Now().After(giveUp):
			return err
		}
		if e, ok := rpcerr.Parse(err); ok && e.RetryAfter > wait {
			wait = e.RetryAfter
		}
		im.say("parley: %s; trying again in %s", clean(strings.ReplaceAll(explain(err), "\n", " ")), wait)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, maxImportRetry)
	}
}

// refuseFirst counts the first mail that is not answered as refused: the server
// answers all before it.
func (im *mailImporter) refuseFirst(err error) bool {
	im.mu.Lock()
	if len(im.waiting) == 0 {
		im.mu.Unlock()
		return false
	}
	m := im.waiting[0]
	im.drop()
	im.result.Refused++
	im.mu.Unlock()
	im.problem(m, "refused: "+strings.ReplaceAll(explain(err), "\n", " "))
	im.done.Add(1)
	return true
}

// drop takes the first mail off; mu is held.
func (im *mailImporter) drop() {
	im.bytes -= len(im.waiting[0].raw)
	im.waiting[0] = foundMail{}
	im.waiting = im.waiting[1:]
	im.first++
}

// call sends in one call what is left, until all is answered or it breaks off.
func (im *mailImporter) call(ctx context.Context, mails <-chan foundMail) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := im.service.ImportMails(ctx)
	if err != nil {
		return err
	}
	im.mu.Lock()
	im.broken = false
	again, number := append([]foundMail(nil), im.waiting...), im.first
	im.mu.Unlock()

	answered := make(chan error, 1)
	go func() {
		err := im.receive(stream)
		im.mu.Lock()
		im.broken = true
		im.room.Broadcast()
		im.mu.Unlock()
		answered <- err
	}()
	sendErr := func() error {
		for _, m := range again {
			if err := im.send(stream, number, m); err != nil {
				return err
			}
			number++
		}
		for {
			if !im.awaitRoom() {
				return io.EOF
			}
			var m foundMail
			var ok bool
			select {
			case m, ok = <-mails:
			case <-ctx.Done():
				return ctx.Err()
			}
			if !ok {
				return stream.CloseSend()
			}
			im.mu.Lock()
			im.waiting = append(im.waiting, m)
			im.bytes += len(m.raw)
			im.mu.Unlock()
			if err := im.send(stream, number, m); err != nil {
				return err
			}
			number++
		}
	}()
	if sendErr != nil && !errors.Is(sendErr, io.EOF) {
		cancel()
	}
	// Where sending failed the answer says why.
	recvErr := <-answered
	if recvErr == nil && sendErr != nil && !errors.Is(sendErr, io.EOF) {
		return sendErr
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	if recvErr == nil && len(im.waiting) > 0 {
		return rpcerr.New(codes.Unavailable, 0, fmt.Sprintf("the server left %d mails unanswered", len(im.waiting)))
	}
	return recvErr
}

// awaitRoom waits until another mail may be sent; false where the call has ended.
func (im *mailImporter) awaitRoom() bool {
	im.mu.Lock()
	defer im.mu.Unlock()
	for !im.broken && (len(im.waiting) >= mailsInFlight || im.bytes >= mailBytesInFlight) {
		im.room.Wait()
	}
	return !im.broken
}

// send sends one mail in parts.
func (im *mailImporter) send(stream grpc.BidiStreamingClient[emailv1.ImportMailsRequest, emailv1.ImportMailsResponse], number uint64, m foundMail) error {
	for at := 0; ; at += mailPart {
		end := min(at+mailPart, len(m.raw))
		req := &emailv1.ImportMailsRequest{Number: number, Data: m.raw[at:end], Last: end == len(m.raw)}
		if req.GetLast() {
			req.Mailbox = im.mailbox
			if !m.taken.IsZero() {
				req.ReceivedTime = timestamppb.New(m.taken)
			}
		}
		if err := stream.Send(req); err != nil || req.GetLast() {
			return err
		}
	}
}

// receive takes the answers of a call; nil at its end.
func (im *mailImporter) receive(stream grpc.BidiStreamingClient[emailv1.ImportMailsRequest, emailv1.ImportMailsResponse]) error {
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		im.mu.Lock()
		if len(im.waiting) == 0 || resp.GetNumber() != im.first {
			im.mu.Unlock()
			return fmt.Errorf("the server answered for mail %d, which is not its turn", resp.GetNumber())
		}
		m := im.waiting[0]
		im.drop()
		im.room.Broadcast()
		switch resp.GetOutcome() {
		case emailv1.ImportOutcome_IMPORT_OUTCOME_RECORDED:
			im.result.Recorded++
		case emailv1.ImportOutcome_IMPORT_OUTCOME_DUPLICATE:
			im.result.Duplicates++
		default:
			im.result.Quarantined++
		}
		if t := resp.GetConsistencyToken(); t != "" {
			im.result.ConsistencyToken = t
		}
		im.mu.Unlock()
		if resp.GetOutcome() == emailv1.ImportOutcome_IMPORT_OUTCOME_QUARANTINED {
			im.problem(m, "in quarantine: "+resp.GetReason())
		}
		im.done.Add(1)
	}
}
