package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parleyhq/parley/pkg/rpcerr"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// Following projections for hours: what is shown meanwhile, and that a server
// which goes away and comes back costs nothing but the time it was away.

// defaultPatience is how long a server may be away: longer than a restart with
// another binary takes.
const defaultPatience = 2 * time.Minute

// steady asks a server again and again while it is away, for so long as its
// patience lasts. A server that has never answered is no such case.
type steady struct {
	conn     *grpc.ClientConn
	patience time.Duration
	// say is told what becomes of the connection; lost is false once it is back.
	say func(text string, lost bool)

	answered bool
	broken   time.Time     // since when it is away; zero while it answers
	wait     time.Duration // before the next try
}

// well says that the server has answered.
func (s *steady) well() {
	if !s.broken.IsZero() {
		s.say("connected again after "+roughly(time.Since(s.broken)), false)
	}
	s.answered, s.broken = true, time.Time{}
}

// again says whether to ask once more after an error, having waited for that.
func (s *steady) again(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil || !s.answered || !retryable(err) {
		return false
	}
	if s.broken.IsZero() {
		s.broken, s.wait = time.Now(), tailFirstRetry
	}
	left := s.patience - time.Since(s.broken)
	if left <= 0 {
		return false
	}
	wait := min(s.wait, left)
	s.say(fmt.Sprintf("connection lost: %s; trying again in %s, for another %s at most",
		strings.ReplaceAll(explain(err), "\n", " "), roughly(wait), roughly(left)), true)
	s.wait = min(2*s.wait, tailLastRetry)
	return s.pause(ctx, wait)
}

// pause waits, shorter where a broken connection is up again before. It is
// false where the command was ended meanwhile.
func (s *steady) pause(ctx context.Context, d time.Duration) bool {
	timed, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	up := s.conn.GetState() == connectivity.Ready
	s.conn.ResetConnectBackoff()
	s.conn.Connect()
	for {
		state := s.conn.GetState()
		if state == connectivity.Ready && !up {
			break
		}
		// A server that answers with refusals is not asked the faster for it.
		up = up && state == connectivity.Ready
		if !s.conn.WaitForStateChange(timed, state) {
			break
		}
	}
	return ctx.Err() == nil
}

// given adds to the error after which patience ran out that it did.
func (s *steady) given(err error) error {
	if s.broken.IsZero() || !retryable(err) {
		return err
	}
	return &patienceError{err: typed(err), after: s.patience}
}

// patienceError is that a server stayed away.
type patienceError struct {
	err   error
	after time.Duration
}

func (e *patienceError) Error() string { return e.err.Error() }
func (e *patienceError) Unwrap() error { return e.err }

// display shows how something comes along: in place on a terminal, in lines elsewhere.
type display struct {
	app *App
	// screen is nil where lines are written.
	screen *screen
	rows   []row // that stand on the screen
}

// show replaces what stands on the screen.
func (d *display) show(rows []row) error {
	d.rows = rows
	return d.screen.draw(rows)
}

// connection shows what becomes of the connection: on a screen below what
// stands there, and for good once it is back.
func (d *display) connection(text string, lost bool) {
	switch {
	case d.screen == nil:
		d.app.complain("parley: %s", clean(text))
	case lost:
		// Where that fails there is nobody to tell.
		_ = d.screen.draw(append(d.rows[:len(d.rows):len(d.rows)], textRow(styleWarn, text)))
	default:
		_ = d.screen.say(textRow(styleDim, d.app.Now().In(d.app.Location).Format(time.TimeOnly)+"  "+text))
	}
}

// close ends it; with keep what was shown last stays on the screen.
func (d *display) close(keep bool) {
	if d.screen != nil {
		d.screen.close(keep)
	}
}

// following reads pictures of projections, over as many connections as it takes.
type following struct {
	client   *client
	service  opsv1.ProjectionServiceClient
	names    []string
	interval time.Duration
	steady   *steady
}

// errQuiet ends a stream on which nothing comes any more.
var errQuiet = errors.New("quiet")

// run hands each picture to take until that says that it has seen enough.
func (f *following) run(ctx context.Context, take func(*opsv1.WatchProjectionsResponse) (bool, error)) error {
	for {
		enough, err := f.once(ctx, take)
		if enough || err == nil {
			return err
		}
		if !f.steady.again(ctx, err) {
			return f.steady.given(err)
		}
	}
}

// once reads one stream. It is true where take has ended it, and then the
// error is take's.
func (f *following) once(ctx context.Context, take func(*opsv1.WatchProjectionsResponse) (bool, error)) (bool, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	const missed = 3 // pictures that may be late
	quiet := max(f.client.timeout, missed*f.interval)
	watchdog := time.AfterFunc(quiet, func() { cancel(errQuiet) })
	defer watchdog.Stop()
	stream, err := f.service.WatchProjections(ctx, &opsv1.WatchProjectionsRequest{Projections: f.names, Interval: durationpb.New(f.interval)})
	if err != nil {
		return false, err
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(context.Cause(ctx), errQuiet) {
			return false, rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_UNSPECIFIED, "no word from the server for "+roughly(quiet))
		}
		if errors.Is(err, io.EOF) {
			return false, rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_UNSPECIFIED, "the server ended the call")
		}
		if err != nil {
			return false, err
		}
		watchdog.Stop()
		f.steady.well()
		if enough, err := take(resp); enough || err != nil {
			return true, err
		}
		watchdog.Reset(quiet)
	}
}
