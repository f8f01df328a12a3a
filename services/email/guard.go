package email

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// guard is a connection of the SMTP server with bounds that the library has
// not, or has at the wrong place: its bound on lines holds for mails too, whose
// lines may be of any length. It stands below TLS and counts bytes only:
//
//   - Between two signs of progress (an answer, or a piece of a mail that was
//     taken over) a client may send so many bytes: an endless command ends.
//   - Reading has a deadline for each piece and one for the connection.
//   - A connection that is to end gives a timeout to the library, which says
//     421 and closes.
type guard struct {
	net.Conn
	cfg *SMTPConfig

	mu sync.Mutex
	// budget is what may be read before there is progress, in bytes.
	budget int64
	// until is when the connection ends whatever it does.
	until time.Time
	// progressed is when there was progress the last time.
	progressed time.Time
	// answers that were written.
	answers int
	// data says that a mail is on its way, quiet that its end is looked for
	// where nothing comes, passed that it ended without the library knowing.
	data, quiet, passed bool
	// stopping says that the connection is to end with the mail on its way;
	// ended that nothing is read any more.
	stopping, ended bool
}

const (
	// commandBytes may come without an answer: a line is up to 12,288 bytes with
	// all extensions (RFC 5321, 4.5.3.1.4), a group of commands and a TLS record
	// come in one piece.
	commandBytes = 64 << 10
	// dataBytes may come without being taken over: what lies in buffers.
	dataBytes = 256 << 10
	// maxAnswers of one connection: a mail takes four, more with many recipients.
	maxAnswers = 10_000
	// quietAfter is how long nothing must come within a mail before its end is
	// looked for; see quietError.
	quietAfter = 2 * time.Second
	// dataIdle is how long nothing must come within a mail: it takes up room.
	dataIdle = time.Minute
)

// quietError says that nothing has come for a while within a mail. The library
// takes CR CR LF for no end of a line, so that it overlooks the end of a mail
// whose last line has an extra CR: the client waits for our answer then, and we
// for the end. It is temporary, so that TLS goes on behind it.
type quietError struct{}

func (quietError) Error() string   { return "nothing came for a while" }
func (quietError) Timeout() bool   { return true }
func (quietError) Temporary() bool { return true }

// errFlood says that a client sends without end.
var errFlood = errors.New("too many bytes without an end")

func newGuard(conn net.Conn, cfg *SMTPConfig) *guard {
	now := time.Now()
	return &guard{Conn: conn, cfg: cfg, budget: commandBytes, until: now.Add(cfg.SessionTimeout), progressed: now}
}

// Read implements net.Conn.
func (g *guard) Read(p []byte) (int, error) {
	quiet, most, err := g.begin(len(p))
	if err != nil {
		return 0, err
	}
	n, err := g.Conn.Read(p[:most])
	g.mu.Lock()
	defer g.mu.Unlock()
	g.budget -= int64(n)
	if n == 0 && quiet && !g.ended && errors.Is(err, os.ErrDeadlineExceeded) {
		if now := time.Now(); now.Sub(g.progressed) < min(g.cfg.IdleTimeout, dataIdle) && now.Before(g.until) {
			return 0, quietError{}
		}
	}
	return n, err
}

// begin sets the deadline of one read and says how much it may read.
func (g *guard) begin(n int) (quiet bool, most int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.ended:
		return false, 0, os.ErrDeadlineExceeded
	case g.passed:
		return false, 0, quietError{}
	case g.budget <= 0:
		return false, 0, errFlood
	}
	now := time.Now()
	deadline := now.Add(g.cfg.IdleTimeout)
	switch {
	case g.quiet:
		deadline = now.Add(quietAfter)
	case g.data:
		deadline = now.Add(min(g.cfg.IdleTimeout, dataIdle))
	}
	if g.until.Before(deadline) {
		deadline = g.until
	}
	if err := g.SetReadDeadline(deadline); err != nil {
		return false, 0, err
	}
	return g.quiet, int(min(int64(n), g.budget)), nil
}

// Write implements net.Conn: an answer.
func (g *guard) Write(p []byte) (int, error) {
	g.mu.Lock()
	g.progressed = time.Now()
	if g.passed = false; !g.data {
		g.budget = commandBytes
	}
	if g.answers++; g.answers >= maxAnswers {
		g.ended = true
	}
	g.mu.Unlock()
	return g.Conn.Write(p)
}

// begunData says that a mail begins. Within one that comes in chunks the library
// reads commands, which nothing may disturb.
func (g *guard) begunData(chunks bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.data, g.quiet, g.budget, g.progressed = true, !chunks, dataBytes, time.Now()
}

// tookData says that a piece of it was taken over.
func (g *guard) tookData() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.budget, g.progressed = dataBytes, time.Now()
}

// endedData says that the mail is over; what is still to come of it may have
// so many bytes. With passed the library does not know that it is.
func (g *guard) endedData(rest int64, passed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.data, g.quiet, g.passed = false, false, passed
	g.budget = max(rest, commandBytes)
	if g.stopping {
		g.interrupt()
	}
}

// end lets the connection end: at once where it waits for a command, and else
// with the mail that is on its way.
func (g *guard) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopping = true
	if g.data {
		return
	}
	g.interrupt()
}

// interrupt ends reading, also where it waits; mu is held.
func (g *guard) interrupt() {
	g.ended = true
	// A connection that is gone needs no deadline.
	_ = g.SetReadDeadline(time.Unix(1, 0))
}
