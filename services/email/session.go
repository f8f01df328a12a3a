package email

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"syscall"

	"github.com/emersion/go-smtp"

	"github.com/parleyhq/parley/pkg/bus"
)

// session is what one SMTP client says, mail by mail. The library calls it from
// one goroutine at a time.
type session struct {
	server *SMTPServer
	conn   *smtp.Conn
	guard  *guard
	client netip.Addr
	tls    bool
	// unknown recipients of the connection.
	unknown int

	// mu guards what follows: a mail in chunks is read beside the commands.
	mu   sync.Mutex
	mail begun
	// chunks says that one is on its way, over that none may follow.
	chunks, over bool
}

// begun is a mail as far as it has been announced.
type begun struct {
	from       string
	recipients []string
	declared   int64 // bytes, by SIZE; 0 where not said
}

// The answers that are ours.
var (
	errAnswerNeedsTLS  = &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Must issue a STARTTLS command first"}
	errAnswerUnknown   = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such address here"}
	errAnswerGuessing  = &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "Too many unknown addresses"}
	errAnswerTooLarge  = &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: "The mail is too large"}
	errAnswerLoop      = &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 4, 6}, Message: "The mail goes round in a loop"}
	errAnswerLater     = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Not available at the moment, try again later"}
	errAnswerBusy      = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "Too many large mails at the moment, try again later"}
	errAnswerNotWhole  = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 4, 2}, Message: "The mail did not come whole"}
	errAnswerOver      = &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Begin anew after a mail that was given up"}
	errAnswerNoMailYet = &smtp.SMTPError{Code: 503, EnhancedCode: smtp.EnhancedCode{5, 5, 1}, Message: "Missing MAIL command"}
)

// Mail implements smtp.Session.
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	if s.server.cfg.RequireTLS && !s.tls {
		s.refused("tls")
		return errAnswerNeedsTLS
	}
	if opts.Size > s.server.intake.cfg.MaxBytes {
		s.refused("size")
		return errAnswerTooLarge
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return errAnswerOver
	}
	s.mail = begun{from: from, declared: opts.Size}
	// From here on the bound is Data's, which can also tell a mail of exactly
	// the allowed size.
	s.conn.Server().MaxMessageBytes = 0
	return nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if _, ok := s.server.intake.cfg.Book.lookup(to); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mail.recipients = append(s.mail.recipients, to)
		return nil
	}
	s.refused("recipient")
	if s.unknown++; s.unknown >= maxUnknown {
		s.guard.end()
		return errAnswerGuessing
	}
	return errAnswerUnknown
}

// Data implements smtp.Session.
func (s *session) Data(r io.Reader) error {
	s.server.running.Add(1)
	defer s.server.running.Done()
	_, chunks := r.(*io.PipeReader)
	s.mu.Lock()
	mail := s.mail
	s.chunks = chunks
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.chunks = false
	}()
	if len(mail.recipients) == 0 {
		return errAnswerNoMailYet
	}
	ctx, cancel := s.server.taking()
	defer cancel()
	s.guard.begunData(chunks)
	b := body{session: s, mail: mail, chunks: chunks}
	defer b.release()
	err := b.read(ctx, r)
	if err == nil {
		err = s.take(mail, b.raw)
	}
	s.guard.endedData(b.rest, b.passed)
	return err
}

// take hands a whole mail to the intake and gives the answer.
func (s *session) take(mail begun, raw []byte) error {
	// The time counts from here: reading may have taken long.
	ctx, cancel := s.server.taking()
	defer cancel()
	t := s.server.intake
	_, err := t.Take(ctx, Envelope{
		Via: ViaSMTP, From: mail.from, Recipients: mail.recipients, HELO: s.conn.Hostname(), ClientIP: s.client, ReceivedTime: t.deps.Now(),
	}, raw)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrLoop):
		return errAnswerLoop
	case errors.Is(err, ErrMailTooLarge):
		return errAnswerTooLarge
	case errors.Is(err, ErrNoRecipient):
		return errAnswerUnknown
	default:
		t.log.WarnContext(ctx, "a mail cannot be taken now", "via", string(ViaSMTP), "bytes", len(raw), "full", errors.Is(err, bus.ErrFull), "error", err)
		return errAnswerLater
	}
}

// Reset implements smtp.Session.
func (s *session) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mail = begun{}
	if s.chunks {
		// The library may take the end of the mail that is given up for that of
		// the next one: there is none.
		s.over = true
		s.guard.end()
	}
	s.conn.Server().MaxMessageBytes = s.server.intake.cfg.MaxBytes
}

