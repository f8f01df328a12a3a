package email

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// SMTPServer takes mail by SMTP (RFC 5321) with STARTTLS, SIZE, 8BITMIME,
// SMTPUTF8, PIPELINING and CHUNKING, for the addresses of the intake's book and
// nobody else's. It offers no AUTH, and VRFY and EXPN tell nothing.
//
//	what                                       answer
//	-----------------------------------------  ------------------------------
//	a mail, safe                               250
//	recipient unknown                          550 5.1.1, 421 after many
//	too large: said, or found out              552 5.3.4 to MAIL, or at the end
//	it passed too many relays                  554 5.4.6
//	not now: NATS, the log or blobs are away   451 4.3.0
//	not now: too many large mails at a time    451 4.3.2
//	plain text where TLS is required           530 5.7.0
//	too many connections, commands; too slow;
//	the server stops                           421
//
// A mail ends with CRLF, dot, CRLF and in no other way. What has CR or LF alone
// is kept as it came, with a defect.
type SMTPServer struct {
	intake *Intake
	cfg    SMTPConfig
	log    *slog.Logger
	// taking makes the context of one mail; giveUp ends all of them.
	taking func() (context.Context, context.CancelFunc)
	giveUp context.CancelFunc

	mu       sync.Mutex
	lis      net.Listener
	stopping bool
	open     map[*guard]struct{}
	byClient map[netip.Addr]int
	// running are the connections and mails that are handled.
	running sync.WaitGroup
}

// SMTPConfig of the server.
type SMTPConfig struct {
	// TLS for STARTTLS. Defaults to none: it is not offered.
	TLS *tls.Config
	// RequireTLS refuses mail in plain text. Needs TLS. Defaults to false.
	RequireTLS bool
	// MaxConnections at a time. Defaults to 200.
	MaxConnections int
	// MaxClientConnections of one address at a time; relays of one's own may
	// have as many as there are. Defaults to 50.
	MaxClientConnections int
	// IdleTimeout is how long to wait for a client. Defaults to 5m, which RFC
	// 5321, 4.5.3.2.7, asks for.
	IdleTimeout time.Duration
	// SessionTimeout is how long a connection may last. Defaults to 1h.
	SessionTimeout time.Duration
	// TakeTimeout bounds what is done with a whole mail before it is answered;
	// clients wait for ten minutes (4.5.3.2.6). Defaults to 2m.
	TakeTimeout time.Duration
}

const (
	// MaxRecipients of one mail (RFC 5321, 4.5.3.1.8, asks for 100).
	MaxRecipients = 100
	// maxUnknown recipients of one connection: who has no more luck guesses.
	maxUnknown = 50

	writeTimeout = time.Minute
	// refuseTimeout bounds the answer to a connection that is not taken.
	refuseTimeout = time.Second
	// acceptRetry is how long to wait where the process has no file left.
	acceptRetry = 100 * time.Millisecond
	// cutOffPatience is how long connections that were cut off may take to end.
	cutOffPatience = 5 * time.Second
)

// NewSMTPServer makes a server. It serves nothing until Serve is called.
func NewSMTPServer(intake *Intake, cfg SMTPConfig) (*SMTPServer, error) {
	if intake == nil {
		return nil, errors.New("SMTP server: an intake is required")
	}
	if cfg.RequireTLS && cfg.TLS == nil {
		return nil, errors.New("SMTP server: TLS is required and not configured")
	}
	setDefault(&cfg.MaxConnections, 200)
	setDefault(&cfg.MaxClientConnections, 50)
	setDefault(&cfg.IdleTimeout, 5*time.Minute)
	setDefault(&cfg.SessionTimeout, time.Hour)
	setDefault(&cfg.TakeTimeout, 2*time.Minute)
	base, giveUp := context.WithCancel(context.Background())
	return &SMTPServer{
		intake: intake, cfg: cfg, log: intake.log,
		taking: func() (context.Context, context.CancelFunc) { return context.WithTimeout(base, cfg.TakeTimeout) },
		giveUp: giveUp, open: map[*guard]struct{}{}, byClient: map[netip.Addr]int{},
	}, nil
}

// Serve answers connections until Stop. It takes the listener over.
func (s *SMTPServer) Serve(lis net.Listener) error {
	s.mu.Lock()
	s.lis = lis
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		return lis.Close()
	}
	for {
		conn, err := lis.Accept()
		if err != nil {
			if s.isStopping() {
				return nil
			}
			if temporary, ok := errors.AsType[net.Error](err); ok && temporary.Timeout() || isShortage(err) {
				s.log.Warn("accept an SMTP connection", "error", err)
				<-time.After(acceptRetry)
				continue
			}
			return fmt.Errorf("serve SMTP on %s: %w", lis.Addr(), err)
		}
		s.accept(conn)
	}
}

func (s *SMTPServer) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// accept handles a connection, or says that there are too many.
func (s *SMTPServer) accept(conn net.Conn) {
	client := clientOf(conn)
	g := newGuard(conn, &s.cfg)
	s.mu.Lock()
	full := len(s.open) >= s.cfg.MaxConnections || s.byClient[client] >= s.cfg.MaxClientConnections && !s.intake.relayed(client)
	if !full && !s.stopping {
		s.open[g] = struct{}{}
		s.byClient[client]++
		s.running.Add(1)
		s.mu.Unlock()
		s.intake.metrics.connections.Inc()
		go s.handle(g, client)
		return
	}
	s.mu.Unlock()
	if full {
		s.intake.metrics.refused.WithLabelValues("connections").Inc()
	}
	// Nobody to tell where that fails.
	_ = conn.SetDeadline(time.Now().Add(refuseTimeout))
	_, _ = conn.Write([]byte("421 4.3.2 " + s.intake.cfg.Hostname + " Too many connections, try again later\r\n"))
	_ = conn.Close()
}

// handle serves one connection. Each has a library's server of its own: its
// bounds differ between a command and a mail, and it tells when all is over.
func (s *SMTPServer) handle(g *guard, client netip.Addr) {
	defer s.running.Done()
	defer func() {
		_ = g.Close() // for the second time, mostly
		s.intake.metrics.connections.Dec()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, g)
		if s.byClient[client]--; s.byClient[client] <= 0 {
			delete(s.byClient, client)
		}
	}()
	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		_, isTLS := c.TLSConnectionState()
		c.Server().MaxMessageBytes = s.intake.cfg.MaxBytes // a mail may have been begun before STARTTLS
		return &session{server: s, conn: c, guard: g, client: client, tls: isTLS}, nil
	}))
	srv.Domain = s.intake.cfg.Hostname
	srv.TLSConfig = s.cfg.TLS
	srv.EnableSMTPUTF8 = true
	srv.MaxRecipients = MaxRecipients
	srv.MaxMessageBytes = s.intake.cfg.MaxBytes
	srv.MaxLineLength = 0 // see guard
	srv.WriteTimeout = writeTimeout
	srv.ErrorLog = errorLog{s.log}
	// It ends with the second Accept; the connection goes on.
	_ = srv.Serve(&oneConn{conn: g})
	// Without a deadline: the guard ends the connection.
	_ = srv.Shutdown(context.Background())
}

// oneConn is a listener that gives one connection.
type oneConn struct {
	conn net.Conn
}

func (l *oneConn) Accept() (net.Conn, error) {
	if l.conn == nil {
		return nil, net.ErrClosed
	}
	conn := l.conn
	l.conn = nil
	return conn, nil
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// Stop takes no more connections, tells those that wait 421, and lets mails on
// their way finish until ctx is done; then it cuts them off.
func (s *SMTPServer) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	lis := s.lis
	guards := make([]*guard, 0, len(s.open))
	for g := range s.open {
		guards = append(guards, g)
	}
	s.mu.Unlock()
	var err error
	if lis != nil {
		if err = lis.Close(); errors.Is(err, net.ErrClosed) {
			err = nil
		}
	}
	for _, g := range guards {
		g.end()
	}
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.giveUp()
		for _, g := range guards {
			_ = g.Close() // cut off, as promised
		}
		select {
		case <-done:
		case <-time.After(cutOffPatience):
			err = errors.Join(err, errors.New("SMTP connections did not end"))
		}
	}
	s.giveUp()
	if err != nil {
		return fmt.Errorf("stop SMTP: %w", err)
	}
	return nil
}

// clientOf is the address of a connection's other end.
func clientOf(conn net.Conn) netip.Addr {
	addr, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap().WithZone("")
}

// errorLog is the library's log. What it reports are clients' faults, but for
// panics.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(text) > len(panicPrefix) && text[:len(panicPrefix)] == panicPrefix {
		l.log.Error("SMTP session panics", "error", text)
		return
	}
	l.log.Debug("SMTP connection", "error", text)
}

func (l errorLog) Println(args ...any) { l.log.Debug("SMTP connection", "error", fmt.Sprint(args...)) }

// panicPrefix begins what the library logs of a panic.
const panicPrefix = "panic serving"