// Logout implements smtp.Session.
func (s *session) Logout() error { return nil }

func (s *session) refused(reason string) {
	s.server.intake.metrics.refused.WithLabelValues(reason).Inc()
}

// body is a mail while it is read.
type body struct {
	session *session
	mail    begun
	chunks  bool
	raw     []byte
	// held is the room that it has, and free gives it back.
	held int64
	free []func()
	// rest is how many bytes may still come behind a mail that was given up;
	// passed says that the library does not know that it is over.
	rest   int64
	passed bool
}

const (
	readBytes = 32 << 10
	// discardFactor times the bound is how much of a mail that is too large is
	// read to its end, so that the client hears why; then it is cut off.
	discardFactor = 4
)

// read reads a mail to its end. Its errors are answers.
func (b *body) read(ctx context.Context, r io.Reader) error {
	limit := b.session.server.intake.cfg.MaxBytes
	b.rest = discardFactor * limit
	for {
		if err := b.grow(ctx, limit); err != nil {
			b.session.refused("busy")
			return errAnswerBusy
		}
		n, err := r.Read(b.raw[len(b.raw):min(len(b.raw)+readBytes, cap(b.raw))])
		b.raw = b.raw[:len(b.raw)+n]
		if n > 0 {
			b.session.guard.tookData()
		}
		_, quiet := errors.AsType[quietError](err)
		switch {
		case int64(len(b.raw)) > limit:
			return b.tooLarge(r, err)
		case errors.Is(err, io.EOF):
			b.unstuff()
			b.rest = 0
			return nil
		case quiet && b.overlookedEnd():
			b.unstuff()
			b.rest, b.passed = 0, true
			return nil
		case err != nil && !quiet:
			b.session.refused("aborted")
			b.rest = 0
			return errAnswerNotWhole
		}
	}
}

// grow makes room for the next piece, twice as much each time, or at once what
// the client says that it will send. Beyond the first bytes it takes the room
// from what mails on their way may have together. Where several wait for each
// other's, the first that loses patience gives its own back.
func (b *body) grow(ctx context.Context, limit int64) error {
	if cap(b.raw)-len(b.raw) >= readBytes {
		return nil
	}
	size := int64(2*len(b.raw) + readBytes)
	if declared := min(b.mail.declared, limit); size > freeBytes && size < declared+readBytes {
		size = declared + readBytes
	}
	size = min(size, limit+2*readBytes)
	if size > freeBytes && size > b.held {
		free, err := b.session.server.intake.memory.hold(ctx, size-b.held)
		if err != nil {
			return err
		}
		b.free, b.held = append(b.free, free), size
	}
	b.raw = append(make([]byte, 0, size), b.raw...)
	return nil
}

func (b *body) release() {
	for _, free := range b.free {
		free()
	}
}

// tooLarge reads a mail to its end without keeping it. Of one in chunks the
// library does that.
func (b *body) tooLarge(r io.Reader, err error) error {
	b.session.refused("size")
	b.raw = nil
	b.release()
	b.free = nil
	if b.chunks {
		return errAnswerTooLarge // with the rest for the library to discard
	}
	buf := make([]byte, readBytes)
	for b.rest > 0 && err == nil {
		var n int
		n, err = r.Read(buf)
		b.rest -= int64(n)
		b.session.guard.tookData()
		if _, quiet := errors.AsType[quietError](err); quiet {
			err = nil
		}
	}
	if b.rest <= 0 || !errors.Is(err, io.EOF) {
		// It goes on and on, or has stopped within: nobody waits for an answer.
		b.session.guard.end()
	}
	b.rest = 0
	return errAnswerTooLarge
}

var (
	oddEnd     = []byte("\r\r\n.\r\n")
	oddDot     = []byte("\r\r\n.")
	oddNewline = []byte("\r\r\n")
)

// overlookedEnd says that the mail ends as the library does not see it, and
// takes the end off.
func (b *body) overlookedEnd() bool {
	if b.chunks || !bytes.HasSuffix(b.raw, oddEnd) {
		return false
	}
	b.raw = b.raw[:len(b.raw)-len(".\r\n")]
	return true
}

// unstuff takes the dots off that a client put before lines that begin with one,
// where the library overlooks that a line begins.
func (b *body) unstuff() {
	if !b.chunks && bytes.Contains(b.raw, oddDot) {
		b.raw = bytes.ReplaceAll(b.raw, oddDot, oddNewline)
	}
}

// isShortage says that the process has no file left for a connection.
func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED)
}
